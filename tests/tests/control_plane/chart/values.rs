//! Tests that every value of the chart has its documented effect.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use tests::operators::{self, objects};
use tests::{binaries, upstream};

use super::helm::chart;
use super::render::RenderedChart;

/// The content of `tests/operator/values.toml`, which explains the columns.
#[derive(Deserialize)]
struct Effects {
    upstreams: Vec<Effect>,
    others: Vec<Effect>,
}

type Effect = [String; 5];

static EFFECTS: LazyLock<Effects> = LazyLock::new(|| {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/operator/values.toml");
    toml::from_str(&fs::read_to_string(file).unwrap()).unwrap()
});

const POD: &str = "Deployment /spec/template/spec/";
const CONTAINER: &str = "Deployment /spec/template/spec/containers/0/";

/// Values whose effect other tests check: the value of flaw H7, and a value that needs a cluster.
const CHECKED_ELSEWHERE: &[&str] = &["rbac.pspEnabled", "crds.adopt"];

/// Values that the templates of Bitnami's chart read, and its `values.yaml` does not contain.
const UNDOCUMENTED: &[&str] = &["service.labels", "metrics.service.labels"];

#[test]
fn every_value_of_bitnamis_chart_has_its_documented_effect() {
    for effect in &EFFECTS.upstreams {
        assert_effect(effect);
    }
}

#[test]
fn every_added_value_has_its_documented_effect() {
    for effect in &EFFECTS.others {
        assert_effect(effect);
    }
}

#[test]
fn an_empty_container_port_means_the_default() {
    let usual = RenderedChart::new("networkPolicy: {enabled: true}");
    let render = RenderedChart::new(
        "{networkPolicy: {enabled: true}, containerPorts: {http: '', metrics: 0}}",
    );
    for location in [
        "CONTAINER ports",
        "CONTAINER args",
        "NetworkPolicy /spec/ingress",
    ] {
        assert_eq!(
            rendered_at(&render, location),
            rendered_at(&usual, location),
            "{location}"
        );
    }
}

#[test]
fn every_value_of_the_chart_is_tested() {
    let upstream_leaves = leaves_of(&upstream::chart().join("values.yaml").to_string_lossy());
    let chart_leaves = leaves_of(&format!("{}/values.yaml", chart()));
    let names = |effects: &[Effect]| effects.iter().map(|effect| effect[0].clone()).collect();
    let elsewhere: BTreeSet<_> = CHECKED_ELSEWHERE
        .iter()
        .map(|leaf| (*leaf).to_owned())
        .collect();
    let (upstreams, others): (BTreeSet<String>, BTreeSet<String>) =
        (names(&EFFECTS.upstreams), names(&EFFECTS.others));

    let missing: Vec<_> = upstream_leaves.difference(&chart_leaves).collect();
    assert!(
        missing.is_empty(),
        "values that only upstream's chart has: {missing:?}"
    );
    let mut documented = upstream_leaves;
    documented.extend(UNDOCUMENTED.iter().map(|leaf| (*leaf).to_owned()));
    let upstream_values: BTreeSet<_> = &upstreams | &elsewhere;
    assert_eq!(
        documented.difference(&upstream_values).collect::<Vec<_>>(),
        [""; 0]
    );
    let checked = &(&upstreams | &others) | &elsewhere;
    assert_eq!(
        chart_leaves.difference(&checked).collect::<Vec<_>>(),
        [""; 0],
        "values without a tested effect"
    );
    assert_eq!(
        checked.difference(&chart_leaves).collect::<Vec<_>>(),
        [""; 0],
        "unknown values"
    );
}

