//! Disaster recovery: a new cluster replaces a lost one.

use std::fs;

use k8s_openapi::api::core::v1::{Namespace as ApiNamespace, Secret as ApiSecret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use shared::resource::{KEY_LABEL, SealedSecret};
use tests::control_plane::ControlPlane;
use tests::patience::until;
use tests::sealing::{KEYS, values};

use crate::site::Site;

const OBJECTS: usize = 200;

fn objects(site: &Site<'_>) -> Vec<SealedSecret> {
    let one = |i: usize| site.sealed(&KEYS[i % 3], &format!("s-{i}"));
    (0..OBJECTS).map(one).collect()
}

/// Waits until each Secret has its value.
async fn wait_for_all(site: &Site<'_>) {
    until("every object is unsealed", async || {
        let found = site.secrets().list(&ListParams::default()).await.unwrap();
        let open = found.iter().filter(|secret| {
            let name = secret.name_any();
            name.starts_with("s-") && secret.data == Some(values(&[("a", &name)]))
        });
        (open.count() == OBJECTS).then_some(())
    })
    .await;
}

/// Returns the output of `kubectl get secret -l LABEL -o yaml`, which Bitnami's documentation calls a backup.
async fn as_kubectl_prints(site: &Site<'_>) -> String {
    let labeled = ListParams::default().labels(KEY_LABEL);
    let found = site.secrets().list(&labeled).await.unwrap();
    let item = |secret: &ApiSecret| {
        let mut item = serde_json::to_value(secret).unwrap();
        item["apiVersion"] = "v1".into();
        item["kind"] = "Secret".into();
        item
    };
    let items: Vec<Value> = found.iter().map(item).collect();
    let list = json!({ "apiVersion": "v1", "items": items, "kind": "List", "metadata": { "resourceVersion": "" } });
    shared::manifest::to_yaml(&list)
}

#[tokio::test]
async fn a_new_cluster_unseals_all_objects_once_the_keys_are_restored() {
    let args = ["--key-renew-period=0"];
    let old = Site::new("drill", &KEYS[..], &args).await;
    let sealed = objects(&old);
    for object in &sealed {
        old.create(object).await;
    }
    wait_for_all(&old).await;
    let recipient = old.identity();
    old.run_ok(&[
        "keys",
        "backup",
        "keys.age",
        "-r",
        &recipient,
        "-i",
        "identity.txt",
    ]);
    let recipe = as_kubectl_prints(&old).await;

    let plane = ControlPlane::start().await;
    let namespaces: Api<ApiNamespace> = Api::all(plane.admin());
    let name = json!({ "metadata": { "name": old.namespace.name() } });
    let name: ApiNamespace = serde_json::from_value(name).unwrap();
    namespaces
        .create(&PostParams::default(), &name)
        .await
        .unwrap();
    let new = Site::start(&plane, plane.existing(old.namespace.name()), &[], &args).await;
    for (backup, more) in [
        ("keys.age", vec!["-i", "identity.txt"]),
        ("main.key", vec![]),
    ] {
        for object in &sealed {
            new.create(object).await;
        }
        until("the objects fail", async || {
            let last = new.sealed_secrets().get("s-199").await.unwrap();
            let message = last.status?.conditions.first()?.message.clone()?;
            message.contains("no key could decrypt").then_some(())
        })
        .await;
        fs::copy(old.path("keys.age"), new.path("keys.age")).unwrap();
        fs::copy(old.path("identity.txt"), new.path("identity.txt")).unwrap();
        fs::write(new.path("main.key"), &recipe).unwrap();
        let args = ["keys", "restore", backup].into_iter().chain(more);
        new.run_ok(&args.collect::<Vec<_>>());
        wait_for_all(&new).await;
        clean_up(&new).await;
    }
}

/// Deletes objects and restored keys.
async fn clean_up(site: &Site<'_>) {
    let all = ListParams::default();
    let delete = DeleteParams::default();
    site.sealed_secrets()
        .delete_collection(&delete, &all)
        .await
        .unwrap();
    for i in 0..3 {
        site.secrets()
            .delete(&format!("key-{i}"), &delete)
            .await
            .unwrap();
    }
    until("their Secrets are deleted", async || {
        let secrets = site.secrets().list(&all).await.unwrap();
        let names = secrets.iter().map(kube::ResourceExt::name_any);
        let left: Vec<String> = names.filter(|name| name.starts_with("s-")).collect();
        for name in &left {
            // Another client may have deleted it first.
            let _ = site.secrets().delete(name, &delete).await;
        }
        left.is_empty().then_some(())
    })
    .await;
    until("the controller removed the keys", async || {
        let log = site.controller.log();
        (log.matches("private key removed").count() >= 3).then_some(())
    })
    .await;
}
