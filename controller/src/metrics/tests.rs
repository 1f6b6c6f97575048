use controller_core::fault::Fault;
use shared::key_ring::RingV2Key;
use shared::v2::SecretKey;
use shared::v2::key_secret::StoredKey;

use super::*;
use crate::metrics::series::PREFIX;
use crate::testing::id;

fn find_value<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(start))
}

fn labels_with(instance: &str) -> ObjectLabels {
    ObjectLabels {
        instance: instance.into(),
        rotate_by: None,
    }
}

#[test]
fn c20_series_exist_from_the_start() {
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
        ("suite_keys{state=\"valid\",suite=\"rsa\"} ", "0"),
        ("suite_newest_key_age_seconds{suite=\"rsa\"} ", "-1"),
        ("objects{synced=\"False\"} ", "0"),
    ] {
        let actual = find_value(&text, &format!("{PREFIX}_{series}"));
        assert_eq!(actual, Some(value), "{series}: {text}");
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
    metrics.set_condition(&id("db"), &labels_with("a"), false);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    assert_eq!(find_value(&text, &series("a")), Some("-1"), "{text}");
    metrics.set_condition(&id("db"), &labels_with("b"), true);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    assert_eq!(find_value(&text, &series("b")), Some("1"), "{text}");
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
            .map(|line| line.split('"').next().unwrap().to_owned())
            .collect()
    };
    for name in ["a", "b", "c"] {
        metrics.set_condition(&id(name), &labels_with(""), name != "b");
    }
    assert_eq!(series(), ["a", "b", "c"]);
    metrics.set_condition(&id("d"), &labels_with(""), true);
    assert_eq!(series(), ["b"]);
    for name in ["e", "f", "g", "h"] {
        metrics.set_condition(&id(name), &labels_with(""), false);
    }
    assert_eq!(series().len(), 3, "never above the maximum");
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    let count = find_value(&text, &format!("{PREFIX}_objects{{synced=\"False\"}} "));
    assert_eq!(count, Some("5"), "all are still counted");
    for name in ["d", "e", "f", "g", "h"] {
        metrics.forget(&id(name));
    }
    assert_eq!(series(), ["a", "b", "c"]);
}

fn count_error_series(metrics: &Metrics) -> usize {
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    let start = format!("{PREFIX}_unseal_errors_total{{namespace=\"ns\"");
    text.lines().filter(|line| line.starts_with(&start)).count()
}

#[test]
fn errors_of_a_namespace_are_reported_while_it_has_objects() {
    let metrics = Metrics::new(false).unwrap();
    let other_namespace = ObjectId {
        namespace: "ns-2".into(),
        name: "db".into(),
    };
    for id in [&id("a"), &id("b"), &other_namespace] {
        metrics.count_reconcile(id);
        metrics.set_condition(id, &labels_with(""), false);
    }
    for (name, remaining) in [("a", 5), ("b", 0)] {
        metrics.forget(&id(name));
        assert_eq!(count_error_series(&metrics), remaining, "{name}");
    }
    metrics.count_reconcile(&id("c"));
    assert_eq!(count_error_series(&metrics), 5, "the series are recreated");
    metrics.count_failure(&id("c"), Fault::Unseal);
    metrics.forget(&id("c"));
    assert_eq!(
        count_error_series(&metrics),
        0,
        "an object without a condition"
    );
}

#[test]
fn a_former_leader_exports_no_object_metrics() {
    let metrics = Metrics::new(false).unwrap();
    metrics.count_reconcile(&id("db"));
    metrics.set_condition(&id("db"), &labels_with(""), false);
    metrics.set_queue_length(3);
    metrics.hand_over();
    assert_eq!(count_error_series(&metrics), 0);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    assert!(!text.contains("\"ns\""), "{text}");
    metrics.set_condition(&id("db"), &labels_with(""), true);
    assert_eq!(
        count_error_series(&metrics),
        5,
        "leader again, with all Secrets up to date"
    );
    for series in ["objects{synced=\"False\"} ", "queue_depth "] {
        let value = find_value(&text, &format!("{PREFIX}_{series}"));
        assert_eq!(value, Some("0"), "{series}");
    }
}

