//! Tests the static manifests and the Kustomize base and overlays. Most of their objects are generated from the chart,
//! so that RBAC, probes and security settings have one source. `SEALED_SECRETS_UPDATE=1 cargo test -p tests --test
//! control_plane chart::manifests` writes the generated files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::{Value, json};
use shared::manifest::to_yaml;
use tests::control_plane::ControlPlane;
use tests::deployed::{DeployedController, Program::Ours};
use tests::lifecycle::User;
use tests::operators::{self, objects};

use super::installs::empty_plane;
use super::render::RenderedChart;

const NAME: &str = "sealed-secrets-controller";

const VALUES: &str = "{fullnameOverride: sealed-secrets-controller, namespace: kube-system}";

const NAMESPACED: &str = "{fullnameOverride: sealed-secrets-controller, namespace: sealed-secrets, \
                          rbac: {clusterRole: false, namespacedRoles: true}}";

const DELIVERY: &str = "{fullnameOverride: sealed-secrets-controller, namespace: kube-system, \
                        authorizedEndpoints: {enabled: true}, certificateConfigMap: {enabled: true}, csi: {enabled: true}}";

/// The flags in the static manifests whose value is the next argument.
const KEPT_FLAGS: &[&str] = &["--certificate-configmap", "--listen-authorized-addr"];

const RBAC_KINDS: &[&str] = &[
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
];

#[test]
fn the_published_manifests_match_the_chart() {
    let rendered = static_manifest_objects(VALUES);
    let mut delivery = static_manifest_objects(DELIVERY);
    delivery.retain(|object| !rendered.iter().any(|other| is_same_object(object, other)));
    let (rbac, remaining): (Vec<Value>, Vec<Value>) = rendered
        .into_iter()
        .partition(|object| RBAC_KINDS.contains(&object["kind"].as_str().unwrap()));
    let (crd, controller): (Vec<_>, Vec<_>) = remaining
        .into_iter()
        .partition(|object| object["kind"] == "CustomResourceDefinition");
    let namespaced: Vec<_> = static_manifest_objects(NAMESPACED)
        .into_iter()
        .filter(|object| RBAC_KINDS.contains(&object["kind"].as_str().unwrap()))
        .collect();
    let files = [
        ("kustomize/controller/crd.yaml", manifest_text(&[&crd])),
        (
            "kustomize/controller/controller.yaml",
            manifest_text(&[&controller]),
        ),
        ("kustomize/base/rbac.yaml", manifest_text(&[&rbac])),
        (
            "kustomize/overlays/namespaced/rbac.yaml",
            manifest_text(&[&namespaced]),
        ),
        (
            "kustomize/overlays/delivery/delivery.yaml",
            manifest_text(&[&delivery]),
        ),
        (
            "manifests/controller.yaml",
            manifest_text(&[&crd, &rbac, &controller]),
        ),
        (
            "manifests/controller-norbac.yaml",
            manifest_text(&[&crd, &controller]),
        ),
    ];
    for (name, want) in files {
        let path = deploy(name);
        if env::var_os("SEALED_SECRETS_UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &want).unwrap();
        }
        let actual = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            actual == want,
            "{name} differs from the chart; SEALED_SECRETS_UPDATE=1 regenerates it"
        );
    }
}

#[test]
fn kustomize_builds_the_static_manifests() {
    let read = |name: &str| objects(&fs::read_to_string(deploy(name)).unwrap());
    for (directory, file) in [
        ("kustomize/base", "manifests/controller.yaml"),
        ("kustomize/controller", "manifests/controller-norbac.yaml"),
    ] {
        assert_eq!(
            sort_objects(kustomize_build(directory)),
            sort_objects(read(file)),
            "{directory}"
        );
    }
}

/// The patches of the overlay are not generated.
#[test]
fn the_overlay_for_delivery_builds_the_objects_of_the_chart() {
    assert_eq!(
        sort_objects(kustomize_build("kustomize/overlays/delivery")),
        sort_objects(static_manifest_objects(DELIVERY))
    );
}

