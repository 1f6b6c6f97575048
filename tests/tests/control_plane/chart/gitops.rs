//! Checks the examples for Argo CD and Flux, and the objects for the Prometheus operator, against the CRDs of
//! those projects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::control_plane::ControlPlane;
use tests::operators;

use super::manifests::{deploy, kubectl};
use super::render::{RenderedChart, write_file};

/// Module, version, directory of the module's CRDs, and suffix of the names of the CRD files.
const DEFINITIONS: &[(&str, &str, &str, &str)] = &[
    (
        "github.com/argoproj/argo-cd/v3",
        "v3.1.0",
        "manifests/crds",
        "application-crd.yaml",
    ),
    (
        "github.com/fluxcd/helm-controller",
        "v1.4.0",
        "config/crd/bases",
        "helmreleases.yaml",
    ),
    (
        "github.com/fluxcd/kustomize-controller",
        "v1.6.0",
        "config/crd/bases",
        "kustomizations.yaml",
    ),
    (
        "github.com/fluxcd/source-controller",
        "v1.7.0",
        "config/crd/bases",
        "gitrepositories.yaml",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd",
        "monitors.yaml",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd",
        "prometheusrules.yaml",
    ),
];

#[tokio::test]
async fn the_crds_have_every_field_of_the_examples() {
    let plane = ControlPlane::start().await;
    for path in DEFINITIONS.iter().flat_map(definitions) {
        kubectl(
            &plane,
            &["apply", "--server-side", "-f", path.to_str().unwrap()],
        );
    }
    kubectl(
        &plane,
        &[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ],
    );
    for namespace in ["argocd", "flux-system"] {
        kubectl(&plane, &["create", "namespace", namespace]);
    }
    for name in [
        "argocd/controller",
        "argocd/secrets",
        "flux/controller",
        "flux/secrets",
    ] {
        assert_accepted(&plane, &deploy(&format!("gitops/{name}.yaml")));
    }
    let overlay = deploy("kustomize/overlays/monitored");
    let manifests = operators::run_successfully(
        Command::new(operators::kustomize())
            .arg("build")
            .arg(overlay),
    );
    assert_accepted(&plane, Path::new(&write_file(&manifests)));
    let render = RenderedChart::new(
        "{namespace: default, metrics: {serviceMonitor: {enabled: true, interval: 30s, scrapeTimeout: 10s, \
         relabelings: [{action: drop, sourceLabels: [a]}]}, prometheusRule: {enabled: true}}}",
    );
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        assert_accepted(
            &plane,
            Path::new(&write_file(&render.object(kind).to_string())),
        );
    }
}

#[test]
fn the_examples_install_the_crd_first_and_keep_it() {
    let read = |name: &str| operators::objects(&fs::read_to_string(deploy(name)).unwrap());
    let argo = read("gitops/argocd/secrets.yaml");
    let options = argo[0]["spec"]["syncPolicy"]["syncOptions"].to_string();
    assert!(
        options.contains("SkipDryRunOnMissingResource=true"),
        "{options}"
    );
    let flux = read("gitops/flux/secrets.yaml");
    assert_eq!(
        flux[1]["spec"]["dependsOn"][0]["name"],
        flux[0]["metadata"]["name"]
    );
    let definition =
        RenderedChart::new("").object("CustomResourceDefinition")["metadata"]["annotations"]
            .clone();
    assert_eq!(definition["helm.sh/resource-policy"], "keep");
    assert_eq!(
        definition["argocd.argoproj.io/sync-options"],
        "Prune=false,Delete=false"
    );
}

fn assert_accepted(plane: &ControlPlane, path: &Path) {
    let path = path.to_str().unwrap();
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        path,
    ];
    kubectl(plane, &args);
}

/// Returns the CRD files of a module in Go's module cache. Go verifies modules against the public checksum database.
fn definitions((module, version, directory, ending): &(&str, &str, &str, &str)) -> Vec<PathBuf> {
    let stdout = operators::run_successfully(
        Command::new("go")
            .args(["mod", "download", "-json", &format!("{module}@{version}")])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("operator")),
    );
    let module: Value = serde_json::from_str(&stdout).unwrap();
    let directory = Path::new(module["Dir"].as_str().unwrap()).join(directory);
    let entries = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    assert!(!files.is_empty(), "no {ending} in {}", directory.display());
    files
}
