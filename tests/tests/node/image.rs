//! Tests the controller in its image, as the manifests install it.
//!
//! `SEALED_SECRETS_IMAGE` names an archive that `deploy/scripts/image.sh` wrote. Without it, the tests pack a similar
//! image from the programs that they build, which is faster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::{Namespace as ApiNamespace, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Namespace};
use tests::lifecycle::User;
use tests::node::{BUSYBOX, Node, NodePod, container_status, image};
use tests::operators::{self, run_successfully};
use tests::patience::{until, within_limit};
use tests::scratch::Scratch;

const CONTROLLER_NAMESPACE: &str = "kube-system";
pub(crate) const NAME: &str = "sealed-secrets-controller";

/// The default of `terminationGracePeriodSeconds`.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_image_works_under_the_restricted_standard_and_survives_a_kill() {
    let plane = ControlPlane::start().await;
    let node = Node::start(&plane).await;
    import(&node);
    let kube_system = plane.kube_system();
    restrict(&kube_system).await;
    install(&plane, |_| {});
    let pod = only_pod(&kube_system).await;
    let ready = pod.wait_until_ready().await;
    let user = User::new(&plane, CONTROLLER_NAMESPACE, NAME).await;
    user.apply("before", "1").await;
    user.wait_for_value("before", "1", &pod.log(NAME).await)
        .await;

    let id = container_status(&ready, NAME).and_then(|status| status.container_id.clone());
    node.kill(&id.expect("the container runs"));
    pod.wait_until("runs again", |pod| {
        let status = container_status(pod, NAME)?;
        (status.restart_count == 1 && status.ready).then_some(())
    })
    .await;
    user.apply("after", "1").await;
    user.wait_for_value("after", "1", &pod.log(NAME).await)
        .await;

    let start = Instant::now();
    assert_eq!(exit_code_after_deletion(&kube_system, &pod).await, Some(0));
    let duration = start.elapsed();
    eprintln!("the container ended after {duration:.1?}");
    assert!(duration < GRACE_PERIOD / 2, "{duration:?}");
}

/// Imports the image of the controller into a node.
pub(crate) fn import(node: &Node) {
    if let Some(archive) = env::var_os("SEALED_SECRETS_IMAGE") {
        return node.import(&PathBuf::from(archive));
    }
    let directory = Scratch::new();
    let archive = directory.path().join("image.tar");
    image::pack_programs(&archive);
    node.import(&archive);
}

/// Installs the manifests after an edit of their Deployment.
pub(crate) fn install(plane: &ControlPlane, edit: impl Fn(&mut Value)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests/controller.yaml");
    let mut objects = operators::objects(&fs::read_to_string(path).unwrap());
    let is_deployment = |object: &&mut Value| object["kind"] == "Deployment";
    objects.iter_mut().filter(is_deployment).for_each(edit);
    let directory = Scratch::new();
    let file = directory.path().join("objects.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    fs::write(&file, list.to_string()).unwrap();
    let mut kubectl = Command::new(operators::kubectl());
    kubectl
        .env("KUBECONFIG", plane.kubeconfig())
        .args(["apply", "--server-side", "--force-conflicts", "-f"])
        .arg(file);
    run_successfully(&mut kubectl);
}

/// Enforces the restricted Pod Security Standard in a namespace, and waits until it is enforced.
async fn restrict(namespace: &Namespace<'_>) {
    let namespaces: Api<ApiNamespace> = Api::all(namespace.client());
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    let params = PatchParams::default();
    let result = namespaces.patch(namespace.name(), &params, &patch).await;
    result.expect("the namespace exists");
    let refused = until("Pods of root are refused", async || {
        create_as_root(namespace).await.err()
    });
    let reason = refused.await.to_string();
    assert!(reason.contains("restricted"), "{reason}");
}

async fn create_as_root(namespace: &Namespace<'_>) -> Result<(), kube::Error> {
    let spec = json!({ "containers": [{ "name": "main", "image": BUSYBOX }] });
    let pod = json!({ "metadata": { "generateName": "root-" }, "spec": spec });
    let pod: Pod = serde_json::from_value(pod).expect("a Pod");
    let pods: Api<Pod> = namespace.api();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods.create(&dry_run, &pod).await.map(drop)
}

/// Waits until the Deployment has a Pod, and returns it.
async fn only_pod(namespace: &Namespace<'_>) -> NodePod {
    let pods: Api<Pod> = namespace.api();
    let of_controller = ListParams::default().labels(&format!("name={NAME}"));
    let name = until("the Deployment has a Pod", async || {
        let pods = pods.list(&of_controller).await.ok()?;
        Some(pods.items.first()?.name_any())
    });
    NodePod::existing(namespace, &name.await)
}

/// Deletes a Pod, and returns the exit code of its container.
async fn exit_code_after_deletion(namespace: &Namespace<'_>, pod: &NodePod) -> Option<i32> {
    let only = watcher::Config::default().fields(&format!("metadata.name={}", pod.name()));
    let events = watcher::watcher(namespace.api::<Pod>(), only);
    pin_mut!(events);
    let initial = async { while !matches!(events.next().await, Some(Ok(Event::InitDone))) {} };
    within_limit("the watch begins", initial).await;
    pod.delete().await;
    let mut exit_code = None;
    let deletion = async {
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                    let status = container_status(&pod, NAME);
                    let end = status.and_then(|status| status.state.clone()?.terminated);
                    exit_code = end.map(|end| end.exit_code).or(exit_code);
                }
                Ok(Event::Delete(_)) => return,
                _ => {}
            }
        }
    };
    within_limit("the Pod is deleted", deletion).await;
    exit_code
}
