//! Finds or builds the programs of the control plane.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{go_build, guarded};

/// The programs, with their original names and flags.
pub(super) enum Programs {
    /// The program of `tests/control-plane`, which contains all of these programs; its first argument selects one.
    Built(PathBuf),
    /// The directory in `KUBEBUILDER_ASSETS`.
    Assets(PathBuf),
}

impl Programs {
    /// Finds the programs: those in `KUBEBUILDER_ASSETS`, or else the program of `tests/control-plane`, whose first
    /// build takes minutes.
    pub(super) fn find() -> Self {
        match env::var_os("KUBEBUILDER_ASSETS") {
            Some(directory) => Self::assets(PathBuf::from(directory)),
            None => Self::Built(build()),
        }
    }

    fn assets(directory: PathBuf) -> Self {
        for name in ["etcd", "kube-apiserver"] {
            assert!(
                directory.join(name).is_file(),
                "KUBEBUILDER_ASSETS names {}, which does not contain {name}: add it, or unset \
                 KUBEBUILDER_ASSETS and install Go, with which the tests build their own",
                directory.display()
            );
        }
        Self::Assets(directory)
    }

    /// Returns whether controllers are available. Without them, nothing collects orphans, empties deleted namespaces or
    /// creates service accounts.
    pub(super) fn has_controllers(&self) -> bool {
        match self {
            Self::Built(_) => true,
            Self::Assets(directory) => directory.join("kube-controller-manager").is_file(),
        }
    }

    pub(super) fn command(&self, name: &str) -> Command {
        match self {
            Self::Built(program) => {
                let mut command = guarded::command(program);
                command.arg(name);
                command
            }
            Self::Assets(directory) => guarded::command(directory.join(name)),
        }
    }
}

/// Returns the path of the program of `tests/control-plane`, which contains the whole control plane. The first build
/// takes minutes.
///
/// # Panics
/// Panics like [`go_build::build`].
pub fn build() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("control-plane");
    let version = kubernetes_version(include_str!("../../control-plane/go.mod"));
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap(), numbers.next().unwrap());
    // Without these values, the API server would report v0.0.0, which Helm charts compare.
    let stamps = [
        ("k8s.io/component-base/version.gitVersion", version),
        ("k8s.io/component-base/version.gitMajor", major),
        ("k8s.io/component-base/version.gitMinor", minor),
    ];
    go_build::build_stamped(&source, ".", "control-plane", &stamps)
}

fn kubernetes_version(go_mod: &str) -> &str {
    let required = go_mod
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    required.expect("go.mod requires k8s.io/kubernetes")
}