#[test]
fn h8_the_pod_monitor_scrapes_the_metrics_port() {
    let built_objects = kustomize_build("kustomize/overlays/monitored");
    let find = |kind: &str| {
        built_objects
            .iter()
            .find(|object| object["kind"] == kind)
            .unwrap()
            .clone()
    };
    let monitor = find("PodMonitor");
    let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
    let ports = find("Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"].clone();
    let container_port = ports
        .as_array()
        .unwrap()
        .iter()
        .find(|port_entry| port_entry["name"] == *port)
        .unwrap();
    assert_eq!(container_port["containerPort"], 8081);
    let labels = &find("Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], *labels);
}

#[tokio::test]
async fn manifests_applied_by_kubectl_pass_the_lifecycle_test() {
    let plane = empty_plane().await;
    let file = deploy("manifests/controller.yaml");
    kubectl(
        &plane,
        &[
            "apply",
            "--server-side",
            "--validate=strict",
            "-f",
            file.to_str().unwrap(),
        ],
    );
    let controller = DeployedController::start(&plane, "kube-system", NAME, Ours).await;
    let user = User::new(&plane, "kube-system", NAME).await;
    user.run_lifecycle(&controller).await;
    controller.stop();

    let directory = deploy("kustomize/overlays/namespaced");
    kubectl(&plane, &["create", "namespace", "sealed-secrets"]);
    let manifest = operators::run_successfully(
        Command::new(operators::kustomize())
            .args(["build"])
            .arg(directory),
    );
    apply(&plane, &manifest);
    let controller = DeployedController::start(&plane, "sealed-secrets", NAME, Ours).await;
    let home = plane.existing("sealed-secrets");
    let user = User::in_namespace(&plane, home, "sealed-secrets", NAME).await;
    user.run_lifecycle(&controller).await;
    let log = controller.log();
    assert!(!log.contains("forbidden"), "{log}");
}

#[tokio::test]
async fn the_api_server_accepts_every_field_of_the_manifests() {
    let plane = ControlPlane::shared().await;
    let everything = "{ingress: {enabled: true, tls: true, selfSigned: true}, networkPolicy: {enabled: true}, pdb: {create: true}, \
                      startupProbe: {enabled: true}, hostUsers: false, resources: {limits: {memory: 64Mi}}, \
                      metrics: {dashboards: {create: true, namespace: default}}, authorizedEndpoints: {enabled: true}, certificateConfigMap: {enabled: true}, \
                      namespace: default}";
    let rendered = ["namespace: default", everything]
        .map(|values| manifest_text(&[RenderedChart::new(values).objects()]));
    let overlays = ["replicas", "namespaced", "delivery"].map(|name| {
        let directory = deploy(&format!("kustomize/overlays/{name}"));
        operators::run_successfully(
            Command::new(operators::kustomize())
                .arg("build")
                .arg(directory),
        )
    });
    let published = [
        "manifests/controller.yaml",
        "manifests/controller-norbac.yaml",
    ]
    .map(|name| fs::read_to_string(deploy(name)).unwrap());
    for manifest in rendered.iter().chain(&overlays).chain(&published) {
        // A dry run needs an existing namespace.
        let manifest = manifest.replace("namespace: sealed-secrets\n", "namespace: default\n");
        let file = super::render::write_file(&manifest);
        kubectl(
            plane,
            &[
                "apply",
                "--server-side",
                "--force-conflicts",
                "--dry-run=server",
                "--validate=strict",
                "-f",
                &file,
            ],
        );
    }
    let misspelled =
        super::render::write_file(&rendered[0].replace("containerPort:", "containersPort:"));
    let error = operators::run_expecting_failure(&mut kubectl_command(
        plane,
        &[
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &misspelled,
        ],
    ));
    assert!(error.contains("containersPort"), "{error}");
}

/// Returns the chart's objects as the static manifests contain them, with the names and labels of Bitnami's manifests.
fn static_manifest_objects(values: &str) -> Vec<Value> {
    RenderedChart::new(values)
        .objects()
        .iter()
        .cloned()
        .map(to_static_manifest_object)
        .collect()
}

fn to_static_manifest_object(mut object: Value) -> Value {
    let kind = object["kind"].as_str().unwrap().to_owned();
    let labels = json!({ "name": NAME });
    object["metadata"]["labels"] = labels.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("annotations");
    }
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    object["metadata"]["name"] = json!(static_manifest_name(&kind, &name));
    match kind.as_str() {
        "Service" => object["spec"]["selector"] = labels,
        "Role" | "ClusterRole" | "ServiceAccount" => {}
        "RoleBinding" | "ClusterRoleBinding" => {
            let role = object["roleRef"]["name"].as_str().unwrap();
            object["roleRef"]["name"] = json!(static_manifest_name("Role", role));
        }
        "Deployment" => change_to_static_deployment(&mut object["spec"], &labels),
        // The Service of the controller does not select these Pods.
        "DaemonSet" => select_by(&mut object["spec"], &json!({ "name": name })),
        _ => {
            object["metadata"].as_object_mut().unwrap().remove("labels");
        }
    }
    object
}

