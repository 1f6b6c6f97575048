//! Our controller as a process that works on a cluster, as a service account with the peer's rights.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use rustix::process::Signal;

use crate::binaries;
use crate::control_plane::{ControlPlane, Namespace};
use crate::guarded::{self, Guarded};
use crate::patience;
use crate::roles::ACCOUNT;

const SERVING: &str = "HTTP server serving\" addr=";

/// A running controller. It ends when this value is dropped.
pub struct ClusterController {
    process: Guarded,
    log: Arc<Mutex<String>>,
}

impl ClusterController {
    /// Starts it in a namespace whose account has its rights already, and waits until it has seen
    /// every object. It works in its own namespace only, unless `words` say otherwise: tests share
    /// the cluster.
    ///
    /// # Panics
    /// With what it logged, if it does not become ready.
    pub async fn start(plane: &ControlPlane, namespace: &Namespace<'_>, words: &[&str]) -> Self {
        let kubeconfig = plane.kubeconfig_of(namespace.name(), ACCOUNT).await;
        Self::start_with(&kubeconfig, namespace.name(), words).await
    }

    /// As [`Self::start`], with any kubeconfig.
    pub async fn start_with(kubeconfig: &Path, namespace: &str, words: &[&str]) -> Self {
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
            .args(words)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .env("POD_NAMESPACE", namespace)
            .env("RUST_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command).expect("the shell is there");
        let log = Arc::new(Mutex::new(String::new()));
        collect(process.stdout().expect("it was piped"), &log);
        collect(process.stderr().expect("it was piped"), &log);
        let mut controller = Self { process, log };
        controller.become_ready().await;
        controller
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> Option<u16> {
        let log = self.log();
        let (_, rest) = log.split_once(SERVING)?;
        let address = rest.lines().next()?;
        address.rsplit_once(':')?.1.trim_matches('"').parse().ok()
    }

    /// Bytes of memory that it has now.
    pub fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .expect("it runs, and this is Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes = kibibytes.expect("the kernel says it");
        kibibytes.parse::<usize>().expect("a number") * 1024
    }

    /// Asks it to end, and gives its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.process.signal(Signal::TERM);
        self.process.wait().code()
    }

    async fn become_ready(&mut self) {
        let mut ended = None;
        patience::until("the controller is ready", async || {
            ended = self.process.ended();
            let ready = match self.port() {
                Some(port) => is_ready(port).await,
                None => false,
            };
            (ready || ended.is_some()).then_some(())
        })
        .await;
        assert!(
            ended.is_none(),
            "the controller ended early:\n{}",
            self.log()
        );
    }
}

async fn is_ready(port: u16) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200 "))
    };
    ask.await.unwrap_or(false)
}

/// On a thread, so that the controller never waits for a reader.
fn collect(from: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}
