//! Tests the provider as the chart installs it: controller and provider are Pods of the same image.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Namespace};
use tests::csi::{Driver, create_class, volume};
use tests::lifecycle::User;
use tests::node::{Node, NodePod};
use tests::operators::{self, run_successfully};
use tests::patience::until;
use tests::roles;
use tests::scratch::Scratch;

use super::{read, reader};
use crate::image;

const CONTROLLER_NAMESPACE: &str = "kube-system";
const NAME: &str = "sealed-secrets-controller";

/// The chart values from the documentation, and the directory for providers of this node.
const VALUES: &[&str] = &[
    "fullnameOverride=sealed-secrets-controller",
    "csi.enabled=true",
    "csi.providersDir=/node/settings/providers",
    "authorizedEndpoints.enabled=true",
    "certificateConfigMap.enabled=true",
];

#[tokio::test]
async fn the_chart_runs_a_provider_that_has_no_token_and_no_privilege() {
    let plane = ControlPlane::start().await;
    let node = Node::start(&plane).await;
    let _driver = Driver::start(&plane, &node).await;
    image::import(&node);
    let kube_system = plane.kube_system();
    let (mut provider, others): (Vec<Value>, Vec<Value>) = render_chart()
        .into_iter()
        .partition(|object| object["kind"] == "DaemonSet");
    apply(&plane, &others);
    let controller = wait_for_pod(&kube_system, "app.kubernetes.io/name=sealed-secrets").await;
    let address = controller
        .wait_until_ready()
        .await
        .status
        .and_then(|status| status.pod_ip);
    // The nodes of the tests have no DNS.
    let host =
        json!({ "ip": address, "hostnames": [format!("{NAME}.{CONTROLLER_NAMESPACE}.svc")] });
    provider[0]["spec"]["template"]["spec"]["hostAliases"] = json!([host]);
    apply(&plane, &provider);
    let provider = wait_for_pod(&kube_system, "app.kubernetes.io/name=sealed-secrets-csi").await;
    let running = provider.wait_until_ready().await;
    assert_has_no_token(&running);

    let user = User::new(&plane, CONTROLLER_NAMESPACE, NAME).await;
    user.apply("db", "hunter2").await;
    roles::create_caller(&user.namespace, "web", &["unseal"]).await;
    create_class(&user.namespace, "web", "sealed", "- sealedSecret: db").await;
    let pod = NodePod::create(&user.namespace, reader(&volume("web", &json!({})), "web")).await;
    pod.wait_until_ready().await;
    assert_eq!(read(&pod, "a").await, "hunter2");
    let secrets: Api<Secret> = user.namespace.api();
    assert!(
        secrets.get_opt("db").await.unwrap().is_some(),
        "without the annotation"
    );
    let log = provider.log("csi").await;
    assert!(!log.contains("hunter2"), "{log}");
}

/// Renders the chart for the cluster of the tests.
fn render_chart() -> Vec<Value> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/sealed-secrets");
    let mut helm = Command::new(operators::helm());
    helm.args(["template", "release", "--namespace", CONTROLLER_NAMESPACE])
        .arg(chart);
    for value in VALUES {
        helm.args(["--set", value]);
    }
    operators::objects(&run_successfully(&mut helm))
}

fn apply(plane: &ControlPlane, objects: &[Value]) {
    let directory = Scratch::new();
    let file = directory.path().join("objects.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    std::fs::write(&file, list.to_string()).unwrap();
    let mut kubectl = Command::new(operators::kubectl());
    kubectl
        .env("KUBECONFIG", plane.kubeconfig())
        .args(["apply", "--server-side", "--force-conflicts", "-f"])
        .arg(file);
    run_successfully(&mut kubectl);
}

/// Waits until there is a Pod with this label.
async fn wait_for_pod(namespace: &Namespace<'_>, label: &str) -> NodePod {
    let pods: Api<Pod> = namespace.api();
    let name = until("the Pod exists", async || {
        let pods = pods.list(&ListParams::default().labels(label)).await.ok()?;
        Some(pods.items.first()?.name_any())
    });
    NodePod::existing(namespace, &name.await)
}

/// Checks that the Pod of the provider has no token and no privilege, with which an attacker who takes over the
/// provider could reach more than the values of its node.
fn assert_has_no_token(pod: &Pod) {
    let spec = pod.spec.as_ref().unwrap();
    let volumes: Vec<_> = spec
        .volumes
        .iter()
        .flatten()
        .map(|volume| &*volume.name)
        .collect();
    assert_eq!(volumes, ["provider", "ca"]);
    let security = spec.containers[0].security_context.as_ref().unwrap();
    assert_eq!(security.privileged, None);
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    let dropped = security
        .capabilities
        .as_ref()
        .and_then(|all| all.drop.clone());
    assert_eq!(dropped, Some(vec!["ALL".to_owned()]));
    assert!(spec.host_network.is_none() && spec.host_pid.is_none());
}
