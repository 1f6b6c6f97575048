//! Finds the credential plug-in that a kubeconfig names.
//!
//! `kube` leaves the search to the operating system, which also searches relative directories of `PATH`. So the plug-in
//! is looked up here, like every other program, and passed on as an absolute path.

use std::path::Path;

use kube::config::AuthInfo;

use super::ClusterError;
use crate::programs;

/// The deprecated field for the program: `user.auth-provider.config.cmd-path`.
const PROVIDER_PROGRAM: &str = "cmd-path";

/// Replaces program names with absolute paths. `relative` is the file of the user's entry, if an
/// environment variable names that file by a relative path.
///
/// # Errors
///
/// Fails if a program does not exist, or if the entry names a program and `relative` is set: the author of the current
/// directory may have chosen the program.
pub(super) fn resolve(user: &mut AuthInfo, relative: Option<&Path>) -> Result<(), ClusterError> {
    let exec = user.exec.as_mut().and_then(|exec| exec.command.as_mut());
    let provider = user.auth_provider.as_mut();
    let provider = provider.and_then(|provider| provider.config.get_mut(PROVIDER_PROGRAM));
    for name in exec.into_iter().chain(provider) {
        if let Some(file) = relative {
            return Err(ClusterError::PlugInOfDirectory {
                name: name.clone(),
                file: file.to_owned(),
            });
        }
        let path = programs::find(name).and_then(|path| path.into_os_string().into_string().ok());
        *name = path.ok_or_else(|| ClusterError::NoPlugIn(name.clone()))?;
    }
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolve_user(user: Value, relative: Option<&str>) -> Result<Value, String> {
        let mut user: AuthInfo = serde_json::from_value(user).unwrap();
        resolve(&mut user, relative.map(Path::new)).map_err(|error| error.to_string())?;
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

    /// Attack: an attacker puts a program where the relative path of a credential plug-in leads, so that the program is
    /// run.
    #[test]
    fn finds_a_plug_in_only_in_absolute_directories() {
        let existing = format!("{}bin/sh", "../".repeat(40));
        for entry in [exec, provider] {
            let resolved = resolve_user(entry("sh"), None).unwrap().to_string();
            assert!(resolved.contains("/sh\""), "{resolved}");
            for name in ["./sh", "bin/sh", &existing, "no-such-program-anywhere", ""] {
                let error = resolve_user(entry(name), None).unwrap_err();
                assert!(error.contains("absolute"), "{name}: {error}");
            }
        }
    }

    /// Attack: an attacker puts a kubeconfig with a plug-in into the current directory of a user whose `KUBECONFIG` is
    /// a relative path, so that the user's command runs the plug-in.
    #[test]
    fn refuses_the_plug_in_of_a_kubeconfig_with_a_relative_path() {
        for entry in [exec("/bin/sh"), provider("sh")] {
            let error = resolve_user(entry, Some("kubeconfig")).unwrap_err();
            assert!(error.contains("--kubeconfig"), "{error}");
        }
        assert_eq!(
            resolve_user(json!({"token": "x"}), Some("kubeconfig")),
            Ok(json!([null, null]))
        );
    }
}
