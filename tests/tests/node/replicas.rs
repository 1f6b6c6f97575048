//! Tests two replicas of the controller on two nodes.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use tests::control_plane::{ControlPlane, Namespace};
use tests::lifecycle::User;
use tests::node::Node;
use tests::patience::until;

use crate::image::{self, NAME};

/// Fault: the machine on which the leader runs loses power.
#[tokio::test]
async fn a_standby_takes_over_when_the_node_of_the_leader_stops() {
    let plane = ControlPlane::start().await;
    let mut nodes = start_nodes(&plane).await;
    image::install(&plane, spread);
    let kube_system = plane.kube_system();
    wait_for_replicas(&kube_system).await;
    let user = User::new(&plane, kube_system.name(), NAME).await;
    user.apply("value", "1").await;
    user.wait_for_value("value", "1", "").await;
    // Seal before the node stops, because the Service routes to both replicas for a while afterwards.
    let changed = user.seal("value", "2").await;

    let leader = leader(&kube_system).await;
    let node = node_of(&kube_system, &leader).await;
    drop(nodes.remove(&node).expect("the node is one of the two"));
    let start = Instant::now();
    replace(&user, &changed).await;
    user.wait_for_value("value", "2", "").await;
    eprintln!("the Secret had its new value after {:.1?}", start.elapsed());
    assert_ne!(self::leader(&kube_system).await, leader);
}

/// Starts two nodes with the image of the controller; returns them by name.
async fn start_nodes(plane: &ControlPlane) -> BTreeMap<String, Node> {
    let (first, second) = tokio::join!(Node::start(plane), Node::start(plane));
    let nodes = [first, second];
    nodes.iter().for_each(image::import);
    BTreeMap::from(nodes.map(|node| (node.name(), node)))
}

async fn replace(user: &User<'_>, sealed: &Value) {
    let api: Api<SealedSecret> = user.namespace.api();
    let apply = PatchParams::apply("user").force();
    let result = api.patch("value", &apply, &Patch::Apply(sealed)).await;
    result.expect("the API server accepts the object");
}

/// Makes a Deployment run two replicas on different nodes.
fn spread(deployment: &mut Value) {
    let labels = json!({ "matchLabels": { "name": NAME } });
    let term = json!({ "labelSelector": labels, "topologyKey": "kubernetes.io/hostname" });
    let rule = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
    deployment["spec"]["replicas"] = json!(2);
    deployment["spec"]["template"]["spec"]["affinity"] = json!({ "podAntiAffinity": rule });
}

async fn wait_for_replicas(namespace: &Namespace<'_>) {
    let deployments: Api<Deployment> = namespace.api();
    until("both replicas are ready", async || {
        let status = deployments.get(NAME).await.ok()?.status?;
        (status.ready_replicas == Some(2)).then_some(())
    })
    .await;
}

async fn pods(namespace: &Namespace<'_>) -> Vec<Pod> {
    let of_controller = ListParams::default().labels(&format!("name={NAME}"));
    let pods: Api<Pod> = namespace.api();
    pods.list(&of_controller)
        .await
        .expect("an admin may list")
        .items
}

/// Returns the identity of the leader, which ends with the uid of its Pod.
async fn leader(namespace: &Namespace<'_>) -> String {
    let lease: Lease = namespace
        .api()
        .get(NAME)
        .await
        .expect("a replica created the Lease");
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    holder.expect("a replica leads")
}

async fn node_of(namespace: &Namespace<'_>, leader: &str) -> String {
    let pods = pods(namespace).await;
    let is_leader = |pod: &&Pod| pod.uid().is_some_and(|uid| leader.ends_with(&uid));
    let pod = pods
        .iter()
        .find(is_leader)
        .unwrap_or_else(|| panic!("no Pod has the identity {leader}"));
    pod.spec
        .clone()
        .and_then(|spec| spec.node_name)
        .expect("the Pod runs")
}
