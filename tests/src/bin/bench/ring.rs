//! Measures a key ring of many keys, with objects spread over all of them.

use std::time::Instant;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use shared::hints;
use shared::key::{KeySize, NewKey};
use shared::resource::SealedSecret;
use tests::control_plane::ControlPlane;

use crate::field::{Field, Implementation, Load, each, metric};
use crate::operation::new_key;
use crate::report::{head, line, time};
use crate::sizes::Sizes;

pub async fn run(sizes: Sizes) {
    let number = sizes.size("keys", 10, 60);
    let objects = sizes.size("objects", 40, 600);
    let items = sizes.size("items", 3, 3);
    let keys: Vec<NewKey> = (0..number).map(|_| new_key(KeySize::Rsa2048)).collect();
    let plain = Load::new(&keys, objects, items);
    let hinted = Load {
        objects: plain
            .objects
            .iter()
            .enumerate()
            .map(|(i, object)| with_hints(object, &keys[i % number]))
            .collect(),
    };
    let all = (objects * items) as f64;
    let plane = ControlPlane::start().await;
    head(&[
        "",
        "until every Secret exists",
        "private-key operations an item",
    ]);
    for (what, load) in [("ours, with hints", &hinted), ("ours, without", &plain)] {
        let field = Field::new(&plane, &keys).await;
        field.put(load).await;
        let start = Instant::now();
        let pod = field.run(Implementation::Ours, &[]).await;
        let took = field.wait_for_secrets(objects, start).await;
        field.wait_until_synced(start).await;
        let operations = metric(&pod, "private_key_operations_total").await;
        line(&[what.into(), time(took), format!("{:.2}", operations / all)]);
        // A new version of each object, sealed for the same key.
        let api: Api<SealedSecret> = field.api();
        let start = Instant::now();
        let swap = async |i: usize| {
            let name = load.objects[i].metadata.name.as_deref().unwrap();
            let items = &load.objects[(i + number) % objects].spec.encrypted_data;
            let same_key = objects.is_multiple_of(number);
            assert!(same_key, "objects must be a multiple of keys");
            let patch = Patch::Merge(json!({ "spec": { "encryptedData": items } }));
            api.patch(name, &PatchParams::default(), &patch)
                .await
                .unwrap();
        };
        each(0..objects, swap).await;
        let is_done = async || {
            let listed = api.list(&kube::api::ListParams::default()).await.unwrap();
            let current = |object: &SealedSecret| {
                let status = object.status.as_ref();
                status.and_then(|status| status.observed_generation) == object.metadata.generation
            };
            listed.iter().all(current)
        };
        while !is_done().await {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        let again = metric(&pod, "private_key_operations_total").await - operations;
        line(&[
            format!("{what}, next version"),
            time(start.elapsed()),
            format!("{:.2}", again / all),
        ]);
        pod.stop();
    }
    let field = Field::new(&plane, &keys).await;
    field.put(&plain).await;
    let start = Instant::now();
    let pod = field.run(Implementation::Upstream, &[]).await;
    let took = field.wait_for_secrets(objects, start).await;
    line(&[
        Implementation::Upstream.name().into(),
        time(took),
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
