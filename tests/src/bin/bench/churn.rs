//! Measures the time until a new object has its Secret: while other objects change, and while clients flood
//! the endpoints.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use shared::key::KeySize;
use shared::resource::SealedSecret;
use tests::control_plane::ControlPlane;
use tests::http;

use crate::bench_namespace::{BenchNamespace, Implementation, Load};
use crate::operation::new_key;
use crate::report::{percentile, print_head, print_row, ratio, time};
use crate::sizes::Sizes;

/// Time between two new objects.
const OBJECT_INTERVAL: Duration = Duration::from_millis(500);

pub async fn churn(sizes: Sizes) {
    let seconds = sizes.size("seconds", 10, 60);
    let objects = sizes.size("objects", 50, 200);
    let changes = sizes.size("changes-per-second", 15, 15);
    let keys = [new_key(KeySize::Rsa4096)];
    let load = Load::new(&keys, objects, 3);
    let plane = ControlPlane::start().await;
    print_head(&["from create to Secret", "p50", "p99", "objects"]);
    for implementation in [
        Implementation::Ours,
        Implementation::Upstream,
        Implementation::UpstreamDefaults,
    ] {
        let bench = BenchNamespace::new(&plane, &keys).await;
        let pod = bench.run(implementation, &[]).await;
        bench.create_all(&load).await;
        bench.wait_for_secrets(objects, Instant::now()).await;
        let is_over = Cell::new(false);
        let (times, ()) = tokio::join!(
            time_new_objects(&bench, &load, seconds, &is_over),
            change_objects(&bench, &load, changes, &is_over)
        );
        print_row(&cells(implementation.name(), &times));
        pod.stop();
    }
}

pub async fn flood(sizes: Sizes) {
    let seconds = sizes.size("seconds", 10, 60);
    let rate = sizes.size("requests-per-second", 500, 500);
    let keys = [new_key(KeySize::Rsa4096)];
    let load = Load::new(&keys, 1, 3);
    let plane = ControlPlane::start().await;
    print_head(&["from create to Secret", "p50", "p99", "objects"]);
    for implementation in [Implementation::Ours, Implementation::Upstream] {
        let bench = BenchNamespace::new(&plane, &keys).await;
        let pod = bench.run(implementation, &[]).await;
        bench.create(&with_name(&load.objects[0], "first")).await;
        bench.wait_for_secret("first", Instant::now()).await;
        let is_over = Cell::new(false);
        let quiet = time_new_objects(&bench, &load, seconds, &is_over).await;
        print_row(&cells(&format!("{}, quiet", implementation.name()), &quiet));
        is_over.set(false);
        let responses = RefCell::new(std::collections::BTreeMap::new());
        let body = load.objects[0].to_document().to_string();
        let more = Load {
            objects: vec![with_name(&load.objects[0], "flooded")],
        };
        let (busy, ()) = tokio::join!(
            time_new_objects(&bench, &more, seconds, &is_over),
            send_requests(pod.port(), &body, rate, &is_over, &responses)
        );
        print_row(&cells(
            &format!("{}, flooded", implementation.name()),
            &busy,
        ));
        let (p99, before) = (percentile(&busy, 99), percentile(&quiet, 99));
        println!(
            "| p99 grows {} | responses {:?} | | |",
            ratio(p99, before),
            responses.borrow()
        );
        pod.stop();
    }
}

fn cells(name: &str, times: &[Duration]) -> Vec<String> {
    let at_percentile = |percent| time(percentile(times, percent));
    vec![
        name.to_owned(),
        at_percentile(50),
        at_percentile(99),
        times.len().to_string(),
    ]
}

fn with_name(object: &SealedSecret, name: &str) -> SealedSecret {
    let mut object = object.clone();
    object.metadata.name = Some(name.to_owned());
    object
}

/// Creates objects one after another, and returns the time until each has its Secret; then sets `is_over`.
async fn time_new_objects(
    bench: &BenchNamespace<'_>,
    load: &Load,
    seconds: usize,
    is_over: &Cell<bool>,
) -> Vec<Duration> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(u64::try_from(seconds).unwrap()) {
        let stem = load.objects[0].metadata.name.as_deref().unwrap();
        let name = format!("new-{stem}-{}", times.len());
        let object = with_name(&load.objects[0], &name);
        let created = Instant::now();
        bench.create(&object).await;
        times.push(bench.wait_for_secret(&name, created).await);
        tokio::time::sleep(OBJECT_INTERVAL).await;
    }
    is_over.set(true);
    times
}

/// Replaces the values of one object after another, until `is_over`.
async fn change_objects(
    bench: &BenchNamespace<'_>,
    load: &Load,
    per_second: usize,
    is_over: &Cell<bool>,
) {
    let api: Api<SealedSecret> = bench.api();
    let mut clock =
        tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_second).unwrap());
    for i in 1.. {
        clock.tick().await;
        if is_over.get() {
            return;
        }
        let (object, other) = (
            i % load.objects.len(),
            (i * 7 + i / load.objects.len()) % load.objects.len(),
        );
        let name = load.objects[object].metadata.name.as_deref().unwrap();
        let items = &load.objects[other].spec.encrypted_data;
        let patch = Patch::Merge(json!({ "spec": { "encryptedData": items } }));
        api.patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
}

/// Sends alternating verify and rotate requests at this rate, without waiting for responses. Counts the responses by
/// status code.
async fn send_requests(
    port: u16,
    body: &str,
    per_second: usize,
    is_over: &Cell<bool>,
    responses: &RefCell<std::collections::BTreeMap<String, usize>>,
) {
    let mut clock =
        tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_second).unwrap());
    let mut running = tokio::task::JoinSet::new();
    for i in 0_u64.. {
        clock.tick().await;
        while let Some(Ok(response)) = running.try_join_next() {
            *responses.borrow_mut().entry(response).or_default() += 1;
        }
        if is_over.get() {
            return;
        }
        let (path, body) = (
            ["/v1/verify", "/v1/rotate"][usize::from(i % 2 == 1)],
            body.to_owned(),
        );
        // A different client each time, because each client has its own limit.
        let caller = format!("X-Forwarded-For: 10.0.{}.{}\r\n", i / 250 % 250, i % 250);
        running.spawn(async move {
            let response = http::send(port, "POST", path, &caller, &body).await;
            let code = |response: String| response.split(' ').nth(1).unwrap_or("none").to_owned();
            response.map_or("none".to_owned(), code)
        });
    }
}
