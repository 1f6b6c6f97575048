//! Measures how many objects per second the rotate endpoint re-encrypts.

use std::time::{Duration, Instant};

use shared::key::KeySize;
use tests::control_plane::ControlPlane;
use tests::http;

use crate::bench_namespace::{BenchNamespace, Implementation, Load, for_each_concurrent};
use crate::operation::new_key;
use crate::report::{print_head, print_row, time};
use crate::sizes::Sizes;

pub async fn run(sizes: Sizes) {
    let requests = sizes.size("requests", 40, 400);
    let keys = [new_key(KeySize::Rsa4096)];
    let load = Load::new(&keys, 1, 3);
    let body = load.objects[0].to_document().to_string();
    let plane = ControlPlane::start().await;
    print_head(&["", "time", "requests a second"]);
    let mut durations: Vec<Duration> = Vec::new();
    for implementation in [Implementation::Ours, Implementation::Upstream] {
        let bench = BenchNamespace::new(&plane, &keys).await;
        let limits = ["--rate-limit=100000", "--rate-limit-burst=100000"];
        let pod = bench.run(implementation, &limits).await;
        let port = pod.port();
        let start = Instant::now();
        let rotate = async |_| {
            // This project's controller rejects a request with 429 if its caller has four others in progress.
            loop {
                let response = http::send(port, "POST", "/v1/rotate", "", &body)
                    .await
                    .unwrap();
                match response.split(' ').nth(1) {
                    Some("200") => return,
                    Some("429") => {}
                    _ => panic!("{response}"),
                }
            }
        };
        for_each_concurrent(0..requests, rotate).await;
        durations.push(start.elapsed());
        let rate = requests as f64 / start.elapsed().as_secs_f64();
        print_row(&[
            implementation.name().into(),
            time(start.elapsed()),
            format!("{rate:.1}"),
        ]);
        pod.stop();
    }
    let ratio = durations[1].as_secs_f64() / durations[0].as_secs_f64();
    println!("\nthis project: {ratio:.2} × upstream's rate, on half of the processors at most");
}
