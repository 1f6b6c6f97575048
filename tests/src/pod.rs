//! A program that runs as in a Pod.

use std::fs;
use std::path::Path;

use crate::control_plane::{ControlPlane, Namespace};
use crate::guarded;
use crate::logged::Logged;
use crate::scratch::Scratch;

/// Kubernetes' own clients know one path for the files of a service account. They get it in a mount
/// namespace of their own, where nobody else sees it.
const POD: &str = "mount -t tmpfs tmpfs /var/run && mkdir -p /var/run/secrets/kubernetes.io && \
    cp -r \"$1\" /var/run/secrets/kubernetes.io/serviceaccount && shift && exec \"$@\"";

/// A running program with the files and variables of a service account.
pub struct Pod {
    process: Logged,
    _files: Scratch,
}

impl Pod {
    /// Starts it in this namespace. Needs the right to make mount namespaces: that of root, or user
    /// namespaces.
    ///
    /// # Panics
    /// With what it printed, if it ends before it serves HTTP.
    pub async fn start(
        plane: &ControlPlane,
        namespace: &Namespace<'_>,
        account: &str,
        program: &Path,
        words: &[&str],
    ) -> Self {
        let files = Scratch::new();
        let folder = files.path().join("serviceaccount");
        fs::create_dir(&folder).expect("the folder is ours");
        let token = plane.token_of(namespace.name(), account).await;
        fs::write(folder.join("token"), token).expect("the folder is ours");
        fs::write(folder.join("ca.crt"), plane.authority()).expect("the folder is ours");
        fs::write(folder.join("namespace"), namespace.name()).expect("the folder is ours");
        let (host, port) = plane.address();
        let mut command = guarded::command("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--mount", "sh", "-c", POD, "sh"])
            .arg(&folder)
            .arg(program)
            .args(words)
            .env("KUBERNETES_SERVICE_HOST", host)
            .env("KUBERNETES_SERVICE_PORT", port)
            .env_remove("POD_NAMESPACE");
        let mut process = Logged::spawn(&mut command).expect("the shell is there");
        let serves = |log: &str| log.contains("HTTP server serving").then_some(());
        process.shows("it serves HTTP", serves).await;
        Self {
            process,
            _files: files,
        }
    }

    /// Everything it has printed so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// As [`Logged::memory`].
    pub fn memory(&self) -> usize {
        self.process.memory()
    }

    /// As [`Logged::most_memory`].
    pub fn most_memory(&self) -> usize {
        self.process.most_memory()
    }

    /// Where it listens on 127.0.0.1: the plain port.
    ///
    /// # Panics
    /// If it does not say.
    pub fn port(&self) -> u16 {
        self.port_after("HTTP server serving")
    }

    /// The port of its metrics.
    ///
    /// # Panics
    /// If it does not say.
    pub fn metrics_port(&self) -> u16 {
        self.port_after("HTTP metrics server serving")
    }

    fn port_after(&self, words: &str) -> u16 {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(words));
        let address = line.and_then(|line| line.split("127.0.0.1:").nth(1));
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect();
        let digits: String = address.map(digits).unwrap_or_default();
        digits.parse().expect("it says where it listens")
    }

    /// Asks it to end, and waits.
    pub fn stop(self) -> Option<i32> {
        self.process.stop()
    }
}