/// Returns the name of an object in the static manifests, which may differ from its name in the chart.
fn static_manifest_name(kind: &str, name: &str) -> String {
    match (kind, name) {
        ("RoleBinding", "sealed-secrets-controller-key-admin") => NAME.to_owned(),
        ("RoleBinding", NAME) => "sealed-secrets-unsealer".to_owned(),
        _ => name
            .replace(
                "sealed-secrets-controller-key-admin",
                "sealed-secrets-key-admin",
            )
            .replace(
                "sealed-secrets-controller-service-proxier",
                "sealed-secrets-service-proxier",
            )
            .replace("sealed-secrets-controller-leader", "sealed-secrets-leader"),
    }
}

fn change_to_static_deployment(spec: &mut Value, labels: &Value) {
    spec["minReadySeconds"] = json!(30);
    select_by(spec, labels);
    let container = &mut spec["template"]["spec"]["containers"][0];
    container["name"] = json!(NAME);
    let container = container.as_object_mut().unwrap();
    let args = container.remove("args").unwrap();
    let args = changed_args(args.as_array().unwrap());
    if !args.is_empty() {
        container.insert("args".to_owned(), json!(args));
    }
}

fn select_by(spec: &mut Value, labels: &Value) {
    spec["selector"]["matchLabels"] = labels.clone();
    spec["template"]["metadata"]["labels"] = labels.clone();
}

/// Returns the arguments that the static manifests keep: `--all-namespaces=false`, and [`KEPT_FLAGS`] with their
/// values.
fn changed_args(args: &[Value]) -> Vec<&Value> {
    let is_kept = |index: usize| {
        let is_flag =
            |arg: Option<&Value>| arg.is_some_and(|arg| KEPT_FLAGS.iter().any(|flag| arg == flag));
        let before = index.checked_sub(1).and_then(|before| args.get(before));
        args[index] == "--all-namespaces=false" || is_flag(args.get(index)) || is_flag(before)
    };
    (0..args.len())
        .filter(|&index| is_kept(index))
        .map(|index| &args[index])
        .collect()
}

fn is_same_object(object: &Value, other: &Value) -> bool {
    object["kind"] == other["kind"] && object["metadata"]["name"] == other["metadata"]["name"]
}

const HEADER: &str =
    "# Generated from the chart: see tests/tests/control_plane/chart/manifests.rs.\n";

fn manifest_text(lists: &[&[Value]]) -> String {
    let listed_objects = lists.iter().flat_map(|list| list.iter());
    let documents: Vec<_> = listed_objects.map(to_yaml).collect();
    format!("{HEADER}{}", documents.join("---\n"))
}

pub fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

fn kustomize_build(directory: &str) -> Vec<Value> {
    let mut command = Command::new(operators::kustomize());
    objects(&operators::run_successfully(
        command.arg("build").arg(deploy(directory)),
    ))
}

fn sort_objects(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| format!("{}/{}", object["kind"], object["metadata"]["name"]));
    objects
}

pub fn apply(plane: &ControlPlane, text: &str) {
    let file = super::render::write_file(text);
    kubectl(
        plane,
        &[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--validate=strict",
            "-f",
            &file,
        ],
    );
}

pub fn kubectl(plane: &ControlPlane, args: &[&str]) -> String {
    operators::run_successfully(&mut kubectl_command(plane, args))
}

fn kubectl_command(plane: &ControlPlane, args: &[&str]) -> Command {
    let mut command = Command::new(operators::kubectl());
    command.env("KUBECONFIG", plane.kubeconfig()).args(args);
    command
}
