//! Tests two replicas of the controller on two nodes.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tests::control_plane::{ControlPlane, Namespace};
use tests::lifecycle::User;
use tests::node::Node;
use tests::patience::until;

use crate::image::{self, NAME};

/// Fault: the machine on which the leader runs loses power.
#[tokio::test]
async fn a_standby_takes_over_when_the_node_of_the_leader_stops() {
    let plane = ControlPlane::start().await;
    let (first, second) = tokio::join!(Node::start(&plane), Node::start(&plane));
    let mut nodes = BTreeMap::from([first, second].map(|node| (node.name(), node)));
    nodes.values().for_each(image::import);
    image::install(&plane);
    let home = plane.kube_system();
    spread(&home).await;
    let replicas = replicas(&home).await;
    assert_eq!(replicas.len(), 2, "on different nodes: {replicas:?}");
    let user = User::new(&plane, home.name(), NAME).await;
    user.apply("before", "1").await;
    user.wait_for_value("before", "1", "").await;
    let changed = user.seal("before", "2").await;

    let leader = leader(&home).await;
    let node = node_of(&home, &leader).await;
    drop(nodes.remove(&node));
    let start = Instant::now();
    let sealed: Api<shared::resource::SealedSecret> = user.namespace.api();
    let apply = PatchParams::apply("user").force();
    sealed
        .patch("before", &apply, &Patch::Apply(&changed))
        .await
        .expect("a valid object");
    user.wait_for_value("before", "2", "").await;
    eprintln!("the Secret had its new value after {:.1?}", start.elapsed());
    assert_ne!(self::leader(&home).await, leader);
}

/// Makes the Deployment run two replicas on different nodes.
async fn spread(home: &Namespace<'_>) {
    let labels = json!({ "matchLabels": { "name": NAME } });
    let term = json!({ "labelSelector": labels, "topologyKey": "kubernetes.io/hostname" });
    let affinity =
        json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    let strategy = json!({ "type": "Recreate", "rollingUpdate": null });
    let spec = json!({ "replicas": 2, "strategy": strategy, "template": { "spec": { "affinity": affinity } } });
    let deployments: Api<Deployment> = home.api();
    let patch = Patch::Merge(json!({ "spec": spec }));
    let result = deployments
        .patch(NAME, &PatchParams::default(), &patch)
        .await;
    result.expect("the Deployment exists");
}

/// Waits until both replicas are ready; returns their nodes and names.
async fn replicas(home: &Namespace<'_>) -> BTreeMap<String, String> {
    let deployments: Api<Deployment> = home.api();
    until("both replicas are ready", async || {
        let deployment = deployments.get(NAME).await.ok()?;
        let status = deployment.status?;
        let is_complete = status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == Some(2)
            && status.replicas == Some(2)
            && status.ready_replicas == Some(2);
        is_complete.then_some(())
    })
    .await;
    let pods = pods(home).await.into_iter();
    pods.map(|pod| {
        (
            pod.spec
                .clone()
                .unwrap_or_default()
                .node_name
                .unwrap_or_default(),
            pod.name_any(),
        )
    })
    .collect()
}

async fn pods(home: &Namespace<'_>) -> Vec<Pod> {
    let of_controller = ListParams::default().labels(&format!("name={NAME}"));
    let pods: Api<Pod> = home.api();
    pods.list(&of_controller)
        .await
        .expect("an admin may list")
        .items
}

/// Returns the uid of the leader's Pod, which is the end of its identity.
async fn leader(home: &Namespace<'_>) -> String {
    let lease: Lease = home
        .api()
        .get(NAME)
        .await
        .expect("a replica created the Lease");
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    holder.expect("a replica leads")
}

async fn node_of(home: &Namespace<'_>, leader: &str) -> String {
    let pods = pods(home).await;
    let is_leader = |pod: &&Pod| pod.uid().is_some_and(|uid| leader.ends_with(&uid));
    let pod = pods
        .iter()
        .find(is_leader)
        .unwrap_or_else(|| panic!("no Pod is {leader}"));
    pod.spec
        .clone()
        .and_then(|spec| spec.node_name)
        .expect("the Pod runs")
}