#[test]
fn the_schema_has_every_value_and_rejects_wrong_types_and_names() {
    let schema = fs::read_to_string(format!("{}/values.schema.json", chart())).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    for leaf in leaves_of(&format!("{}/values.yaml", chart())) {
        let mut node = &schema;
        for part in leaf.split('.') {
            if node["properties"].is_null() {
                break; // The chart copies this value unchanged.
            }
            node = &node["properties"][part];
            assert!(node.is_object(), "values.schema.json lacks {leaf}");
        }
    }
    for (values, error) in [
        ("replicas: two", "replicas"),
        ("keyttl: 30d", "keyttl"),
        ("keyttl: 0", "keyttl"),
        ("keyrenewperiod: 30", "keyrenewperiod"),
        ("leaderElection: {enable: true}", "enable"),
        ("updateStatus: 'false'", "updateStatus"),
        ("image: {pullPolicy: Sometimes}", "pullPolicy"),
        ("correctDrifts: false", "correctDrifts"),
        ("networkPolicy: {metricFrom: []}", "metricFrom"),
        (
            "networkPolicy: {egress: {kubeapiCIDR: 10.0.0.1/32}}",
            "kubeapiCIDR",
        ),
        ("rbac: {serviceProxier: {subject: []}}", "subject"),
        ("metrics: {serviceMonitor: {enable: true}}", "enable"),
        ("service: {ports: 80}", "ports"),
    ] {
        let refusal = RenderedChart::refusal(values);
        assert!(refusal.contains(error), "{values}: {refusal}");
    }
    // Values that Helm itself or a parent chart passes, and values that are copied unchanged.
    for values in [
        "global: {imageRegistry: a}",
        "{enabled: true, tags: {front: true}}",
        "livenessProbe: {terminationGracePeriodSeconds: 9}",
        "podSecurityContext: {supplementalGroups: [5]}",
        "resources: {claims: [{name: a}]}",
    ] {
        RenderedChart::new(values);
    }
    let refusal = RenderedChart::refusal("privateKeyLabels: {a: 'b,c'}");
    assert!(refusal.contains("privateKeyLabels.a"), "{refusal}");
}

#[test]
fn the_controller_has_every_flag_of_the_chart() {
    let mut controller = Command::new(binaries::controller());
    let help = operators::run_successfully(controller.arg("--help"));
    let flag = Regex::new("--[a-z0-9-]+").unwrap();
    let flags: BTreeSet<_> = flag.find_iter(&help).map(|found| found.as_str()).collect();
    let arguments = fs::read_to_string(format!("{}/templates/_arguments.tpl", chart())).unwrap();
    let chart_flags: BTreeSet<_> = flag
        .find_iter(&arguments)
        .map(|found| found.as_str())
        .collect();
    assert!(chart_flags.len() > 20, "{chart_flags:?}");
    for flag in &chart_flags {
        assert!(flags.contains(flag), "the controller has no {flag}");
    }
}

fn assert_effect(effect: &Effect) {
    let [leaf, base, set, location, want] = effect;
    let line = nest(leaf, set);
    let render = RenderedChart::with_args(base, &["-f", &super::render::write_file(&line)]);
    let rendered = rendered_at(&render, location);
    let is_expected = match want.strip_prefix('~') {
        _ if location == "args" => rendered.contains(&format!(" {want} ")),
        Some(part) => rendered.contains(part),
        None => rendered == *want,
    };
    assert!(
        is_expected,
        "{line} gives {rendered} at {location}, not {want}"
    );
    let without = rendered_at(&RenderedChart::new(base_without_value(base)), location);
    assert_ne!(
        without, rendered,
        "{leaf}: the output is the same without it"
    );
}

/// Returns the base values for a render without the value under test, which some base values require.
fn base_without_value(base: &str) -> &str {
    if base.contains("egress: {enabled: true}") {
        ""
    } else {
        base
    }
}

fn rendered_at(render: &RenderedChart, location: &str) -> String {
    if location == "args" {
        return render.arguments();
    }
    let location = location
        .replace("POD ", POD)
        .replace("CONTAINER ", CONTAINER);
    let (object, pointer) = location.split_once(' ').unwrap();
    let field = render
        .find(object)
        .and_then(|object| object.pointer(pointer));
    field.map_or_else(|| "-".to_owned(), Value::to_string)
}

/// Converts `a.b` and `c` to `a: {b: c}`.
fn nest(leaf: &str, set: &str) -> String {
    let depth = leaf.matches('.').count();
    let needs_quotes = !set.starts_with(['[', '{', '\'']) && set.contains([',', ':', '%']);
    let set = if needs_quotes {
        format!("'{set}'")
    } else {
        set.to_owned()
    };
    let prefix = leaf.replace('.', ": {");
    format!("{prefix}: {set}{}", "}".repeat(depth))
}

fn leaves_of(path: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let mut leaves = BTreeSet::new();
    collect_leaves("", &objects(&text)[0], &mut leaves);
    leaves
}

fn collect_leaves(path: &str, value: &Value, leaves: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                collect_leaves(&format!("{path}{dot}{key}"), value, leaves);
            }
        }
        _ => {
            leaves.insert(path.to_owned());
        }
    }
}
