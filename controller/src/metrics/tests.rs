use controller_core::fault::Fault;

use super::*;
use crate::metrics::series::PREFIX;
use crate::testing::id;

fn line<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(start))
}

#[test]
fn c20_every_series_exists_from_the_start() {
    let text = Metrics::new(false).unwrap().text(Timestamp::UNIX_EPOCH);
    for (series, value) in [
        ("unseal_requests_total ", "0"),
        (
            "unseal_errors_total{namespace=\"\",reason=\"unseal\"} ",
            "0",
        ),
        (
            "http_requests_total{code=\"200\",method=\"post\",path=\"/v1/verify\"} ",
            "0",
        ),
        (
            "http_request_duration_seconds_count{method=\"get\",path=\"/v1/cert.pem\"} ",
            "0",
        ),
        ("queue_depth ", "0"),
        ("newest_key_age_seconds ", "-1"),
        ("keys{state=\"unusable\"} ", "0"),
        ("objects{synced=\"False\"} ", "0"),
    ] {
        let found = line(&text, &format!("{PREFIX}_{series}"));
        assert_eq!(found, Some(value), "{series}: {text}");
    }
}

#[test]
fn c21_a_series_is_removed_with_its_object_or_instance_label() {
    let metrics = Metrics::new(false).unwrap();
    let series = |instance: &str| {
        format!(
            "{PREFIX}_condition_info{{condition=\"Synced\",name=\"db\",namespace=\"ns\",ss_app_kubernetes_io_instance=\"{instance}\"}} "
        )
    };
    metrics.condition(&id("db"), "a", false);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    assert_eq!(line(&text, &series("a")), Some("-1"), "{text}");
    metrics.condition(&id("db"), "b", true);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    assert_eq!(line(&text, &series("b")), Some("1"), "{text}");
    assert!(!text.contains(&series("a")), "{text}");
    metrics.forget(&id("db"));
    assert!(
        !metrics
            .text(Timestamp::UNIX_EPOCH)
            .contains("condition_info{")
    );
}

#[test]
fn only_failing_objects_have_a_series_when_there_are_too_many() {
    let metrics = Metrics::new(false).unwrap().with_max_named_objects(3);
    let series = || -> Vec<String> {
        let text = metrics.text(Timestamp::UNIX_EPOCH);
        let start = format!("{PREFIX}_condition_info{{condition=\"Synced\",name=\"");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
        lines
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    };
    for name in ["a", "b", "c"] {
        metrics.condition(&id(name), "", name != "b");
    }
    assert_eq!(series(), ["a", "b", "c"]);
    metrics.condition(&id("d"), "", true);
    assert_eq!(series(), ["b"]);
    for name in ["e", "f", "g", "h"] {
        metrics.condition(&id(name), "", false);
    }
    assert_eq!(series().len(), 3, "never above the maximum");
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    let all = line(&text, &format!("{PREFIX}_objects{{synced=\"False\"}} "));
    assert_eq!(all, Some("5"), "they are still counted");
    for name in ["d", "e", "f", "g", "h"] {
        metrics.forget(&id(name));
    }
    assert_eq!(series(), ["a", "b", "c"]);
}

fn errors(metrics: &Metrics) -> usize {
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    let start = format!("{PREFIX}_unseal_errors_total{{namespace=\"ns\"");
    text.lines().filter(|line| line.starts_with(&start)).count()
}

#[test]
fn errors_of_a_namespace_are_reported_while_it_has_objects() {
    let metrics = Metrics::new(false).unwrap();
    let other = ObjectId {
        namespace: "ns-2".into(),
        name: "db".into(),
    };
    for id in [&id("a"), &id("b"), &other] {
        metrics.reconcile_started(id);
        metrics.condition(id, "", false);
    }
    for (gone, left) in [("a", 5), ("b", 0)] {
        metrics.forget(&id(gone));
        assert_eq!(errors(&metrics), left, "{gone}");
    }
    metrics.reconcile_started(&id("c"));
    assert_eq!(errors(&metrics), 5, "the series are recreated");
    metrics.failed(&id("c"), Fault::Unseal);
    metrics.forget(&id("c"));
    assert_eq!(errors(&metrics), 0, "an object without a condition");
}

