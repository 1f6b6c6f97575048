//! Tests the namespaces in which the controller works.

use k8s_openapi::api::core::v1::{Namespace as ApiNamespace, Secret as ApiSecret};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::binaries;
use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::patience::until;
use tests::pod::Pod;
use tests::roles::{self, ACCOUNT, Reach};

use tests::sealing::{KEYS, put_key, sealed_for, values};

#[tokio::test]
async fn c14_an_additional_namespace_is_picked_up_when_it_appears() {
    let plane = ControlPlane::shared().await;
    let home = plane.namespace("home").await;
    let (additional, later) = (
        plane.namespace("there").await,
        format!("{}-later", home.name()),
    );
    roles::grant(&home, Reach::Namespace).await;
    roles::grant_also(&home, &additional).await;
    put_key(&home, "key-0", &KEYS[0]).await;
    let args = format!("--additional-namespaces= {} , {later}", additional.name());
    let controller = ClusterController::start(plane, &home, &[&args]).await;
    assert_unseals(plane, additional.name(), &controller).await;
    assert_unseals(plane, home.name(), &controller).await;

    let namespace: ApiNamespace =
        serde_json::from_value(json!({ "metadata": { "name": later } })).unwrap();
    Api::<ApiNamespace>::all(plane.admin())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    roles::grant_also(&home, &plane.existing(&later)).await;
    assert_unseals(plane, &later, &controller).await;
    assert_eq!(controller.stop(), Some(0));
}

/// Seals an object in this namespace, and waits until it is unsealed.
async fn assert_unseals(plane: &ControlPlane, namespace: &str, controller: &ClusterController) {
    let sealed = sealed_for(&KEYS[0], namespace, "db", &[("a", "1")], Scope::Strict);
    create(plane, namespace, &sealed).await;
    let secrets: Api<ApiSecret> = Api::namespaced(plane.admin(), namespace);
    until(
        &format!(
            "the object in {namespace} is unsealed\n{}",
            controller.log()
        ),
        async || {
            let secret = secrets.get_opt("db").await.unwrap()?;
            (secret.data? == values(&[("a", "1")])).then_some(())
        },
    )
    .await;
}

async fn create(plane: &ControlPlane, namespace: &str, sealed: &SealedSecret) {
    Api::<SealedSecret>::namespaced(plane.admin(), namespace)
        .create(&PostParams::default(), sealed)
        .await
        .unwrap();
}

#[tokio::test]
async fn works_in_all_namespaces_with_bitnamis_cluster_role() {
    let plane = ControlPlane::shared().await;
    let (home, tenant) = (plane.namespace("hub").await, plane.namespace("far").await);
    roles::grant(&home, Reach::Cluster).await;
    put_key(&home, "key-0", &KEYS[0]).await;
    // Other tests share this cluster, so the controller reconciles only objects with this label.
    let selector = format!("of={}", home.name());
    let args = ["--all-namespaces=true", "--label-selector", &selector];
    let controller = ClusterController::start(plane, &home, &args).await;
    let mut sealed = sealed_for(&KEYS[0], tenant.name(), "db", &[("a", "1")], Scope::Strict);
    sealed.metadata.labels = Some([("of".to_owned(), home.name().to_owned())].into());
    create(plane, tenant.name(), &sealed).await;
    let secrets = tenant.api::<ApiSecret>();
    let has_value = async || {
        let secret = secrets.get_opt("db").await.unwrap()?;
        (secret.data? == values(&[("a", "1")])).then_some(())
    };
    until("the Secret exists", has_value).await;
    secrets
        .delete("db", &DeleteParams::default())
        .await
        .unwrap();
    until("the Secret is recreated", has_value).await;
    assert_eq!(controller.stop(), Some(0));
}

/// As in Bitnami's controller, `POD_NAMESPACE` is sufficient if the service account's files lack the namespace.
#[tokio::test]
async fn pod_namespace_suffices_without_the_namespace_file() {
    let plane = ControlPlane::shared().await;
    let home = plane.namespace("no-file").await;
    roles::grant(&home, Reach::Namespace).await;
    put_key(&home, "key-0", &KEYS[0]).await;
    let args = [
        "--listen-addr=127.0.0.1:0",
        "--listen-metrics-addr=127.0.0.1:0",
        "--all-namespaces=false",
        "--key-renew-period=0",
    ];
    let variables = [("POD_NAMESPACE".to_owned(), home.name().to_owned())];
    let program = binaries::controller();
    let pod =
        Pod::start_without_namespace_file(plane, &home, ACCOUNT, &program, &args, &variables).await;
    let sealed = sealed_for(&KEYS[0], home.name(), "db", &[("a", "1")], Scope::Strict);
    let api = home.api::<SealedSecret>();
    api.create(&PostParams::default(), &sealed).await.unwrap();
    until(&format!("the Secret exists\n{}", pod.log()), async || {
        home.api::<ApiSecret>().get_opt("db").await.unwrap()
    })
    .await;
}
