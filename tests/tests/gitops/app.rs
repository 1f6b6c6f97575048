//! A namespace with a controller, and a repository that Flux applies.

use std::process::Command;

use kube::ResourceExt as _;
use serde_json::Value;
use shared::manifest;
use shared::resource::SealedSecret;
use tests::binaries;
use tests::control_plane::ControlPlane;
use tests::flux::{Flux, Outcome, Repository, Sync};
use tests::operators::run_successfully;
use tokio::sync::OnceCell;

use crate::site::Site;

/// The interval at which Flux fetches the repository on its own, longer than any test.
const INTERVAL: &str = "1h";

/// A [`Site`], and a repository that Flux applies.
pub(crate) struct App {
    pub(crate) site: Site,
    repository: Repository,
}

impl App {
    pub(crate) async fn new(purpose: &str) -> Self {
        let site = Site::new(purpose).await;
        let flux = flux(site.plane).await;
        let repository = flux.repository(site.namespace.name());
        Self { site, repository }
    }

    /// Writes a SealedSecret to the work tree.
    pub(crate) fn write(&self, sealed: &SealedSecret) {
        let path = format!("{}.yaml", sealed.name_any());
        let text = manifest::to_yaml(&sealed.to_document());
        self.repository.write(&path, &text);
    }

    /// Writes an object of another kind to the work tree.
    pub(crate) fn write_object(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().expect("a name");
        // Flux reads files with this extension. JSON is YAML.
        let path = format!("{name}.yaml");
        self.repository.write(&path, &object.to_string());
    }

    /// Makes Flux apply the work tree, and waits until all objects are up to date.
    pub(crate) async fn sync(&self) -> Sync {
        let commit = self.repository.push("Begin");
        let sync = Sync::create(&self.site.namespace, "app", &self.repository, INTERVAL).await;
        let outcome = sync.outcome(&commit).await;
        assert!(outcome.is_ready, "{outcome:?}");
        sync
    }

    /// Commits and pushes the work tree; returns the outcome that Flux reports for the commit.
    pub(crate) async fn push(&self, sync: &Sync, subject: &str) -> Outcome {
        sync.outcome(&self.repository.push(subject)).await
    }

    /// Runs `seal` in the work tree; returns its stdout.
    pub(crate) fn seal(&self, args: &[&str]) -> String {
        let namespace = self.site.namespace.name();
        let mut command = Command::new(binaries::seal());
        command
            .env("KUBECONFIG", self.site.plane.kubeconfig())
            .env("SEALED_SECRETS_CONTROLLER_NAMESPACE", namespace)
            .current_dir(self.repository.tree())
            .args(args);
        run_successfully(&mut command)
    }
}

/// Returns the Flux instance of this test process; the first call starts it.
async fn flux(plane: &ControlPlane) -> &'static Flux {
    static FLUX: OnceCell<Flux> = OnceCell::const_new();
    FLUX.get_or_init(|| Flux::start(plane)).await
}
