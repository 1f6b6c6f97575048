//! Tests alerts and dashboard with Prometheus itself, on the controller's real metrics.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use regex::Regex;
use serde_json::{Value, json};
use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::guarded;
use tests::http;
use tests::logged::Logged;
use tests::operators::{self, objects};
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::scratch::Scratch;
use tests::sealing::{KEYS, put_key, sealed_for};

use crate::manifests::deploy;

const ALERTS: &str = "helm/sealed-secrets/files/alerts.yaml";

const DASHBOARD: &str = "helm/sealed-secrets/files/dashboard.json";

/// The metric that a backup job reports.
const BACKUP: &str = "sealed_secrets_backup_timestamp_seconds";

#[test]
fn alerts_fire_when_they_must_and_not_before() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/tests.yaml");
    let mut promtool = operators::of_prometheus("promtool");
    operators::successful(promtool.args(["test", "rules"]).arg(&tests));

    let alerts = fs::read_to_string(deploy(ALERTS)).unwrap();
    let tests = fs::read_to_string(tests).unwrap();
    for rule in objects(&alerts)[0]["groups"][0]["rules"]
        .as_array()
        .unwrap()
    {
        let name = rule["alert"].as_str().unwrap();
        let fires = format!("alertname: {name}\n");
        let tested = tests.split(&fires).skip(1);
        let cases: Vec<_> = tested
            .map(|rest| rest.lines().nth(1).unwrap().trim())
            .collect();
        assert!(cases.contains(&"exp_alerts:"), "no test lets {name} fire");
    }
}

#[tokio::test]
async fn every_query_finds_something_in_the_controllers_metrics() {
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
    let _: shared::resource::SealedSecret = namespace.create_object(broken.to_document()).await;
    controller.get("/v1/cert.pem").await;

    let prometheus = Prometheus::scraping(controller.metrics_port().unwrap());
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
        prometheus.finds(&query).await;
    }

    let scraped = controller.scrape().await;
    let alerts = objects(&fs::read_to_string(deploy(ALERTS)).unwrap());
    let name = Regex::new("sealed_secrets_[a-z_]+").unwrap();
    let of_alerts = alerts[0].to_string();
    let named: BTreeSet<_> = name
        .find_iter(&of_alerts)
        .map(|found| found.as_str())
        .collect();
    for metric in named.iter().filter(|name| **name != BACKUP) {
        assert!(
            scraped.contains(&format!("# TYPE {metric} ")),
            "no metric is named {metric}"
        );
    }
}

/// A Prometheus that scrapes one port frequently.
struct Prometheus {
    port: u16,
    process: Logged,
    _folder: Scratch,
}

impl Prometheus {
    fn scraping(metrics: u16) -> Self {
        operators::of_prometheus("prometheus");
        let folder = Scratch::new();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let scrape = json!({ "job_name": "sealed-secrets", "static_configs": [{ "targets": [format!("127.0.0.1:{metrics}")] }] });
        let settings = json!({ "global": { "scrape_interval": "1s" }, "scrape_configs": [scrape] });
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, settings.to_string()).unwrap();
        let mut command = guarded::command("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Logged::spawn(&mut command).unwrap();
        Self {
            port,
            process,
            _folder: folder,
        }
    }

    async fn finds(&self, query: &str) {
        let encoded: Vec<String> = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let encoded = encoded.concat();
        let path = format!("/api/v1/query?query={encoded}");
        until(
            &format!("{query} finds something\n{}", self.process.log()),
            async || {
                let answer = http::get(self.port, &path).await.ok()?;
                let body = answer.split_once("\r\n\r\n")?.1;
                assert!(!body.contains("\"status\":\"error\""), "{query}: {body}");
                body.contains("\"value\":[").then_some(())
            },
        )
        .await;
    }
}
