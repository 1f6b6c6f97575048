//! Checks which clients can reach each port of the controller's Pod, by evaluating the rendered network policies with
//! Kubernetes' rules, because no network plugin runs in these tests: the Pod accepts all connections until a policy
//! selects it, and then only connections that a rule of such a policy admits.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::render::RenderedChart;

type Labels = BTreeMap<String, String>;

/// The address of a client, and the labels of its Pod.
struct Source {
    address: IpAddr,
    /// Labels of the Pod's namespace and of the Pod; `None` for a source that is not a Pod.
    pod: Option<(Labels, Labels)>,
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let to_owned_pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(to_owned_pair).collect()
}

fn pod_source(namespace: &str, pod_labels: &[(&str, &str)]) -> Source {
    let namespace = labels(&[("kubernetes.io/metadata.name", namespace)]);
    Source {
        address: "10.244.0.7".parse().unwrap(),
        pod: Some((namespace, labels(pod_labels))),
    }
}

fn external_source(address: &str) -> Source {
    Source {
        address: address.parse().unwrap(),
        pod: None,
    }
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    assert!(
        selector.match_expressions.is_none(),
        "this test does not evaluate expressions"
    );
    let mut required = selector.match_labels.iter().flatten();
    required.all(|(name, value)| labels.get(name) == Some(value))
}

