//! Tests the controller's metrics.

use serde_json::json;
use tests::patience::until;
use tests::scrape::Scrape;

use super::case::Case;

const COUNTER: u8 = 0;
const GAUGE: u8 = 1;
const HISTOGRAM: u8 = 4;
const CANARY: &str = "canary-91ab";

/// Bitnami's metrics: name after the prefix, type, labels in alphabetical order.
const UPSTREAM_METRICS: &[(&str, u8, &[&str])] = &[
    ("build_info", GAUGE, &["revision"]),
    ("unseal_requests_total", COUNTER, &[]),
    ("unseal_errors_total", COUNTER, &["namespace", "reason"]),
    (
        "condition_info",
        GAUGE,
        &[
            "condition",
            "name",
            "namespace",
            "ss_app_kubernetes_io_instance",
        ],
    ),
    ("http_requests_total", COUNTER, &["code", "method", "path"]),
    (
        "http_request_duration_seconds",
        HISTOGRAM,
        &["method", "path"],
    ),
];

#[tokio::test]
async fn a_scrape_has_upstreams_series_and_counts_events() {
    let case = Case::new("metrics").await;
    let namespace = case.namespace.name().to_owned();
    case.create_secret(json!({ "metadata": { "name": "unowned" }, "stringData": { "a": "x" } }))
        .await;
    case.seal("good", &[("a", CANARY)]).await;
    case.seal("unowned", &[("a", CANARY)]).await;
    case.seal_with("bad", &[("a", CANARY)], &[("t", "{{ fail .a }}")])
        .await;
    for name in ["unowned", "bad"] {
        case.wait_for_failure(name).await;
    }
    case.wait_until_synced("good").await;

    let text = case.controller.scrape().await;
    assert!(!text.contains(CANARY), "{text}");
    let scrape = Scrape::read(&text);
    let prefixed = |name: &str| format!("sealed_secrets_controller_{name}");
    for (name, kind, labels) in UPSTREAM_METRICS {
        let family = &scrape.families[&prefixed(name)];
        assert_eq!(family.kind, *kind, "{name}");
        for series in &family.metric {
            let mut names: Vec<_> = series
                .label
                .iter()
                .map(|label| label.name.as_str())
                .collect();
            names.sort_unstable();
            assert_eq!(&names, labels, "{name}");
        }
    }
    let value = |name: &str, labels: &[(&str, &str)]| scrape.value(&prefixed(name), labels);
    for (name, synced) in [("good", 1.0), ("bad", -1.0), ("unowned", -1.0)] {
        let labels = [
            ("name", name),
            ("namespace", namespace.as_str()),
            ("condition", "Synced"),
        ];
        assert_eq!(value("condition_info", &labels), Some(synced), "{name}");
    }
    let errors = |reason| {
        value(
            "unseal_errors_total",
            &[("reason", reason), ("namespace", &namespace)],
        )
    };
    assert_eq!(errors("unseal"), Some(1.0));
    assert!(errors("unmanaged") >= Some(1.0));
    assert_eq!(
        errors("status"),
        Some(0.0),
        "the series exists from the start"
    );
    assert!(value("private_key_operations_total", &[]) >= Some(3.0));
    let keys = value("keys", &[("state", "valid")]);
    assert_eq!(
        keys,
        Some(2.0),
        "the old key, and the key generated at startup"
    );
    assert_eq!(value("objects", &[("synced", "False")]), Some(2.0));
    let expected_problems = ["build_info", "condition_info"].map(prefixed);
    for problem in scrape.problems.unwrap_or_default() {
        assert!(expected_problems.contains(&problem.metric), "{problem:?}");
    }

    case.delete("bad").await;
    until("the series of a deleted object disappears", async || {
        let scrape = Scrape::read(&case.controller.scrape().await);
        let value = scrape.value(&prefixed("condition_info"), &[("name", "bad")]);
        value.is_none().then_some(())
    })
    .await;
}

/// Attack: a client scrapes `/metrics` for the names of other tenants' objects.
#[tokio::test]
async fn s5_omits_names_if_the_flag_is_set() {
    let case = Case::with_args("no-names", &["--metrics-omit-secret-labels"]).await;
    case.seal("unspeakable", &[("a", "1")]).await;
    case.wait_until_synced("unspeakable").await;
    let text = case.controller.scrape().await;
    assert!(!text.contains("unspeakable"), "{text}");
}
