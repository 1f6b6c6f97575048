//! Measures a key ring of many keys, with objects spread over all of them.

use std::time::Instant;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use shared::hints;
use shared::key::{KeySize, NewKey};
use shared::resource::SealedSecret;
use tests::control_plane::ControlPlane;

use crate::bench_namespace::{BenchNamespace, Implementation, Load, for_each_concurrent, metric};
use crate::operation::new_key;
use crate::report::{print_head, print_row, time};
use crate::sizes::Sizes;

pub async fn run(sizes: Sizes) {
    let key_count = sizes.size("keys", 10, 60);
    let objects = sizes.size("objects", 40, 600);
    let items = sizes.size("items", 3, 3);
    let keys: Vec<NewKey> = (0..key_count).map(|_| new_key(KeySize::Rsa2048)).collect();
    let load_without_hints = Load::new(&keys, objects, items);
    let load_with_hints = Load {
        objects: load_without_hints
            .objects
            .iter()
            .enumerate()
            .map(|(i, object)| with_hints(object, &keys[i % key_count]))
            .collect(),
    };
    let item_count = (objects * items) as f64;
    let plane = ControlPlane::start().await;
    print_head(&[
        "",
        "until every Secret exists",
        "private-key operations per item",
    ]);
    for (name, load) in [
        ("this project, with hints", &load_with_hints),
        ("this project, without", &load_without_hints),
    ] {
        let bench = BenchNamespace::new(&plane, &keys).await;
        bench.create_all(load).await;
        let start = Instant::now();
        let pod = bench.run(Implementation::Ours, &[]).await;
        let duration = bench.wait_for_secrets(objects, start).await;
        bench.wait_until_synced(start).await;
        let operations = metric(&pod, "private_key_operations_total").await;
        print_row(&[
            name.into(),
            time(duration),
            format!("{:.2}", operations / item_count),
        ]);
        // A new version of each object, sealed for the same key.
        let api: Api<SealedSecret> = bench.api();
        let start = Instant::now();
        let replace_values = async |i: usize| {
            let name = load.objects[i].metadata.name.as_deref().unwrap();
            let items = &load.objects[(i + key_count) % objects].spec.encrypted_data;
            let is_multiple = objects.is_multiple_of(key_count);
            assert!(is_multiple, "objects must be a multiple of keys");
            let patch = Patch::Merge(json!({ "spec": { "encryptedData": items } }));
            api.patch(name, &PatchParams::default(), &patch)
                .await
                .unwrap();
        };
        for_each_concurrent(0..objects, replace_values).await;
        let is_done = async || {
            let sealed_secrets = api.list(&kube::api::ListParams::default()).await.unwrap();
            let is_current = |object: &SealedSecret| {
                let status = object.status.as_ref();
                status.and_then(|status| status.observed_generation) == object.metadata.generation
            };
            sealed_secrets.iter().all(is_current)
        };
        while !is_done().await {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        let more_operations = metric(&pod, "private_key_operations_total").await - operations;
        print_row(&[
            format!("{name}, next version"),
            time(start.elapsed()),
            format!("{:.2}", more_operations / item_count),
        ]);
        pod.stop();
    }
    let bench = BenchNamespace::new(&plane, &keys).await;
    bench.create_all(&load_without_hints).await;
    let start = Instant::now();
    let pod = bench.run(Implementation::Upstream, &[]).await;
    let duration = bench.wait_for_secrets(objects, start).await;
    print_row(&[
        Implementation::Upstream.name().into(),
        time(duration),
        "not reported".into(),
    ]);
    pod.stop();
}

fn with_hints(object: &SealedSecret, key: &NewKey) -> SealedSecret {
    let mut object = object.clone();
    let fingerprint = key.pair.fingerprint();
    let items = object.spec.encrypted_data.keys();
    let hints = items
        .map(|item| (item.clone(), fingerprint.clone()))
        .collect();
    hints::annotate(object.metadata.annotations.get_or_insert_default(), &hints);
    object
}
