//! Tests requests that wait for a change, and requests to a standby.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use serde_json::{Value, json};
use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::patience::until;
use tests::roles::ACCOUNT;

use super::deliver_case::{DeliverCase, PORT, TlsPort, all_of, timed, values, waiting_request};

/// Maximum time until a change reaches a waiting request.
const MAX_DELAY: Duration = Duration::from_secs(2);

async fn case(purpose: &str, args: &[&str]) -> (DeliverCase, String, Value) {
    let case = DeliverCase::with_args(purpose, args).await;
    case.case.seal("db", &[("a", "1")]).await;
    let token = case.create_pod("web").await;
    let response = case.tls.wait_for(200, &token, &all_of("db")).await;
    (case, token, response)
}

#[tokio::test]
async fn an_unchanged_revision_is_answered_with_304_at_once_or_after_the_wait() {
    let (case, token, response) = case("deliver-304", &[]).await;
    for (seconds, min, max) in [(0, 0, 2), (2, 2, 10)] {
        let body = waiting_request(&all_of("db"), &response["revision"], seconds).to_string();
        let (time, (code, text)) = timed(case.tls.post(Some(&token), &body)).await;
        assert_eq!((code, text.as_str()), (304, ""));
        let limits = Duration::from_secs(min)..Duration::from_secs(max);
        assert!(limits.contains(&time), "{time:?}");
    }
    let other = waiting_request(&all_of("db"), &json!("other"), 60);
    let (time, (code, _)) = timed(case.tls.deliver(&token, &other)).await;
    assert_eq!(code, 200);
    assert!(
        time < MAX_DELAY,
        "another revision is answered at once: {time:?}"
    );
    // Neither a change to another object nor a change to the labels of `db` ends the wait.
    let body = waiting_request(&all_of("db"), &response["revision"], 3);
    let request = tokio::spawn({
        let (tls, token) = (case.tls.clone(), token.clone());
        async move { tls.deliver(&token, &body).await }
    });
    case.wait_for_waiting_requests(1).await;
    case.case.seal("other", &[("a", "1")]).await;
    case.case
        .patch("db", json!({ "metadata": { "labels": { "team": "a" } } }))
        .await;
    assert_eq!(request.await.unwrap().0, 304);
}

#[tokio::test]
async fn a_change_and_a_deletion_reach_a_waiting_request_within_two_seconds() {
    let (case, token, response) = case("deliver-change", &[]).await;
    let wait = |response: &Value| {
        let body = waiting_request(&all_of("db"), &response["revision"], 60);
        let (tls, token) = (case.tls.clone(), token.clone());
        tokio::spawn(async move { tls.deliver(&token, &body).await })
    };
    let request = wait(&response);
    case.wait_for_waiting_requests(1).await;
    case.seal_again("db", &[("a", "2")]).await;
    let (time, response) = timed(request).await;
    let (code, next) = response.unwrap();
    assert_eq!(
        (code, values(&next)),
        (200, vec![("a".to_owned(), "2".to_owned())])
    );
    assert!(time < MAX_DELAY, "{time:?}");
    let request = wait(&next);
    case.wait_for_waiting_requests(1).await;
    case.case.delete("db").await;
    let (time, response) = timed(request).await;
    assert_eq!(response.unwrap().0, 404);
    assert!(time < MAX_DELAY, "{time:?}");
}

#[tokio::test]
async fn a_standby_delivers_the_same_files_and_changes() {
    let (case, token, response) = case("deliver-standby", &[]).await;
    let plane = case.case.plane;
    let kubeconfig = plane
        .kubeconfig_of(case.case.namespace.name(), ACCOUNT)
        .await;
    let mut standby = ClusterController::spawn(&kubeconfig, case.case.namespace.name(), &[PORT]);
    standby.wait_for_log("Another replica is the leader").await;
    standby.become_ready().await;
    let tls = TlsPort::of(&standby).await;
    let same = tls.wait_for(200, &token, &all_of("db")).await;
    assert_eq!(same, response);
    let body = waiting_request(&all_of("db"), &response["revision"], 60);
    let request = tokio::spawn(async move { tls.deliver(&token, &body).await });
    until("a request waits", async || {
        let metrics = standby.scrape().await;
        metrics
            .contains("\nsealed_secrets_deliver_waiting 1\n")
            .then_some(())
    })
    .await;
    case.seal_again("db", &[("a", "2")]).await;
    let (time, response) = timed(request).await;
    assert_eq!(
        values(&response.unwrap().1),
        [("a".to_owned(), "2".to_owned())]
    );
    assert!(time < MAX_DELAY, "{time:?}");
}

