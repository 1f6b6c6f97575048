//! Refuses files outside the directory of a kubeconfig that an environment variable names by a relative path. The author
//! of the current directory may have written this kubeconfig, and could have a token of the user sent to a server of
//! their choice. The same kubeconfig may name no credential plug-in.

use std::path::{Component, Path, PathBuf};

use kube::config::{AuthInfo, Cluster};

use super::ClusterError;

/// The files that an entry of a kubeconfig names, each with the name of its field.
type NamedFiles<'a> = [(&'static str, &'a Option<String>)];

/// Checks the files of the chosen cluster and user. `cluster_from` and `user_from` are the files of their entries, if an
/// environment variable names them by a relative path.
///
/// # Errors
///
/// Fails if such an entry names a file outside the directory of the kubeconfig.
pub(super) fn check(
    (cluster, cluster_from): (&Cluster, Option<&Path>),
    (user, user_from): (&AuthInfo, Option<&Path>),
) -> Result<(), ClusterError> {
    let authority = [("certificate-authority", &cluster.certificate_authority)];
    check_files(&authority, cluster_from)?;
    let credentials = [
        ("client-certificate", &user.client_certificate),
        ("client-key", &user.client_key),
        ("tokenFile", &user.token_file),
    ];
    check_files(&credentials, user_from)
}

/// Checks that the server of a kubeconfig that an environment variable names by a relative path gets no credentials of
/// another kubeconfig. `cluster_from` and `user_from` are as in [`check`].
///
/// # Errors
///
/// Fails if the user of the context is defined in another kubeconfig.
pub(super) fn check_user(
    cluster_from: Option<&PathBuf>,
    user_from: Option<&PathBuf>,
    has_user: bool,
) -> Result<(), ClusterError> {
    match cluster_from {
        Some(kubeconfig) if has_user && user_from != cluster_from => {
            Err(ClusterError::UserOfAnotherFile {
                kubeconfig: kubeconfig.clone(),
            })
        }
        _ => Ok(()),
    }
}

fn check_files(files: &NamedFiles<'_>, kubeconfig: Option<&Path>) -> Result<(), ClusterError> {
    let Some(kubeconfig) = kubeconfig else {
        return Ok(());
    };
    for (content, path) in files {
        let Some(path) = path.as_ref().filter(|path| !path.is_empty()) else {
            continue;
        };
        if !is_inside(kubeconfig, Path::new(path)) {
            return Err(ClusterError::FileOutsideDirectory {
                content,
                path: PathBuf::from(path),
                kubeconfig: kubeconfig.to_owned(),
            });
        }
    }
    Ok(())
}

/// Returns whether a file is in the directory of a kubeconfig or below it, after links are resolved. A file that does not
/// exist is judged by its path alone.
fn is_inside(kubeconfig: &Path, file: &Path) -> bool {
    let Ok(kubeconfig) = std::path::absolute(kubeconfig) else {
        return false;
    };
    let Some(directory) = kubeconfig.parent() else {
        return false;
    };
    match (directory.canonicalize(), file.canonicalize()) {
        (Ok(directory), Ok(file)) => file.starts_with(directory),
        _ => file.starts_with(directory) && !file.components().any(|c| c == Component::ParentDir),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn check_entry(kubeconfig: Option<&Path>, field: &str, path: &Path) -> Result<(), String> {
        let entry = json!({ field: path.display().to_string() });
        let cluster: Cluster = serde_json::from_value(entry.clone()).unwrap();
        let user: AuthInfo = serde_json::from_value(entry).unwrap();
        check((&cluster, kubeconfig), (&user, kubeconfig)).map_err(|error| error.to_string())
    }

    /// Attack: an attacker puts a kubeconfig into the current directory of a user whose `KUBECONFIG` is a relative path.
    /// It names the attacker's server and a file with a credential of the user.
    #[test]
    fn refuses_files_outside_the_directory_of_a_kubeconfig_with_a_relative_path() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("below")).unwrap();
        for file in ["token", "tree/inside", "tree/below/inside"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        let kubeconfig = tree.join("config");
        #[cfg(unix)]
        std::os::unix::fs::symlink(root.path().join("token"), tree.join("link")).unwrap();
        let fields = [
            "tokenFile",
            "client-key",
            "client-certificate",
            "certificate-authority",
        ];
        for field in fields {
            for outside in [
                root.path().join("token"),
                tree.join("../token"),
                tree.join("below/../../token"),
                root.path().join("missing"),
                tree.join("../missing"),
                #[cfg(unix)]
                tree.join("link"),
            ] {
                let error = check_entry(Some(&kubeconfig), field, &outside).unwrap_err();
                assert!(
                    error.contains(field) && error.contains("--kubeconfig"),
                    "{error}"
                );
                assert_eq!(check_entry(None, field, &outside), Ok(()));
            }
            for inside in ["inside", "below/inside", "below/../inside", "missing"] {
                let checked = check_entry(Some(&kubeconfig), field, &tree.join(inside));
                assert_eq!(checked, Ok(()), "{field} {inside}");
            }
        }
    }
}
