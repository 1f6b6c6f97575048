//! Tests the unauthenticated endpoints of a running controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tests::http;
use tests::patience::until;

use super::case::Case;

/// Attack: a client floods verify and rotate, to delay the Secret of another tenant (GHSA-jpp5-6cf2-prqh).
#[tokio::test]
async fn s4_a_flood_of_verify_and_rotate_delays_no_secret() {
    let case = Case::with_args("flood", &["--rate-limit=1000000"]).await;
    let port = case.controller.port().unwrap();
    // Each item costs a private-key operation for each key, and no key unseals it.
    let mut expensive = case.sealed_secret("elsewhere", &[("a", "1")]);
    let value = expensive.spec.encrypted_data["a"].clone();
    for i in 0..900 {
        expensive
            .spec
            .encrypted_data
            .insert(format!("k{i}"), value.clone());
    }
    expensive.metadata.name = Some("here".into());
    let body = Arc::new(expensive.to_document().to_string());
    let (stop, responses) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let flood: Vec<_> = (0..16)
        .map(|i| {
            let (body, stop, responses) = (body.clone(), stop.clone(), responses.clone());
            tokio::spawn(async move {
                let mut turn = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let caller = format!("X-Forwarded-For: 10.0.{i}.{turn}\r\n");
                    let path = if turn.is_multiple_of(2) {
                        "/v1/verify"
                    } else {
                        "/v1/rotate"
                    };
                    let _ = http::send(port, "POST", path, &caller, &body).await;
                    responses.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let start = Instant::now();
    for i in 0..10 {
        let name = format!("s-{i}");
        case.seal(&name, &[("a", "1")]).await;
        case.wait_for_values(&name, &[("a", "1")]).await;
    }
    let time = start.elapsed();
    // The flood continued while the Secrets were created; on a busy machine its responses arrive later.
    until("the flood is answered", async || {
        (responses.load(Ordering::Relaxed) > 16).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for task in flood {
        task.await.unwrap();
    }
    assert!(time < Duration::from_secs(20), "ten Secrets took {time:?}");
}

/// Attack: a client searches the responses of verify and rotate, and the log, for a known value.
#[tokio::test]
async fn verify_rotate_and_the_log_contain_no_value() {
    const CANARY: &str = "canary-3e77";
    let case = Case::with_args("quiet", &["--rate-limit=1000000"]).await;
    let port = case.controller.port().unwrap();
    let mut sealed = case.sealed_secret("db", &[("a", CANARY)]);
    let text = Some("{{ fail .a }}".to_owned());
    sealed.spec.template.data = Some([("t".to_owned(), text)].into());
    let body = sealed.to_document().to_string();
    for path in ["/v1/verify", "/v1/rotate"] {
        let response = http::send(port, "POST", path, "", &body).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(!response.contains(CANARY), "{response}");
    }
    assert!(!case.controller.log().contains(CANARY));
}
