//! Tests that each flaw of Bitnami's chart and manifests is fixed or deliberately kept. The numbers refer to
//! `tests/FLAWS.md`.

use serde_json::{Value, json};
use tests::control_plane::ControlPlane;

use super::helm::{Helm, chart};
use super::render::RenderedChart;

#[test]
fn h1_the_value_false_reaches_the_controller() {
    let render = RenderedChart::new("{updateStatus: false, logInfoStdout: false}");
    let arguments = render.arguments();
    assert!(arguments.contains(" --update-status=false "), "{arguments}");
    assert!(
        arguments.contains(" --log-info-stdout=false "),
        "{arguments}"
    );
}

/// The policy names the ports of the container, not those of the Services.
#[test]
fn h2_the_network_policy_opens_the_ports_of_the_pod() {
    let values = "{networkPolicy: {enabled: true}, containerPorts: {http: 9090, metrics: 9091}, \
                  service: {port: 80}, metrics: {service: {port: 81}}}";
    let policy = RenderedChart::new(values).object("NetworkPolicy")["spec"].clone();
    let ports: Vec<_> = [0, 1]
        .map(|i| policy["ingress"][i]["ports"][0]["port"].clone())
        .into();
    assert_eq!(ports, [9090, 9091]);
}

#[test]
fn h3_egress_without_an_address_is_refused_without_a_cluster() {
    let refusal = RenderedChart::refusal("networkPolicy: {enabled: true, egress: {enabled: true}}");
    assert!(
        refusal.contains("networkPolicy.egress.kubeapiCidr"),
        "{refusal}"
    );
}

#[test]
fn h4_namespaced_roles_also_apply_in_the_controllers_own_namespace() {
    let values =
        "{rbac: {clusterRole: false, namespacedRoles: true}, additionalNamespaces: [more]}";
    let render = RenderedChart::new(values);
    let roles = render
        .objects()
        .iter()
        .filter(|object| object["metadata"]["name"] == "secrets-unsealer");
    let namespaces: Vec<_> = roles
        .map(|role| role["metadata"]["namespace"].clone())
        .collect();
    assert_eq!(namespaces, ["home", "more"]);
    let keys = render.object("Role/release-sealed-secrets-key-admin");
    assert_eq!(
        keys["rules"][1]["verbs"],
        json!(["list", "watch", "create"])
    );
    assert!(render.find("ClusterRole").is_none());

    // Without additional namespaces, the controller watches only its own.
    let single_namespace = RenderedChart::new("rbac: {clusterRole: false, namespacedRoles: true}");
    assert!(
        single_namespace
            .arguments()
            .contains(" --all-namespaces=false ")
    );
}

#[tokio::test]
async fn h4_namespaced_roles_in_addition_to_the_cluster_role_grant_nothing_and_the_notes_say_so() {
    let note = "no permissions on SealedSecrets";
    assert!(notes("rbac: {namespacedRoles: true}").await.contains(note));
    let namespaced = "rbac: {clusterRole: false, namespacedRoles: true}";
    assert!(!notes(namespaced).await.contains(note));
}

#[test]
fn h5_a_binding_to_the_users_own_cluster_role_stays() {
    let render = RenderedChart::new("rbac: {clusterRole: false, clusterRoleName: mine}");
    assert!(render.find("ClusterRole").is_none());
    assert_eq!(
        render.object("ClusterRoleBinding")["roleRef"]["name"],
        "mine"
    );
}

#[tokio::test]
async fn h6_the_notes_name_the_flags_that_kubeseal_needs() {
    let notes = notes("").await;
    assert!(
        notes.contains("--controller-name release-sealed-secrets --controller-namespace home"),
        "{notes}"
    );
    let notes = notes_in("kube-system", "fullnameOverride: sealed-secrets-controller").await;
    assert!(
        notes.contains("These are the defaults of both programs"),
        "{notes}"
    );
}

#[tokio::test]
async fn the_notes_name_a_backup_that_can_be_restored() {
    let notes = notes("").await;
    let args = "seal keys backup keys.age --controller-name release-sealed-secrets --controller-namespace home";
    assert!(notes.contains(args), "{notes}");
}

#[tokio::test]
async fn h7_pod_security_policies_are_accepted_and_not_created() {
    let render = RenderedChart::new("rbac: {pspEnabled: true}");
    assert!(render.find("PodSecurityPolicy").is_none());
    let notes = notes("rbac: {pspEnabled: true}").await;
    assert!(notes.contains("rbac.pspEnabled has no effect"), "{notes}");
}