#[test]
fn s5_names_of_objects_and_namespaces_can_be_omitted() {
    let metrics = Metrics::new(true).unwrap();
    metrics.count_reconcile(&id("db"));
    metrics.count_failure(&id("db"), Fault::Unseal);
    metrics.set_condition(&id("db"), &labels_with("a"), true);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    assert!(
        !text.contains("\"db\"") && !text.contains("\"ns\""),
        "{text}"
    );
    let total = format!("{PREFIX}_unseal_errors_total{{namespace=\"\",reason=\"unseal\"}} ");
    assert_eq!(find_value(&text, &total), Some("1"), "{text}");
    assert_eq!(
        find_value(&text, &format!("{PREFIX}_objects{{synced=\"True\"}} ")),
        Some("1")
    );
}

fn date_series(metrics: &Metrics) -> Vec<String> {
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    let start = format!("{PREFIX}_rotate_by_timestamp_seconds{{");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_earliest_date_of_an_object_has_a_series_until_the_object_is_removed() {
    let metrics = Metrics::new(false).unwrap();
    let mut sealed = SealedSecret::new("db", shared::resource::SealedSecretSpec::default());
    let items = ["a", "b"].map(|item| (item.to_owned(), String::new()));
    sealed.spec.encrypted_data = items.into();
    let mut set = |annotation: &str| {
        let annotation = (
            shared::resource::ROTATE_BY_ANNOTATION.to_owned(),
            annotation.to_owned(),
        );
        sealed.metadata.annotations = Some([annotation].into());
        metrics.set_condition(&id("db"), &ObjectLabels::of(&sealed), true);
        date_series(&metrics)
    };
    let series = "name=\"db\",namespace=\"ns\"}";
    for (annotation, want) in [
        ("a 2027-03-01 90d\nb 2026-12-01\n", Some(1_796_083_200)),
        ("a 2027-03-01 90d\nb soon\n", Some(1_803_859_200)),
        ("gone 2020-01-01\n", None),
        ("", None),
        ("a 1970-01-01", Some(0)),
    ] {
        let want: Vec<String> = want
            .iter()
            .map(|second: &i64| format!("{series} {second}"))
            .collect();
        assert_eq!(set(annotation), want, "{annotation:?}");
    }
    metrics.forget(&id("db"));
    assert_eq!(date_series(&metrics), [""; 0]);
    set("a 2027-03-01");
    metrics.hand_over();
    assert_eq!(date_series(&metrics), [""; 0]);
}

/// Attack: an author creates thousands of objects with dates, to fill the metrics.
#[test]
fn only_the_earliest_dates_have_a_series_when_there_are_too_many() {
    let metrics = Metrics::new(false).unwrap().with_max_named_objects(3);
    let omitting = Metrics::new(true).unwrap();
    for second in 0..100 {
        let labels = ObjectLabels {
            instance: "".into(),
            rotate_by: Some(86_400 * (100 - second)),
        };
        for metrics in [&metrics, &omitting] {
            metrics.set_condition(&id(&format!("n{second}")), &labels, true);
        }
    }
    let series = date_series(&metrics);
    assert_eq!(series.len(), 3, "{series:?}");
    let has = |name: &str| {
        series
            .iter()
            .any(|line| line.contains(&format!("\"{name}\"")))
    };
    assert!(has("n99") && has("n98") && has("n97"), "{series:?}");
    assert_eq!(date_series(&omitting), [""; 0], "names are omitted");
}

/// Attack: a caller requests thousands of different paths to fill the metrics.
#[test]
fn unknown_paths_create_no_series() {
    let metrics = Metrics::new(false).unwrap();
    for i in 0..5000 {
        let path = format!("/x{i}");
        metrics.observe_request(&path, &Method::GET, StatusCode::NOT_FOUND, Duration::ZERO);
    }
    assert!(!metrics.text(Timestamp::UNIX_EPOCH).contains("\"/x"));
}

/// Attack: a client reads from the process metrics how long a template worked with a value, to infer the value.
#[test]
fn process_metrics_do_not_reveal_the_work_of_a_template() {
    let text = Metrics::new(false).unwrap().text(Timestamp::UNIX_EPOCH);
    assert_eq!(find_value(&text, "process_threads "), None);
    let seconds = find_value(&text, "process_cpu_seconds_total ").unwrap();
    assert_eq!(seconds.parse::<u64>().unwrap() % 60, 0, "{seconds}");
    for memory in [
        "process_resident_memory_bytes ",
        "process_virtual_memory_bytes ",
    ] {
        let bytes: f64 = find_value(&text, memory).unwrap().parse().unwrap();
        assert!(bytes > 0.0 && bytes % MEMORY_STEP == 0.0, "{memory}{bytes}");
    }
    let mut counter = Counter::default();
    counter.set_value(119.5);
    let mut metric = prometheus::proto::Metric::default();
    metric.set_counter(counter);
    let mut family = MetricFamily::default();
    family.set_name("process_cpu_seconds_total".to_owned());
    family.set_metric(vec![metric]);
    let rounded = coarsen(vec![family]);
    let value = rounded[0].get_metric()[0].get_counter().get_value();
    assert!((value - 60.0).abs() < f64::EPSILON, "{value}");
}

/// Attack: an author puts escape sequences or line breaks in the instance label of an object, to control the terminal
/// of a person who reads the metrics, or to add a series.
#[test]
fn labels_of_objects_neither_control_a_terminal_nor_add_a_line() {
    let metrics = Metrics::new(false).unwrap();
    let harmless = ["", "web", "1.2-x_y"];
    let hostile = [
        "\x1b[31m", "a\nb 1", "\"} 1\n", "\u{9b}2J", "\u{202e}", "\r", "\0", "\\",
    ];
    for instance in harmless.iter().chain(&hostile) {
        metrics.set_condition(&id("n"), &labels_with(instance), true);
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

#[test]
fn reports_the_keys_of_the_preferred_suite_separately() {
    let start = Timestamp::UNIX_EPOCH;
    let hour = SignedDuration::from_hours(1);
    let key = |byte: u8| {
        let not_before = start + hour * i32::from(byte);
        let stored = StoredKey {
            key: SecretKey::from_bytes(Suite::XWing, &[byte; 32]).unwrap(),
            not_before,
            not_after: not_before + hour,
        };
        Arc::new(RingV2Key::new(byte.to_string(), not_before, stored))
    };
    let ring = KeyRing::default().with_v2_keys([key(0), key(1), key(9)]);
    let metrics = Metrics::new(false).unwrap();
    let value = |ring: KeyRing, series: &str| {
        metrics.set_keys(Arc::new(ring), 0);
        let text = metrics.text(start + hour + hour / 2);
        find_value(&text, &format!("{PREFIX}_{series} ")).map(str::to_owned)
    };
    let preferred = ring.clone().with_preferred_suite(Suite::XWing);
    for (series, want) in [
        ("suite_keys{state=\"valid\",suite=\"xw\"}", "1"),
        ("suite_keys{state=\"expired\",suite=\"xw\"}", "1"),
        ("suite_keys{state=\"not_yet_valid\",suite=\"xw\"}", "1"),
        ("suite_newest_key_age_seconds{suite=\"xw\"}", "1800"),
        ("keys{state=\"valid\"}", "0"),
        ("newest_key_age_seconds", "-1"),
    ] {
        assert_eq!(
            value(preferred.clone(), series).as_deref(),
            Some(want),
            "{series}"
        );
    }
    let removed = KeyRing::default()
        .with_preferred_suite(Suite::XWing)
        .with_removed(ring.all_keys());
    let held_back = "keys_held_back{reason=\"removed\"}";
    assert_eq!(value(removed.clone(), held_back).as_deref(), Some("3"));
    let valid = "suite_keys{state=\"valid\",suite=\"xw\"}";
    assert_eq!(value(removed, valid).as_deref(), Some("0"));
    assert_eq!(value(ring, valid), None, "no keys of it are generated");
}
