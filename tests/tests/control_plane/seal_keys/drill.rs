//! Tests disaster recovery: a new cluster replaces a lost one.

use std::fs;

use k8s_openapi::api::core::v1::{Namespace as ApiNamespace, Secret as ApiSecret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use shared::resource::{KEY_LABEL, SealedSecret};
use tests::control_plane::ControlPlane;
use tests::patience::until;
use tests::sealing::{KEYS, values};

use super::site::Site;

const OBJECTS: usize = 200;

fn objects(site: &Site<'_>) -> Vec<SealedSecret> {
    let object = |i: usize| site.sealed_secret(&KEYS[i % 3], &format!("s-{i}"));
    (0..OBJECTS).map(object).collect()
}

/// Waits until each Secret has its value.
async fn wait_until_all_unsealed(site: &Site<'_>) {
    until("every object is unsealed", async || {
        let secrets = site.secrets().list(&ListParams::default()).await.unwrap();
        let unsealed = secrets.iter().filter(|secret| {
            let name = secret.name_any();
            name.starts_with("s-") && secret.data == Some(values(&[("a", &name)]))
        });
        (unsealed.count() == OBJECTS).then_some(())
    })
    .await;
}

/// Returns the keys as `kubectl get secret -l LABEL -o yaml` prints them, which Bitnami's documentation calls a backup.
async fn kubectl_backup(site: &Site<'_>) -> String {
    let labeled = ListParams::default().labels(KEY_LABEL);
    let secrets = site.secrets().list(&labeled).await.unwrap();
    let item = |secret: &ApiSecret| {
        let mut item = serde_json::to_value(secret).unwrap();
        item["apiVersion"] = "v1".into();
        item["kind"] = "Secret".into();
        item
    };
    let items: Vec<Value> = secrets.iter().map(item).collect();
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
    wait_until_all_unsealed(&old).await;
    let recipient = old.create_identity();
    old.run_successfully(&[
        "keys",
        "backup",
        "keys.age",
        "-r",
        &recipient,
        "-i",
        "identity.txt",
    ]);
    let backup_text = kubectl_backup(&old).await;

    let plane = ControlPlane::start().await;
    let namespaces: Api<ApiNamespace> = Api::all(plane.admin());
    let name = json!({ "metadata": { "name": old.namespace.name() } });
    let name: ApiNamespace = serde_json::from_value(name).unwrap();
    namespaces
        .create(&PostParams::default(), &name)
        .await
        .unwrap();
    let new = Site::start(&plane, plane.existing(old.namespace.name()), &[], &args).await;
    for (backup, extra_args) in [
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
        fs::write(new.path("main.key"), &backup_text).unwrap();
        let args = ["keys", "restore", backup].into_iter().chain(extra_args);
        new.run_successfully(&args.collect::<Vec<_>>());
        wait_until_all_unsealed(&new).await;
        clean_up(&new).await;
    }
}

/// Deletes the objects and the restored keys.
async fn clean_up(site: &Site<'_>) {
    let params = ListParams::default();
    let delete = DeleteParams::default();
    site.sealed_secrets()
        .delete_collection(&delete, &params)
        .await
        .unwrap();
    for i in 0..3 {
        site.secrets()
            .delete(&format!("key-{i}"), &delete)
            .await
            .unwrap();
    }
    until("the Secrets are deleted", async || {
        let secrets = site.secrets().list(&params).await.unwrap();
        let names = secrets.iter().map(kube::ResourceExt::name_any);
        let remaining: Vec<String> = names.filter(|name| name.starts_with("s-")).collect();
        for name in &remaining {
            // The garbage collector may have deleted the Secret first.
            let _ = site.secrets().delete(name, &delete).await;
        }
        remaining.is_empty().then_some(())
    })
    .await;
    until("the controller removed the keys", async || {
        let log = site.controller.log();
        (log.matches("private key removed").count() >= 3).then_some(())
    })
    .await;
}
