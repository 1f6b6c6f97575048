//! Measures how long a controller takes to start with many additional namespaces.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret as ApiSecret};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use shared::key::KeySize;
use shared::resource::SealedSecret;
use tests::control_plane::ControlPlane;
use tests::pod::Pod;

use crate::bench_namespace::{BenchNamespace, Implementation, Load, for_each_concurrent};
use crate::operation::new_key;
use crate::report::{print_head, print_row, ratio, time};
use crate::sizes::Sizes;

/// The maximum number of starts. Bitnami's controller may crash at a start with many namespaces, because it writes a
/// map from many threads.
const ATTEMPTS: usize = 5;

pub async fn run(sizes: Sizes) {
    let namespace_count = sizes.size("namespaces", 50, 1000);
    let keys = [new_key(KeySize::Rsa2048)];
    let load = Load::new(&keys, 1, 1);
    let plane = ControlPlane::start().await;
    let names: Vec<String> = (0..namespace_count)
        .map(|i| format!("additional-{i}"))
        .collect();
    let client = plane.admin();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let create = async |name: &String| {
        let namespace = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    };
    for_each_concurrent(names.iter(), create).await;
    print_head(&[
        "from the start to a Secret in",
        "the first namespace",
        "the last",
        "relative to this project",
    ]);
    let mut own_duration = Duration::ZERO;
    for (i, implementation) in [Implementation::Ours, Implementation::Upstream]
        .into_iter()
        .enumerate()
    {
        let bench = BenchNamespace::with_cluster_permissions(&plane, &keys).await;
        let mut object = load.objects[0].clone();
        object.metadata.name = Some(format!("s-{i}"));
        let ends = [&names[0], &names[namespace_count - 1]];
        for name in ends {
            object.metadata.namespace = Some(name.clone());
            let api: Api<SealedSecret> = Api::namespaced(client.clone(), name);
            api.create(&PostParams::default(), &object).await.unwrap();
        }
        let namespaces_arg = format!("--additional-namespaces={}", names.join(","));
        let Some((start, pod)) = start_controller(&bench, implementation, &namespaces_arg).await
        else {
            print_row(&[
                implementation.name().into(),
                "ended".into(),
                format!("at each of {ATTEMPTS} starts"),
                String::new(),
            ]);
            continue;
        };
        let mut durations = Vec::new();
        for name in ends {
            let api: Api<ApiSecret> = Api::namespaced(client.clone(), name);
            let secret = format!("s-{i}");
            while api.get_metadata_opt(&secret).await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            durations.push(start.elapsed());
        }
        if implementation == Implementation::Ours {
            own_duration = durations[1];
        }
        print_row(&[
            implementation.name().into(),
            time(durations[0]),
            time(durations[1]),
            ratio(durations[1], own_duration),
        ]);
        pod.stop();
    }
}

/// Starts a controller and waits until it serves; returns the start time and the Pod, or `None` if every attempt fails.
async fn start_controller(
    bench: &BenchNamespace<'_>,
    implementation: Implementation,
    namespaces: &str,
) -> Option<(Instant, Pod)> {
    for _ in 0..ATTEMPTS {
        let start = Instant::now();
        let args = [namespaces];
        let attempt = AssertUnwindSafe(bench.run(implementation, &args));
        if let Ok(pod) = attempt.catch_unwind().await {
            return Some((start, pod));
        }
    }
    None
}
