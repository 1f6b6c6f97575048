//! The program that a kubeconfig names to get credentials with.
//!
//! `kube` starts it as the system finds it, in relative folders of `PATH` too. So it is found here, by the
//! rule for every other program, and handed on as an absolute path.

use std::path::Path;

use kube::config::AuthInfo;

use super::ClusterError;
use crate::programs;

/// The old way to name a program: `user.auth-provider.config.cmd-path`.
const PROVIDER_PROGRAM: &str = "cmd-path";

/// Replaces the names of programs by absolute paths. `relative` is the file that the user's entry is from, if
/// a variable names it by a relative path.
///
/// # Errors
///
/// There is no such program, or it is whoever wrote the current folder who names it.
pub(super) fn settle(user: &mut AuthInfo, relative: Option<&Path>) -> Result<(), ClusterError> {
    let exec = user.exec.as_mut().and_then(|exec| exec.command.as_mut());
    let provider = user.auth_provider.as_mut();
    let provider = provider.and_then(|provider| provider.config.get_mut(PROVIDER_PROGRAM));
    for name in exec.into_iter().chain(provider) {
        if let Some(file) = relative {
            return Err(ClusterError::PlugInOfFolder {
                name: name.clone(),
                file: file.to_owned(),
            });
        }
        let found = programs::find(name).and_then(|path| path.into_os_string().into_string().ok());
        *name = found.ok_or_else(|| ClusterError::NoPlugIn(name.clone()))?;
    }
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settled(user: Value, relative: Option<&str>) -> Result<Value, String> {
        let mut user: AuthInfo = serde_json::from_value(user).unwrap();
        settle(&mut user, relative.map(Path::new)).map_err(|error| error.to_string())?;
        let provider = user
            .auth_provider
            .and_then(|p| p.config.get("cmd-path").cloned());
        Ok(json!([user.exec.and_then(|exec| exec.command), provider]))
    }

    fn exec(command: &str) -> Value {
        json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command}})
    }

    fn provider(command: &str) -> Value {
        json!({"auth-provider": {"name": "gcp", "config": {"cmd-path": command}}})
    }

    /// Attack: a file in the current folder has the name of a credential plug-in, and `PATH` has a relative
    /// folder in it.
    #[test]
    fn a_plug_in_is_found_by_absolute_paths_only() {
        for entry in [exec, provider] {
            let found = settled(entry("sh"), None).unwrap().to_string();
            assert!(found.contains("/sh\""), "{found}");
            for name in ["./sh", "bin/sh", "no-such-program-anywhere", ""] {
                let error = settled(entry(name), None).unwrap_err();
                assert!(error.contains("absolute"), "{name}: {error}");
            }
        }
    }

    /// Attack: `KUBECONFIG` is a relative path, and the folder holds a kubeconfig of its author's.
    #[test]
    fn a_kubeconfig_of_the_current_folder_runs_no_plug_in() {
        for entry in [exec("/bin/sh"), provider("sh")] {
            let error = settled(entry, Some("kubeconfig")).unwrap_err();
            assert!(error.contains("--kubeconfig"), "{error}");
        }
        assert_eq!(
            settled(json!({"token": "x"}), Some("kubeconfig")),
            Ok(json!([null, null]))
        );
    }
}