/// Fault: the content-version key cannot be read, and a replica delivers files without versions, or with different
/// versions.
#[tokio::test]
async fn without_the_content_version_key_nothing_is_delivered_until_it_can_be_read() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("deliver-key").await;
    let secret = |key: &str| json!({ "metadata": { "name": "sealed-secrets-key-content-versions" }, "stringData": { "key": key } });
    let _: ApiSecret = namespace.create_object(secret("too short")).await;
    let case = DeliverCase::in_namespace(plane, namespace, &[]).await;
    case.case.seal("db", &[("a", "1")]).await;
    let token = case.create_pod("web").await;
    let failure = case.tls.wait_for(503, &token, &all_of("db")).await;
    assert!(
        failure["hint"].as_str().unwrap().contains("Retry-After"),
        "{failure}"
    );
    let key = secret(&"k".repeat(32));
    case.case
        .patch_secret("sealed-secrets-key-content-versions", key)
        .await;
    case.tls.wait_for(200, &token, &all_of("db")).await;
    // The leader retries too, and records the version of the Secret that it wrote without the key.
    until("the status has a version", async || {
        let status = case.case.status("db").await;
        (status.versions.len() == 1).then_some(())
    })
    .await;
}

/// Attack: a thousand agents wait, so that no slot, thread or connection is left for a request of another Pod.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_waiting_requests_take_no_threads_and_all_get_a_change() {
    const PODS: usize = 40;
    const REQUESTS_PER_POD: usize = 25;
    let (case, token, _) = case("deliver-thousand", &[]).await;
    let case = case.restart_quietly().await;
    let response = case.tls.wait_for(200, &token, &all_of("db")).await;
    let tokens = join_all(
        (0..PODS).map(async |i| case.create_another_pod(&format!("web-{i}"), "web").await),
    );
    let tokens = tokens.await;
    let (memory, threads) = (
        case.case.controller.memory(),
        count_threads(case.case.controller.id()),
    );
    let body = waiting_request(&all_of("db"), &response["revision"], 300);
    let mut requests = tokio::task::JoinSet::new();
    for (i, token) in tokens.iter().enumerate() {
        for _ in 0..REQUESTS_PER_POD {
            let (tls, token, body) = (case.tls.clone(), token.clone(), body.clone());
            requests.spawn(async move { tls.deliver(&token, &body).await });
        }
        case.wait_for_waiting_requests((i + 1) * REQUESTS_PER_POD)
            .await;
    }
    let more_memory = case.case.controller.memory().saturating_sub(memory);
    let now = self::count_threads(case.case.controller.id());
    assert!(now <= threads + 20, "{threads} threads, then {now}");
    let (time, (code, _)) = timed(case.tls.deliver(&token, &all_of("db"))).await;
    assert_eq!(code, 200);
    assert!(time < MAX_DELAY, "{time:?}");
    case.seal_again("db", &[("a", "2")]).await;
    let (time, responses) = timed(requests.join_all()).await;
    println!(
        "{} waiting requests: {} KiB, all answered after {time:?}",
        PODS * REQUESTS_PER_POD,
        more_memory >> 10
    );
    for (code, next) in responses {
        assert_eq!(
            (code, values(&next)),
            (200, vec![("a".to_owned(), "2".to_owned())])
        );
    }
    assert!(more_memory < 150 << 20, "{more_memory}");
}

fn count_threads(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .count()
}
