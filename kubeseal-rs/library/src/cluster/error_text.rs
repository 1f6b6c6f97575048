//! Formats errors of `kube` without secrets. `kube` itself would print the whole output of an exec
//! plug-in, and lines of a malformed kubeconfig, which may contain tokens.

use std::error::Error;
use std::path::Path;
use std::process::ExitStatus;

use kube::client::AuthError;
use kube::config::KubeconfigError;
use shared::error_chain;

use super::ClusterError;
use crate::programs::first_line;

/// Describes a failure of the client or of a request.
pub(super) fn error_text(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(auth_error) = error.downcast_ref::<AuthError>() {
            return auth_failure(auth_error);
        }
        cause = error.source();
    }
    error_chain(error)
}

const PLUG_IN: &str = "the exec plug-in of the kubeconfig";

/// Describes a failed plug-in: exit status and first line of stderr, escaped and truncated.
pub(super) fn plug_in_failure(status: ExitStatus, stderr: &[u8]) -> String {
    let stderr = first_line(stderr);
    format!("{PLUG_IN} failed, {status}: {stderr:?}")
}

fn auth_failure(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecStart(cause) => format!("cannot start {PLUG_IN}: {cause}"),
        AuthError::AuthExecRun { out, .. } => plug_in_failure(out.status, &out.stderr),
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            format!("{PLUG_IN} did not output an ExecCredential with a token or certificate")
        }
        other => error_chain(other),
    }
}

/// Describes a kubeconfig that cannot be used.
pub(super) fn kubeconfig_error(path: &Path, error: KubeconfigError) -> ClusterError {
    let path = path.to_owned();
    match error {
        KubeconfigError::ReadConfig(source, _) => ClusterError::Unreadable {
            content: "kubeconfig",
            path,
            source,
        },
        KubeconfigError::Parse(_) => ClusterError::MalformedKubeconfig(path),
        other => ClusterError::Kubeconfig(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Attack: a reader of logs finds secrets in the error about a failing credential plug-in or a malformed
    /// kubeconfig.
    #[test]
    fn shows_neither_the_stdout_of_a_plug_in_nor_a_line_of_the_kubeconfig() {
        let script = "echo canary-token; echo log in first >&2; exit 3";
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        let error = AuthError::AuthExecRun {
            cmd: "sh -c canary-argument".into(),
            out: Box::new(output),
        };
        let text = error_text(&kube::Error::Auth(error));
        assert!(
            text.contains("log in first") && !text.contains("canary"),
            "{text}"
        );

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, "users: [{name: a, user: {token: canary-token\n").unwrap();
        let error = kube::config::Kubeconfig::read_from(&path).unwrap_err();
        assert!(
            error_chain(&error).contains("canary"),
            "kube's own text quotes the kubeconfig"
        );
        let text = error_chain(&kubeconfig_error(&path, error));
        assert!(
            text.contains("malformed") && !text.contains("canary"),
            "{text}"
        );
    }
}