#[test]
fn h8_monitors_scrape_the_metrics_port() {
    let render = RenderedChart::new("metrics: {serviceMonitor: {enabled: true}}");
    let port = &render.object("ServiceMonitor")["spec"]["endpoints"][0]["port"];
    assert_eq!(
        render.object("Service/release-sealed-secrets-metrics")["spec"]["ports"][0]["name"],
        *port
    );
    let selector = &render.object("ServiceMonitor")["spec"]["selector"]["matchLabels"];
    let labels = &render.object("Service/release-sealed-secrets-metrics")["metadata"]["labels"];
    for (name, value) in selector.as_object().unwrap() {
        assert_eq!(labels[name], *value);
    }
}

#[test]
fn h9_no_rendered_field_is_null() {
    let everything = "{ingress: {enabled: true}, networkPolicy: {enabled: true}, pdb: {create: true}, \
                      metrics: {serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboards: {create: true}}, \
                      authorizedEndpoints: {enabled: true}, certificateConfigMap: {enabled: true}}";
    for values in ["", everything] {
        for object in RenderedChart::new(values).objects() {
            let nulls = nulls(object);
            assert!(
                nulls.is_empty(),
                "{} {}: {nulls:?}",
                object["kind"],
                object["metadata"]["name"]
            );
        }
    }
}

#[test]
fn h10_the_cluster_role_keeps_its_name_unless_another_is_set() {
    assert_eq!(
        RenderedChart::new("").object("ClusterRole")["metadata"]["name"],
        "secrets-unsealer"
    );
    let render = RenderedChart::new("rbac: {clusterRoleName: second}");
    assert_eq!(render.object("ClusterRole")["metadata"]["name"], "second");
}

#[test]
fn h11_the_pod_is_restricted() {
    let render = RenderedChart::new("");
    let pod_security = &render.object("Deployment")["spec"]["template"]["spec"]["securityContext"];
    assert_eq!(pod_security["seccompProfile"]["type"], "RuntimeDefault");
    let container_security = &render.container()["securityContext"];
    assert_eq!(container_security["allowPrivilegeEscalation"], false);

    let openshift = RenderedChart::with_args("", &["--api-versions", "security.openshift.io/v1"]);
    assert!(openshift.container()["securityContext"]["runAsUser"].is_null());
    assert!(
        openshift.object("Deployment")["spec"]["template"]["spec"]["securityContext"]["fsGroup"]
            .is_null()
    );
}

#[tokio::test]
async fn h12_the_notes_warn_of_a_budget_that_blocks_every_drain() {
    let note = "allows no eviction";
    assert!(notes("pdb: {create: true}").await.contains(note));
    assert!(
        !notes("{pdb: {create: true}, replicas: 2}")
            .await
            .contains(note)
    );
    assert!(
        !notes("pdb: {create: true, maxUnavailable: 1}")
            .await
            .contains(note)
    );
}

#[test]
fn h13_the_crd_has_printer_columns() {
    let render = RenderedChart::new("");
    let columns = &render.object("CustomResourceDefinition")["spec"]["versions"][0]["additionalPrinterColumns"];
    let names: Vec<_> = columns
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    let upstream_columns = ["Status", "Synced", "Age"];
    assert_eq!(names[..3], upstream_columns);
    assert_eq!(names[3..], ["Ready", "Reason", "Last Good", "Key"]);
}

#[test]
fn h14_the_role_allows_the_port_name_of_the_service() {
    let render = RenderedChart::new("");
    let port = render.object("Service/release-sealed-secrets")["spec"]["ports"][0]["name"]
        .as_str()
        .unwrap();
    let role = render.object("Role/release-sealed-secrets-service-proxier");
    let allowed = role["rules"][1]["resourceNames"].as_array().unwrap();
    assert!(
        allowed.contains(&json!(format!("http:release-sealed-secrets:{port}"))),
        "{role}"
    );
}

async fn notes(values: &str) -> String {
    notes_in("home", values).await
}

async fn notes_in(namespace: &str, values: &str) -> String {
    let plane = ControlPlane::shared().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let file = helm.write_values(values);
    let chart = chart();
    let args = [
        "install",
        "release",
        &chart,
        "--namespace",
        namespace,
        "-f",
        &file,
    ];
    let stdout = helm.run(&[&args[..], &["--dry-run=server"]].concat());
    let (_, notes) = stdout.split_once("NOTES:").expect("Helm prints notes");
    notes.to_owned()
}

/// Returns the paths of all null values.
fn nulls(value: &Value) -> Vec<String> {
    let nulls_below = |name: &str, value: &Value| -> Vec<String> {
        nulls(value)
            .iter()
            .map(|path| format!("/{name}{path}"))
            .collect()
    };
    match value {
        Value::Null => vec![String::new()],
        Value::Object(map) => map
            .iter()
            .flat_map(|(name, value)| nulls_below(name, value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .flat_map(|value| nulls_below("-", value))
            .collect(),
        _ => Vec::new(),
    }
}
