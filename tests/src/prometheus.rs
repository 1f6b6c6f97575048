//! A Prometheus that scrapes programs of this machine every second.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::guarded;
use crate::http;
use crate::logged::LoggedProcess;
use crate::operators;
use crate::patience::until;
use crate::scratch::Scratch;

/// A running Prometheus. Dropping this value stops it.
pub struct Prometheus {
    port: u16,
    process: LoggedProcess,
    _directory: Scratch,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes this port of this machine once a second, and evaluates the rules in this file,
    /// if any, once a second.
    ///
    /// # Panics
    /// Panics if Prometheus is not installed.
    pub fn start_scraping(metrics_port: u16, rules: Option<&Path>) -> Self {
        Self::start_scraping_all(&[metrics_port], rules)
    }

    /// Starts a Prometheus like [`Self::start_scraping`], for several ports.
    ///
    /// # Panics
    /// Panics if Prometheus is not installed.
    pub fn start_scraping_all(metrics_ports: &[u16], rules: Option<&Path>) -> Self {
        operators::prometheus_program("prometheus");
        let directory = Scratch::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let targets = metrics_ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let targets = json!([{ "targets": targets.collect::<Vec<_>>() }]);
        let scrape = json!({ "job_name": "sealed-secrets", "static_configs": targets });
        let global = json!({ "scrape_interval": "1s", "evaluation_interval": "1s" });
        let rule_files: Vec<_> = rules.into_iter().collect();
        let settings =
            json!({ "global": global, "rule_files": rule_files, "scrape_configs": [scrape] });
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, settings.to_string()).unwrap();
        let data = directory.path().join("data");
        let mut command = guarded::command("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        Self {
            port,
            process: LoggedProcess::spawn(&mut command).unwrap(),
            _directory: directory,
        }
    }

    /// Returns the series that a query returns now; `None` if Prometheus does not respond yet.
    ///
    /// # Panics
    /// Panics if Prometheus rejects the query.
    pub async fn series(&self, query: &str) -> Option<Vec<Value>> {
        let encoded: Vec<String> = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let encoded = encoded.concat();
        let path = format!("/api/v1/query?query={encoded}");
        let response = http::get(self.port, &path).await.ok()?;
        let (_, body) = response.split_once("\r\n\r\n")?;
        assert!(!body.contains("\"status\":\"error\""), "{query}: {body}");
        let start = body.find('{')?;
        let end = body.rfind('}')?;
        let mut response: Value = serde_json::from_str(&body[start..=end]).ok()?;
        serde_json::from_value(response["data"]["result"].take()).ok()
    }

    /// Waits until a query returns series.
    pub async fn wait_for(&self, query: &str) {
        until(
            &format!("{query} returns series\n{}", self.process.log()),
            async || {
                let series = self.series(query).await?;
                (!series.is_empty()).then_some(())
            },
        )
        .await;
    }
}
