//! Flux's source-controller and kustomize-controller as processes, and a Git server from which they read.

mod git;
mod programs;
mod sync;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::control_plane::ControlPlane;
use crate::control_plane::process::Process;
use crate::guarded;
use crate::http;
use crate::patience;
use crate::scratch::Scratch;

pub use git::{GitServer, Repository};
pub use sync::{Outcome, Sync};

/// Running controllers, which work in all namespaces as cluster administrators. Dropping this value stops them.
pub struct Flux {
    git: GitServer,
    _source: Process,
    _kustomize: Process,
    _scratch: Scratch,
}

impl Flux {
    /// Installs Flux's custom resource definitions in the cluster, and starts the controllers and the Git server. The
    /// first start on a machine builds them, which takes minutes.
    ///
    /// # Panics
    /// Panics with instructions if Git or Go is not installed.
    pub async fn start(plane: &ControlPlane) -> Self {
        let scratch = Scratch::new();
        let git = GitServer::start(&scratch);
        for definition in programs::definitions() {
            plane.install(&definition).await;
        }
        let mut source = start_source(plane.kubeconfig(), &scratch);
        let mut kustomize = start_kustomize(plane.kubeconfig(), &scratch);
        wait_until_working(&mut source).await;
        wait_until_working(&mut kustomize).await;
        Self {
            git,
            _source: source,
            _kustomize: kustomize,
            _scratch: scratch,
        }
    }

    /// Creates an empty repository with this name.
    pub fn repository(&self, name: &str) -> Repository {
        self.git.repository(name)
    }
}

/// Starts `source-controller`, which fetches repositories and serves their content to `kustomize-controller`.
fn start_source(kubeconfig: &Path, scratch: &Scratch) -> Process {
    let storage = scratch.path().join("artifacts");
    fs::create_dir(&storage).expect("a writable directory");
    let address = format!("127.0.0.1:{}", http::free_port());
    let mut command = command("source-controller", kubeconfig, scratch);
    command
        .arg(format!("--storage-path={}", storage.display()))
        .arg(format!("--storage-addr={address}"))
        .arg(format!("--storage-adv-addr={address}"));
    Process::start("source-controller", command, scratch)
}

/// Starts `kustomize-controller`, which applies the content that `source-controller` fetched.
fn start_kustomize(kubeconfig: &Path, scratch: &Scratch) -> Process {
    let command = command("kustomize-controller", kubeconfig, scratch);
    Process::start("kustomize-controller", command, scratch)
}

async fn wait_until_working(process: &mut Process) {
    patience::until("a controller of Flux has started its workers", async || {
        process.assert_running();
        process.log().contains("Starting workers").then_some(())
    })
    .await;
}

fn command(name: &str, kubeconfig: &Path, scratch: &Scratch) -> Command {
    let mut command = guarded::command(programs::build(name));
    command
        .args(["--enable-leader-election=false", "--events-addr="])
        .args(["--metrics-addr=0", "--health-addr=0"])
        .env("KUBECONFIG", kubeconfig)
        .env("RUNTIME_NAMESPACE", "flux-system")
        .env("HOME", scratch.path())
        .env("TMPDIR", scratch.path());
    command
}
