//! The controller as a process that works on a cluster.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::binaries;
use crate::control_plane::{ControlPlane, Namespace};
use crate::guarded;
use crate::http;
use crate::logged::LoggedProcess;
use crate::patience;
use crate::roles::ACCOUNT;

const SERVING: &str = "HTTP server serving\" addr=";

const SERVING_METRICS: &str = "HTTP metrics server serving\" addr=";

const SERVING_AUTHORIZED: &str = "HTTPS server for authorized callers serving\" addr=";

/// A running controller. Dropping this value stops it.
pub struct ClusterController {
    process: LoggedProcess,
}

impl ClusterController {
    /// Starts the controller in a namespace whose account already has its permissions, and waits until the initial sync
    /// is complete. The controller works only in its own namespace unless `args` contain other namespaces, because
    /// tests share the cluster.
    ///
    /// # Panics
    /// Panics with the log if the controller does not become ready.
    pub async fn start(plane: &ControlPlane, namespace: &Namespace<'_>, args: &[&str]) -> Self {
        let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
        Self::start_with(&kubeconfig, namespace.name(), args).await
    }

    /// Like [`Self::start`], with the given kubeconfig.
    pub async fn start_with(kubeconfig: &Path, namespace: &str, args: &[&str]) -> Self {
        let mut controller = Self::spawn(kubeconfig, namespace, args);
        controller.become_ready().await;
        controller
    }

    /// Like [`Self::start_with`], without log lines of libraries.
    pub async fn start_quietly(kubeconfig: &Path, namespace: &str, args: &[&str]) -> Self {
        let mut command = command(kubeconfig, namespace, args);
        let process = LoggedProcess::spawn(command.env_remove("RUST_LOG"));
        let mut controller = Self {
            process: process.expect("/bin/sh exists"),
        };
        controller.become_ready().await;
        controller
    }

    /// Like [`Self::spawn`], as in the Pod with this uid.
    pub fn spawn_in_pod(kubeconfig: &Path, namespace: &str, uid: &str, args: &[&str]) -> Self {
        let mut command = command(kubeconfig, namespace, args);
        let process = LoggedProcess::spawn(command.env("POD_UID", uid));
        Self {
            process: process.expect("/bin/sh exists"),
        }
    }

    /// Like [`Self::start_with`], but does not wait until the controller is ready.
    pub fn spawn(kubeconfig: &Path, namespace: &str, args: &[&str]) -> Self {
        let mut command = command(kubeconfig, namespace, args);
        let process = LoggedProcess::spawn(&mut command).expect("/bin/sh exists");
        Self { process }
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Returns the unauthenticated port on 127.0.0.1; `None` until the controller has logged it.
    pub fn port(&self) -> Option<u16> {
        port_after(&self.log(), SERVING)
    }

    /// Returns the TLS port on 127.0.0.1; `None` until the controller has logged it.
    pub fn authorized_port(&self) -> Option<u16> {
        port_after(&self.log(), SERVING_AUTHORIZED)
    }

    /// Returns the metrics port on 127.0.0.1; `None` until the controller has logged it.
    pub fn metrics_port(&self) -> Option<u16> {
        port_after(&self.log(), SERVING_METRICS)
    }

    /// Returns the head and body of the response to a GET on the unauthenticated port.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn get(&self, path: &str) -> String {
        let port = self.port().expect("the controller is ready");
        http::get(port, path).await.expect("a response")
    }

    /// Returns the CA certificates of the TLS port, as PEM.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn authority(&self) -> String {
        let response = self.get("/v1/ca.pem").await;
        let (_, certificates) = response.split_once("\r\n\r\n").expect("HTTP");
        certificates.to_owned()
    }

    /// Returns the metrics as Prometheus receives them.
    ///
    /// # Panics
    /// Panics if there is no response.
    pub async fn scrape(&self) -> String {
        let port = self.metrics_port().expect("the controller serves metrics");
        let response = http::get(port, "/metrics").await.expect("a response");
        let (head, body) = response.split_once("\r\n\r\n").expect("HTTP");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.to_owned()
    }

    /// Returns the resident memory of the process in bytes.
    pub fn memory(&self) -> usize {
        self.process.memory()
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops the controller with SIGTERM; returns its exit code.
    pub fn stop(self) -> Option<i32> {
        self.process.stop()
    }

    /// Waits until the log contains this string.
    pub async fn wait_for_log(&mut self, text: &str) {
        let find = |log: &str| log.contains(text).then_some(());
        let description = format!("the log contains {text:?}");
        self.process.wait_for_log(&description, find).await;
    }

    /// Waits until the controller's initial sync is complete.
    ///
    /// # Panics
    /// Panics with the log if the controller does not become ready.
    pub async fn become_ready(&mut self) {
        let mut exit_status = None;
        patience::until("the controller is ready", async || {
            exit_status = self.process.try_wait();
            let ready = match self.port() {
                Some(port) => is_ready(port).await,
                None => false,
            };
            (ready || exit_status.is_some()).then_some(())
        })
        .await;
        assert!(
            exit_status.is_none(),
            "the controller exited early:\n{}",
            self.log()
        );
    }
}

fn port_after(log: &str, message: &str) -> Option<u16> {
    let (_, rest) = log.split_once(message)?;
    let address = rest.lines().next()?;
    address.rsplit_once(':')?.1.trim_matches('"').parse().ok()
}

fn command(kubeconfig: &Path, namespace: &str, args: &[&str]) -> Command {
    let mut command = guarded::command(binaries::controller());
    command
        .args([
            "--listen-addr",
            "127.0.0.1:0",
            "--listen-metrics-addr",
            "127.0.0.1:0",
        ])
        .args([
            "--key-size",
            "2048",
            "--all-namespaces=false",
            "--log-level",
            "DEBUG",
        ])
        .args(args)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .env("POD_NAMESPACE", namespace)
        .env("RUST_LOG", "trace");
    command
}

async fn is_ready(port: u16) -> bool {
    let response = http::get(port, "/readyz").await;
    response.is_ok_and(|response| response.starts_with("HTTP/1.1 200 "))
}
