//! Runs the real Helm with its own home directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::operators;
use tests::scratch::Scratch;

pub struct Helm {
    program: PathBuf,
    home: Scratch,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// Creates a Helm client without a cluster.
    pub fn without_cluster() -> Self {
        Self {
            program: operators::helm(),
            home: Scratch::new(),
            kubeconfig: None,
        }
    }

    /// Creates a Helm client for the cluster of a kubeconfig.
    pub fn for_cluster(kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: Some(kubeconfig.to_owned()),
            ..Self::without_cluster()
        }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, directory) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            command.env(name, self.home.path().join(directory));
        }
        match &self.kubeconfig {
            Some(path) => command.env("KUBECONFIG", path),
            None => command.env("KUBECONFIG", "/dev/null"),
        };
        command.args(args);
        command
    }

    /// Runs Helm; returns its stdout.
    pub fn run(&self, args: &[&str]) -> String {
        operators::run_successfully(&mut self.command(args))
    }

    /// Runs Helm, which must fail; returns its stderr.
    pub fn run_failing(&self, args: &[&str]) -> String {
        operators::run_expecting_failure(&mut self.command(args))
    }

    /// Writes a values file; returns its path.
    pub fn write_values(&self, text: &str) -> String {
        let mut count = 0;
        loop {
            let path = self.home.path().join(format!("values-{count}.yaml"));
            if fs::File::create_new(&path).is_ok() {
                fs::write(&path, text).unwrap();
                return path.to_str().unwrap().to_owned();
            }
            count += 1;
        }
    }
}

/// Returns the path of the chart in `deploy`.
pub fn chart() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/sealed-secrets");
    path.to_str().unwrap().to_owned()
}
