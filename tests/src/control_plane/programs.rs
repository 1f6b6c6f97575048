//! Where the control plane's programs come from.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{go_build, guarded};

/// The programs, each known by its original name, with its original flags.
pub(super) enum Programs {
    /// One program of ours, which plays the role that its first argument names.
    Built(PathBuf),
    /// The folder that `KUBEBUILDER_ASSETS` names.
    Assets(PathBuf),
}

impl Programs {
    /// Builds ours if nothing else is named and this machine has not built it yet, which takes
    /// minutes.
    pub(super) fn find() -> Self {
        match env::var_os("KUBEBUILDER_ASSETS") {
            Some(folder) => Self::assets(PathBuf::from(folder)),
            None => Self::Built(build()),
        }
    }

    fn assets(folder: PathBuf) -> Self {
        for name in ["etcd", "kube-apiserver"] {
            assert!(
                folder.join(name).is_file(),
                "KUBEBUILDER_ASSETS names {}, and there is no {name} in it: put it there, or unset \
                 KUBEBUILDER_ASSETS and have Go installed, with which the tests build their own",
                folder.display()
            );
        }
        Self::Assets(folder)
    }

    /// If false, nothing collects orphans, empties deleted namespaces or makes service accounts.
    pub(super) fn have_controllers(&self) -> bool {
        match self {
            Self::Built(_) => true,
            Self::Assets(folder) => folder.join("kube-controller-manager").is_file(),
        }
    }

    pub(super) fn command(&self, name: &str) -> Command {
        match self {
            Self::Built(program) => {
                let mut command = guarded::command(program);
                command.arg(name);
                command
            }
            Self::Assets(folder) => guarded::command(folder.join(name)),
        }
    }
}

/// The program of ours that plays every role, built if this machine has not built it yet, which
/// takes minutes.
///
/// # Panics
/// As [`go_build::build`].
pub fn build() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("control-plane");
    let version = kubernetes_version(include_str!("../../control-plane/go.mod"));
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap(), numbers.next().unwrap());
    // Without these the API server would report v0.0.0, and Helm charts compare that.
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
