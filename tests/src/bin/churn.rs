//! Creates, changes and deletes SealedSecrets for a time, and samples the controller's memory. Fails if the peak in the
//! last third of the time exceeds that in the first by more than a tenth.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a check prints its results, and fails by panicking"
)]

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::{ControlPlane, Namespace};
use tests::roles::{self, ACCOUNT, Reach};
use tests::sealing::{KEYS, put_key, sealed_for};

/// The maximum number of objects that exist at a time.
const OBJECTS: u32 = 200;
const PARALLEL: usize = 8;
const MEASUREMENT_INTERVAL: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(600, |seconds| {
        seconds
            .parse()
            .unwrap_or_else(|_| panic!("usage: churn [SECONDS]"))
    });
    let plane = ControlPlane::start().await;
    let namespace = plane.namespace("churn").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
    let controller = ClusterController::start_quietly(&kubeconfig, namespace.name(), &[]).await;
    let memory = churn(&namespace, &controller, Duration::from_secs(seconds)).await;
    assert_eq!(controller.stop(), Some(0));
    let third = memory.len() / 3;
    let peak = |part: &[usize]| part.iter().max().copied().unwrap_or_default();
    let (first, last) = (
        peak(&memory[..third]),
        peak(&memory[memory.len() - third..]),
    );
    println!(
        "at most {} KiB in the first third, {} KiB in the last",
        first / 1024,
        last / 1024
    );
    assert!(
        last <= first + first / 10,
        "the controller's memory keeps growing"
    );
}

/// Creates, changes and deletes objects for `time`. Returns samples of the controller's memory, in bytes.
async fn churn(
    namespace: &Namespace<'_>,
    controller: &ClusterController,
    time: Duration,
) -> Vec<usize> {
    let (start, mut last_measured, mut memory) = (Instant::now(), Instant::now(), Vec::new());
    let mut round = 0_u32;
    while start.elapsed() < time {
        let steps = (0..OBJECTS).map(|i| take_step(namespace, i, round));
        stream::iter(steps)
            .buffer_unordered(PARALLEL)
            .collect::<Vec<_>>()
            .await;
        round += 1;
        if last_measured.elapsed() >= MEASUREMENT_INTERVAL {
            last_measured = Instant::now();
            memory.push(controller.memory());
            let kibibytes = controller.memory() / 1024;
            println!(
                "{:4} s: {} changes, {kibibytes} KiB",
                start.elapsed().as_secs(),
                round * OBJECTS
            );
        }
    }
    memory
}

/// Takes the next step for an object: creates it, changes it so that it cannot be unsealed, or deletes it.
async fn take_step(namespace: &Namespace<'_>, i: u32, round: u32) {
    let api: Api<SealedSecret> = namespace.api();
    let life = (round + i) / 3;
    let name = format!("s-{i}-{life}");
    match (round + i) % 3 {
        0 => {
            let items = [("a", name.as_str())];
            let sealed = sealed_for(&KEYS[0], namespace.name(), &name, &items, Scope::Strict);
            api.create(&PostParams::default(), &sealed).await.unwrap();
        }
        // In the first rounds, some objects begin with a later step, and the request fails.
        1 => {
            let patch = Patch::Merge(json!({ "spec": { "encryptedData": { "a": "AAAA" } } }));
            let _ = api.patch(&name, &PatchParams::default(), &patch).await;
        }
        _ => {
            let _ = api.delete(&name, &DeleteParams::default()).await;
        }
    }
}
