//! Measures memory in a cluster with many objects and many other Secrets.

use std::time::Instant;

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use serde_json::json;
use shared::key::KeySize;
use tests::control_plane::ControlPlane;
use tests::pod::Pod;

use crate::bench_namespace::{BenchNamespace, Implementation, Load, for_each_concurrent};
use crate::operation::new_key;
use crate::report::{print_head, print_row, time};
use crate::sizes::Sizes;

pub async fn run(sizes: Sizes) {
    let objects = sizes.size("objects", 200, 10_000);
    let items = sizes.size("items", 5, 5);
    let other_secrets = sizes.size("others", 1000, 50_000);
    let bytes = sizes.size("bytes", 4096, 4096);
    let bits = sizes.size("bits", 4096, 4096);
    let size = if bits == 2048 {
        KeySize::Rsa2048
    } else {
        KeySize::Rsa4096
    };
    let keys = [new_key(size)];
    let load = Load::new(&keys, objects, items);
    let plane = ControlPlane::start().await;
    print_head(&[
        "",
        "until every Secret exists",
        "memory then",
        "at most",
        "after a restart",
    ]);
    for implementation in [Implementation::Ours, Implementation::Upstream] {
        let bench = BenchNamespace::new(&plane, &keys).await;
        let value = "x".repeat(bytes);
        let put = async |i| {
            let secret = json!({ "metadata": { "name": format!("others-{i}") }, "stringData": { "a": value } });
            bench.create_object::<ApiSecret>(secret).await;
        };
        for_each_concurrent(0..other_secrets, put).await;
        bench.create_all(&load).await;
        let start = Instant::now();
        let pod = bench.run(implementation, &[]).await;
        let duration = bench.wait_for_secrets(objects + other_secrets, start).await;
        bench.wait_until_synced(start).await;
        let (now, peak) = (mebibytes(pod.memory()), mebibytes(pod.peak_memory()));
        pod.stop();
        let pod = bench.run(implementation, &[]).await;
        settle(&pod).await;
        let cells = [
            implementation.name().into(),
            time(duration),
            now,
            peak,
            mebibytes(pod.memory()),
        ];
        print_row(&cells);
        pod.stop();
    }
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}

/// Waits until the memory stays the same, in mebibytes, for five seconds.
async fn settle(pod: &Pod) {
    let (mut before, mut unchanged) = (0, 0);
    while unchanged < 5 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let now = pod.memory() >> 20;
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
}
