//! Tests the alerts with promtool, and the dashboard with Prometheus on real metrics of the controller and the
//! provider.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Value;
use shared::resource::ROTATE_BY_ANNOTATION;
use tests::binaries;
use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::guarded;
use tests::http;
use tests::logged::LoggedProcess;
use tests::operators::{self, objects};
use tests::prometheus::Prometheus;
use tests::roles::{self, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key, sealed_for};

use super::manifests::deploy;

const ALERTS: &str = "helm/sealed-secrets/files/alerts.yaml";

const DASHBOARD: &str = "helm/sealed-secrets/files/dashboard.json";

/// The metric that a backup job exports instead of the controller.
const BACKUP_METRIC: &str = "sealed_secrets_backup_timestamp_seconds";

#[test]
fn alerts_fire_after_their_delay_and_not_earlier() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/tests.yaml");
    let mut promtool = operators::prometheus_program("promtool");
    operators::run_successfully(promtool.args(["test", "rules"]).arg(&tests));

    let alerts = fs::read_to_string(deploy(ALERTS)).unwrap();
    let tests = fs::read_to_string(tests).unwrap();
    for rule in objects(&alerts)[0]["groups"][0]["rules"]
        .as_array()
        .unwrap()
    {
        let name = rule["alert"].as_str().unwrap();
        let expected_name = format!("alertname: {name}\n");
        let sections = tests.split(&expected_name).skip(1);
        let cases: Vec<_> = sections
            .map(|rest| rest.lines().nth(1).unwrap().trim())
            .collect();
        assert!(cases.contains(&"exp_alerts:"), "no test lets {name} fire");
        let is_quiet = cases.contains(&"exp_alerts: []");
        assert!(is_quiet, "no test keeps {name} quiet");
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_returns_data() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("monitored").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let controller = ClusterController::start(plane, &namespace, &[]).await;
    let mut broken = sealed_for(
        &KEYS[1],
        namespace.name(),
        "broken",
        &[("a", "1")],
        shared::scope::Scope::Strict,
    );
    broken.metadata.namespace = Some(namespace.name().to_owned());
    let annotations = broken.metadata.annotations.get_or_insert_default();
    annotations.insert(ROTATE_BY_ANNOTATION.to_owned(), "a 2020-01-01".to_owned());
    let _: shared::resource::SealedSecret = namespace.create_object(broken.to_document()).await;
    controller.get("/v1/cert.pem").await;

    let authority = controller.get("/v1/cert.pem").await;
    let node = MeteredNode::start(&authority).await;
    let ports = [controller.metrics_port().unwrap(), node.port];
    let prometheus = Prometheus::start_scraping_all(&ports, None);
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(deploy(DASHBOARD)).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    for target in targets {
        let query = target["expr"].as_str().unwrap();
        let query = query
            .replace("$job", ".*")
            .replace("$__rate_interval", "1m");
        prometheus.wait_for(&query).await;
    }

    let node_metrics = http::get(node.port, "/metrics").await.unwrap();
    assert!(
        node_metrics.contains("mounts_total{code=\"OK\"} 0"),
        "{node_metrics}"
    );
    let scraped = controller.scrape().await + &node_metrics;
    let alerts = objects(&fs::read_to_string(deploy(ALERTS)).unwrap());
    let name = Regex::new("sealed_secrets_[a-z_]+").unwrap();
    let alerts_json = alerts[0].to_string();
    let metrics: BTreeSet<_> = name
        .find_iter(&alerts_json)
        .map(|found| found.as_str())
        .collect();
    for metric in metrics.iter().filter(|name| **name != BACKUP_METRIC) {
        assert!(
            scraped.contains(&format!("# TYPE {metric} ")),
            "neither the controller nor the provider exports a metric {metric}"
        );
    }
}

/// A provider of the CSI driver that serves metrics.
struct MeteredNode {
    port: u16,
    _process: LoggedProcess,
    _directory: Scratch,
}

impl MeteredNode {
    /// Starts a provider that no driver calls. `authority` contains a certificate, which the provider reads at
    /// startup.
    async fn start(authority: &str) -> Self {
        let (directory, port) = (Scratch::new(), http::free_port());
        let file = |name: &str| directory.path().join(name);
        fs::write(file("ca.pem"), authority).unwrap();
        let mut command = guarded::command(binaries::seal_deliver());
        command.args(["node", "--server=https://127.0.0.1:1", "--socket"]);
        command.arg(file("sealed.sock")).arg("--ca-file");
        command.arg(file("ca.pem"));
        command.arg(format!("--listen=127.0.0.1:{port}"));
        let mut process = LoggedProcess::spawn(&mut command).unwrap();
        let is_serving = |log: &str| log.contains("serving").then_some(());
        process
            .wait_for_log("the provider serves", is_serving)
            .await;
        Self {
            port,
            _process: process,
            _directory: directory,
        }
    }
}