#[test]
fn a_former_leader_exports_no_object_metrics() {
    let metrics = Metrics::new(false).unwrap();
    metrics.reconcile_started(&id("db"));
    metrics.condition(&id("db"), "", false);
    metrics.queued(3);
    metrics.hand_over();
    assert_eq!(errors(&metrics), 0);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    assert!(!text.contains("\"ns\""), "{text}");
    metrics.condition(&id("db"), "", true);
    assert_eq!(
        errors(&metrics),
        5,
        "leader again, with all Secrets up to date"
    );
    for series in ["objects{synced=\"False\"} ", "queue_depth "] {
        let found = line(&text, &format!("{PREFIX}_{series}"));
        assert_eq!(found, Some("0"), "{series}");
    }
}

#[test]
fn s5_names_of_objects_and_namespaces_can_be_omitted() {
    let metrics = Metrics::new(true).unwrap();
    metrics.reconcile_started(&id("db"));
    metrics.failed(&id("db"), Fault::Unseal);
    metrics.condition(&id("db"), "a", true);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    assert!(
        !text.contains("\"db\"") && !text.contains("\"ns\""),
        "{text}"
    );
    let all = format!("{PREFIX}_unseal_errors_total{{namespace=\"\",reason=\"unseal\"}} ");
    assert_eq!(line(&text, &all), Some("1"), "{text}");
    assert_eq!(
        line(&text, &format!("{PREFIX}_objects{{synced=\"True\"}} ")),
        Some("1")
    );
}

/// Attack: a caller requests thousands of different paths to fill the metrics.
#[test]
fn unknown_paths_create_no_series() {
    let metrics = Metrics::new(false).unwrap();
    metrics.request("/x", &Method::GET, StatusCode::NOT_FOUND, Duration::ZERO);
    assert!(!metrics.text(Timestamp::UNIX_EPOCH).contains("\"/x\""));
}

/// Attack: a client reads from the process metrics how long a template worked with a value.
#[test]
fn process_metrics_do_not_reveal_the_work_of_a_template() {
    let text = Metrics::new(false).unwrap().text(Timestamp::UNIX_EPOCH);
    assert_eq!(line(&text, "process_threads "), None);
    let seconds = line(&text, "process_cpu_seconds_total ").unwrap();
    assert_eq!(seconds.parse::<u64>().unwrap() % 60, 0, "{seconds}");
    assert!(line(&text, "process_resident_memory_bytes ").is_some());
    let mut counter = Counter::default();
    counter.set_value(119.5);
    let mut metric = prometheus::proto::Metric::default();
    metric.set_counter(counter);
    let mut family = MetricFamily::default();
    family.set_name("process_cpu_seconds_total".to_owned());
    family.set_metric(vec![metric]);
    let rounded = without_timing(vec![family]);
    let value = rounded[0].get_metric()[0].get_counter().get_value();
    assert!((value - 60.0).abs() < f64::EPSILON, "{value}");
}

/// Attack: an author controls the terminal of a reader of the metrics by a label, or adds a series with a label.
#[test]
fn labels_of_objects_neither_control_a_terminal_nor_add_a_line() {
    let metrics = Metrics::new(false).unwrap();
    let harmless = ["", "web", "1.2-x_y"];
    let hostile = [
        "\x1b[31m", "a\nb 1", "\"} 1\n", "\u{9b}2J", "\u{202e}", "\r", "\0", "\\",
    ];
    for instance in harmless.iter().chain(&hostile) {
        metrics.condition(&id("n"), instance, true);
        let text = metrics.text(Timestamp::UNIX_EPOCH);
        let lines = text.lines().filter(|line| line.contains("condition_info{"));
        assert_eq!(lines.count(), 1, "{instance:?}: {text}");
        let is_control = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(is_control), "{instance:?}: {text:?}");
        if harmless.contains(instance) {
            assert!(text.contains(&format!("instance=\"{instance}\"")), "{text}");
        }
    }
}
