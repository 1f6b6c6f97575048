//! Tests that a limit of the API server on the events of a namespace does not delay other namespaces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Secret as ApiSecret};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::sealing::{KEYS, put_key, sealed_for};

/// Maximum number of events of a namespace per second. The CIS benchmark recommends a limit and specifies no number.
const EVENTS_PER_SECOND: u32 = 5;
const HOSTILE_OBJECTS: usize = 20;
const VICTIMS: usize = 9;
/// The pause of a client after a response with 429.
const PAUSE: Duration = Duration::from_secs(1);

async fn create(namespace: &Namespace<'_>, name: &str) {
    let items = [("a", "1")];
    let sealed = sealed_for(&KEYS[0], namespace.name(), name, &items, Scope::Strict);
    let sealed_secrets = namespace.api::<SealedSecret>();
    let response = sealed_secrets.create(&PostParams::default(), &sealed).await;
    response.unwrap();
}

async fn time_to_secret(namespace: &Namespace<'_>, name: &str) -> Duration {
    let start = Instant::now();
    create(namespace, name).await;
    until(&format!("{name} exists"), async || {
        namespace.api::<ApiSecret>().get_opt(name).await.unwrap()
    })
    .await;
    start.elapsed()
}

/// Changes the objects of a namespace continuously. Each change causes an event.
async fn flood(namespace: &Namespace<'_>) {
    for i in 0.. {
        let labels = json!({ "x": i.to_string() });
        let patch = json!({ "spec": { "template": { "metadata": { "labels": labels } } } });
        let patch = Patch::Merge(patch);
        let name = format!("flood-{}", i % HOSTILE_OBJECTS);
        let sealed_secrets = namespace.api::<SealedSecret>();
        let params = PatchParams::default();
        let response = sealed_secrets.patch(&name, &params, &patch).await;
        response.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Returns whether the API server rejects an event of the namespace, because the namespace exceeds the limit.
async fn is_limited(namespace: &Namespace<'_>) -> bool {
    let event = json!({
        "metadata": { "generateName": "probe-" },
        "involvedObject": { "namespace": namespace.name() },
    });
    let event: Event = serde_json::from_value(event).unwrap();
    let events = namespace.api::<Event>();
    let response = events.create(&PostParams::default(), &event).await;
    matches!(response, Err(kube::Error::Api(status)) if status.code == 429)
}

/// Attack: a tenant changes its SealedSecrets so often that the API server rejects the events of its namespace, so that
/// the controller pauses and delays the Secrets of other tenants.
///
/// A busy machine may delay some Secrets; a pause after each rejected event would delay most of them.
#[tokio::test]
async fn rejected_events_of_one_namespace_do_not_pause_writes_in_another() {
    let mut plane = ControlPlane::start().await;
    plane.limit_events(EVENTS_PER_SECOND).await;
    let own = plane.namespace("controller").await;
    let (hostile, quiet) = (
        plane.namespace("hostile").await,
        plane.namespace("quiet").await,
    );
    put_key(&own, "key-0", &KEYS[0]).await;
    let args = ["--all-namespaces=true", "--key-renew-period=0"];
    let controller = ClusterController::start_with(plane.kubeconfig(), own.name(), &args).await;
    for i in 0..HOSTILE_OBJECTS {
        create(&hostile, &format!("flood-{i}")).await;
    }
    let victims = async {
        let mut delayed = Vec::new();
        for i in 0..VICTIMS {
            until("an event of the tenant is rejected", async || {
                is_limited(&hostile).await.then_some(())
            })
            .await;
            let time = time_to_secret(&quiet, &format!("victim-{i}")).await;
            delayed.extend((time >= PAUSE).then_some(time));
        }
        delayed
    };
    let delayed = tokio::select! {
        () = flood(&hostile) => panic!("the flood never ends"),
        delayed = victims => delayed,
    };
    assert!(
        delayed.len() < VICTIMS / 2,
        "{delayed:?}\n{}",
        controller.log()
    );
}