/// Returns whether the address is in `ADDRESS/BITS`.
fn is_in(address: IpAddr, cidr: &str) -> bool {
    let (network, bits) = cidr.split_once('/').unwrap();
    let bits: u32 = bits.parse().unwrap();
    let (address, network, width) = match (address, network.parse().unwrap()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let differ = address ^ network;
    differ.checked_shr(width - bits).unwrap_or(0) == 0
}

fn matches_peer(admitted: &NetworkPolicyPeer, home: &Labels, source: &Source) -> bool {
    if let Some(block) = &admitted.ip_block {
        let mut except = block.except.iter().flatten();
        return is_in(source.address, &block.cidr)
            && !except.any(|cidr| is_in(source.address, cidr));
    }
    let Some((namespace, pod_labels)) = &source.pod else {
        return false;
    };
    let in_namespace = match &admitted.namespace_selector {
        Some(selector) => selects(selector, namespace),
        None => namespace == home,
    };
    let is_selected = |selector: &LabelSelector| selects(selector, pod_labels);
    in_namespace && admitted.pod_selector.as_ref().is_none_or(is_selected)
}

fn matches_port(admitted: &NetworkPolicyPort, port: i32) -> bool {
    let is_tcp = admitted
        .protocol
        .as_deref()
        .is_none_or(|name| name == "TCP");
    assert!(
        admitted.end_port.is_none(),
        "this test does not evaluate port ranges"
    );
    is_tcp
        && match &admitted.port {
            Some(IntOrString::Int(number)) => *number == port,
            Some(IntOrString::String(name)) => {
                panic!("this test does not evaluate port names such as {name}")
            }
            None => true,
        }
}

/// Returns whether a rule admits a connection. An empty or absent list of peers or ports means all of them.
fn admits(rule: &NetworkPolicyIngressRule, home: &Labels, source: &Source, port: i32) -> bool {
    let (peers, ports) = (rule.from.as_deref(), rule.ports.as_deref());
    let from = peers.is_none_or(|peers| {
        peers.is_empty()
            || peers
                .iter()
                .any(|admitted| matches_peer(admitted, home, source))
    });
    let to = ports.is_none_or(|ports| {
        ports.is_empty() || ports.iter().any(|admitted| matches_port(admitted, port))
    });
    from && to
}

/// The controller's Pod in a rendered chart: the ingress policies that select it.
struct Pod {
    policies: Vec<NetworkPolicy>,
}

impl Pod {
    fn from_render(render: &RenderedChart) -> Self {
        let template = &render.object("Deployment")["spec"]["template"]["metadata"]["labels"];
        let pod_labels: Labels = serde_json::from_value(template.clone()).unwrap();
        let policies = render.objects().iter();
        let policies = policies.filter(|object| object["kind"] == "NetworkPolicy");
        let policy = |object: &Value| serde_json::from_value(object.clone()).unwrap();
        let is_selected = |policy: &NetworkPolicy| {
            let spec = policy.spec.as_ref().unwrap();
            let selector = spec.pod_selector.clone().unwrap_or_default();
            let types = spec.policy_types.iter().flatten();
            selects(&selector, &pod_labels) && types.into_iter().any(|name| name == "Ingress")
        };
        Self {
            policies: policies.map(policy).filter(is_selected).collect(),
        }
    }

    fn is_reachable_from(&self, source: &Source, port: i32) -> bool {
        let home = labels(&[("kubernetes.io/metadata.name", "home")]);
        let specs = self
            .policies
            .iter()
            .filter_map(|policy| policy.spec.as_ref());
        let mut rules = specs.flat_map(|spec| spec.ingress.iter().flatten());
        self.policies.is_empty() || rules.any(|rule| admits(rule, &home, source, port))
    }
}

const HTTP_PORT: i32 = 8080;
const METRICS_PORT: i32 = 8081;
const AUTHORIZED_PORT: i32 = 8443;
const UNLISTED_PORT: i32 = 9999;
const PORTS: [i32; 4] = [HTTP_PORT, METRICS_PORT, AUTHORIZED_PORT, UNLISTED_PORT];

/// Returns sources by name: the API server on its node, Prometheus, a Pod in the controller's namespace, and
/// another tenant's Pod.
fn sources() -> [(&'static str, Source); 4] {
    [
        ("api-server", external_source("192.0.2.1")),
        (
            "prometheus",
            pod_source("monitoring", &[("app.kubernetes.io/name", "prometheus")]),
        ),
        ("same-namespace", pod_source("home", &[("app", "other")])),
        ("tenant", pod_source("tenant", &[])),
    ]
}

const ALL_SOURCES: &[&str] = &["api-server", "prometheus", "same-namespace", "tenant"];
const NO_SOURCES: &[&str] = &[];
const PROMETHEUS_SELECTOR: &str = "[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}, \
                          podSelector: {matchLabels: {app.kubernetes.io/name: prometheus}}}]";

/// Returns the names of the sources that reach each of [`PORTS`].
fn sources_by_port(render: &RenderedChart) -> [Vec<&'static str>; 4] {
    let pod = Pod::from_render(render);
    PORTS.map(|port| {
        let sources = sources().into_iter();
        sources
            .filter(|(_, source)| pod.is_reachable_from(source, port))
            .map(|(name, _)| name)
            .collect()
    })
}

/// Attack: a tenant connects to a port whose list of sources is empty, and reads the names of all objects from the
/// metrics port.
#[test]
fn an_empty_list_of_sources_admits_no_client() {
    for port in ["httpFrom", "metricsFrom"] {
        let render = RenderedChart::new(&format!("networkPolicy: {{enabled: true, {port}: []}}"));
        let [http, metrics, ..] = sources_by_port(&render);
        let admitted = if port == "httpFrom" { http } else { metrics };
        assert_eq!(admitted, NO_SOURCES, "{port}");
    }
}

/// Attack: a client in the cluster connects to each port, to reach a port from which the network policy excludes it.
#[test]
fn each_port_is_reachable_only_from_the_configured_sources() {
    let only_prometheus =
        format!("networkPolicy: {{enabled: true, metricsFrom: {PROMETHEUS_SELECTOR}}}");
    for (values, want) in [
        ("", [ALL_SOURCES, ALL_SOURCES, ALL_SOURCES, ALL_SOURCES]),
        (
            "networkPolicy: {enabled: false, metricsFrom: []}",
            [ALL_SOURCES, ALL_SOURCES, ALL_SOURCES, ALL_SOURCES],
        ),
        // Bitnami's chart has this value too.
        (
            "networkPolicy: {enabled: true}",
            [ALL_SOURCES, ALL_SOURCES, NO_SOURCES, NO_SOURCES],
        ),
        (
            "{networkPolicy: {enabled: true}, authorizedEndpoints: {enabled: true}}",
            [ALL_SOURCES, ALL_SOURCES, ALL_SOURCES, NO_SOURCES],
        ),
        (
            "networkPolicy: {enabled: true, httpFrom: null, metricsFrom: null}",
            [ALL_SOURCES, ALL_SOURCES, NO_SOURCES, NO_SOURCES],
        ),
        (
            "networkPolicy: {enabled: true, httpFrom: [], metricsFrom: []}",
            [NO_SOURCES, NO_SOURCES, NO_SOURCES, NO_SOURCES],
        ),
        (
            "{networkPolicy: {enabled: true, httpFrom: []}, authorizedEndpoints: {enabled: true}}",
            [NO_SOURCES, ALL_SOURCES, NO_SOURCES, NO_SOURCES],
        ),
        (
            &only_prometheus,
            [ALL_SOURCES, &["prometheus"], NO_SOURCES, NO_SOURCES],
        ),
        (
            "networkPolicy: {enabled: true, httpFrom: [{ipBlock: {cidr: 192.0.2.0/24}}], metricsFrom: [{podSelector: {}}]}",
            [&["api-server"], &["same-namespace"], NO_SOURCES, NO_SOURCES],
        ),
        (
            "networkPolicy: {enabled: true, httpFrom: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}], metricsFrom: [{namespaceSelector: {}}]}",
            [
                &["api-server"],
                &["prometheus", "same-namespace", "tenant"],
                NO_SOURCES,
                NO_SOURCES,
            ],
        ),
    ] {
        assert_eq!(
            sources_by_port(&RenderedChart::new(values)),
            want,
            "{values}"
        );
    }
}

/// Attack: a Pod that `metricsFrom` does not list scrapes the metrics.
#[test]
fn with_the_hardened_values_only_listed_clients_read_metrics() {
    let hardened = super::hardened::values_file();
    let render = |more: &str| {
        RenderedChart::with_args(
            more,
            &["-f", &hardened, "-f", &super::render::write_file(more)],
        )
    };
    assert_eq!(
        sources_by_port(&render("")),
        [ALL_SOURCES, NO_SOURCES, NO_SOURCES, NO_SOURCES]
    );
    let values = format!("networkPolicy: {{metricsFrom: {PROMETHEUS_SELECTOR}}}");
    let want: [&[&str]; 4] = [ALL_SOURCES, &["prometheus"], NO_SOURCES, NO_SOURCES];
    assert_eq!(sources_by_port(&render(&values)), want);
}

#[test]
fn the_policy_opens_the_configured_ports() {
    let values = "{networkPolicy: {enabled: true, metricsFrom: []}, containerPorts: {http: 9999, metrics: 8443}}";
    assert_eq!(
        sources_by_port(&RenderedChart::new(values)),
        [NO_SOURCES, NO_SOURCES, NO_SOURCES, ALL_SOURCES]
    );
}
