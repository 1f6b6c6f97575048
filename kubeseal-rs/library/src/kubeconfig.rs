//! Reads the namespace from the user's kubeconfig, without a Kubernetes client. Sealing for a certificate file needs no
//! other data from the kubeconfig.
//!
//! Files and precedence are those of client-go: `--kubeconfig`, else the list in `KUBECONFIG`, else
//! `~/.kube/config`, else the Pod's service account. If several files set a value, the first one applies.
//! Clusters and users are not read.

use std::path::{Path, PathBuf};

use shared::manifest::{self, Node, ReadError, Value};

use crate::bounded::Kind;
use crate::environment::Environment;
use crate::files::{self, FileError};
use crate::shown::ShowPath as _;

/// Flags that select the kubeconfig and its context.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The value of `--kubeconfig`.
    pub file: Option<PathBuf>,
    /// The value of `--context`.
    pub context: Option<String>,
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file cannot be read.
    #[error(
        "cannot read the kubeconfig\nhint: pass --namespace, so that the kubeconfig is not needed"
    )]
    File(#[from] FileError),
    /// A file is not valid YAML.
    #[error("the kubeconfig {} is malformed\nhint: pass --namespace, so that the kubeconfig is not needed", path.shown())]
    Malformed {
        /// The malformed file.
        path: PathBuf,
        /// The parser's error.
        source: ReadError,
    },
    /// A file is valid YAML but not a kubeconfig.
    #[error("{} is not a kubeconfig\nhint: pass --namespace, which makes a kubeconfig unnecessary", .0.shown())]
    NotKubeconfig(PathBuf),
    /// No file contains the context.
    #[error(
        "context {0:?} does not exist in the kubeconfig\n\
         hint: list the contexts with `kubectl config get-contexts`, or pass --namespace, so that the kubeconfig is \
         not needed"
    )]
    NoSuchContext(String),
}

/// Returns the namespace of the chosen context, or `default` if the context has none. If no context is chosen, returns
/// the namespace of the Pod in which the program runs; `None` outside a Pod.
///
/// # Errors
///
/// Fails if the file of `--kubeconfig` or the context does not exist, or if a file cannot be read or is malformed.
pub fn namespace(
    choice: &Choice,
    environment: &Environment,
) -> Result<Option<String>, KubeconfigError> {
    let configs = load(choice, environment)?;
    let from_context = namespace_in(&configs, choice.context.as_deref())?;
    Ok(from_context.or_else(|| pod_namespace(environment)))
}

/// Returns the namespace from parsed kubeconfigs, or `None` if no context is chosen.
fn namespace_in(
    configs: &[Node],
    context: Option<&str>,
) -> Result<Option<String>, KubeconfigError> {
    let current = || {
        configs
            .iter()
            .find_map(|config| nonempty_text(config, "current-context"))
    };
    let Some(name) = context.or_else(current) else {
        return Ok(None);
    };
    let context = configs.iter().find_map(|config| find_context(config, name));
    let context = context.ok_or_else(|| KubeconfigError::NoSuchContext(name.to_owned()))?;
    let namespace = context
        .field("context")
        .and_then(|c| nonempty_text(c, "namespace"));
    Ok(Some(namespace.unwrap_or("default").to_owned()))
}

/// Returns the namespace of the current context from the text of one kubeconfig; `None` if it has no current context.
///
/// # Errors
///
/// Fails if the text is malformed, or the current context does not exist.
pub fn namespace_of_text(text: &[u8]) -> Result<Option<String>, KubeconfigError> {
    namespace_in(&roots(text, Path::new("-"))?, None)
}

fn load(choice: &Choice, environment: &Environment) -> Result<Vec<Node>, KubeconfigError> {
    if let Some(path) = &choice.file {
        return parse(path);
    }
    let mut configs = Vec::new();
    for path in default_files(environment)
        .iter()
        .filter(|path| path.exists())
    {
        configs.extend(parse(path)?);
    }
    Ok(configs)
}

/// Returns the kubeconfig files that apply without `--kubeconfig`: those of `$KUBECONFIG`, else `~/.kube/config`.
pub fn default_files(environment: &Environment) -> Vec<PathBuf> {
    match environment.nonempty_variable("KUBECONFIG") {
        Some(list) => std::env::split_paths(&list)
            .filter(|p| !p.as_os_str().is_empty())
            .collect(),
        None => environment
            .home()
            .map(|home| home.join(".kube/config"))
            .into_iter()
            .collect(),
    }
}

fn parse(path: &Path) -> Result<Vec<Node>, KubeconfigError> {
    roots(&files::read_as(path, Kind::Settings)?, path)
}

fn roots(text: &[u8], path: &Path) -> Result<Vec<Node>, KubeconfigError> {
    let documents = manifest::read(text).map_err(|source| KubeconfigError::Malformed {
        path: path.to_owned(),
        source,
    })?;
    let roots: Vec<Node> = documents
        .into_iter()
        .take(1)
        .map(|document| document.root)
        .collect();
    if roots
        .iter()
        .any(|root| !matches!(root.value, Value::Map(_)))
    {
        return Err(KubeconfigError::NotKubeconfig(path.to_owned()));
    }
    Ok(roots)
}

fn find_context<'a>(config: &'a Node, name: &str) -> Option<&'a Node> {
    match &config.field("contexts")?.value {
        Value::List(contexts) => contexts.iter().find(|c| c.text("name") == Some(name)),
        _ => None,
    }
}

fn nonempty_text<'a>(node: &'a Node, field: &str) -> Option<&'a str> {
    node.text(field).filter(|text| !text.is_empty())
}

/// Returns the namespace in a Pod: `POD_NAMESPACE`, else the service account's namespace, else `default`. `None`
/// outside a Pod.
fn pod_namespace(environment: &Environment) -> Option<String> {
    let directory = environment.service_account_directory();
    environment.nonempty_variable("KUBERNETES_SERVICE_HOST")?;
    environment.nonempty_variable("KUBERNETES_SERVICE_PORT")?;
    if !directory.join("token").exists() {
        return None;
    }
    let from_file = || {
        let text = files::read_as(&directory.join("namespace"), Kind::Settings).ok()?;
        let text = std::str::from_utf8(&text).ok()?;
        Some(text.trim().to_owned()).filter(|namespace| !namespace.is_empty())
    };
    let namespace = environment
        .nonempty_variable("POD_NAMESPACE")
        .or_else(from_file);
    Some(namespace.unwrap_or_else(|| "default".into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONFIG: &str = "
current-context: a
contexts:
- name: a
  context: {cluster: c, namespace: shop}
- name: b
  context: {cluster: c}
";

    fn find(text: &str, context: Option<&str>) -> Result<Option<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        fs::write(&file, text).unwrap();
        let choice = Choice {
            file: Some(file),
            context: context.map(str::to_owned),
        };
        namespace(&choice, &Environment::of_this_process()).map_err(|e| e.to_string())
    }

    #[test]
    fn finds_the_namespace_of_the_context() {
        for (why, text, context, want) in [
            ("the current context", CONFIG, None, Some("shop")),
            (
                "another context, without namespace",
                CONFIG,
                Some("b"),
                Some("default"),
            ),
            ("an empty file", "", None, None),
            ("no current context", "contexts: []", None, None),
        ] {
            assert_eq!(find(text, context), Ok(want.map(str::to_owned)), "{why}");
        }
    }

    #[test]
    fn errors_name_the_problem_of_the_file() {
        for (text, context, want) in [
            (CONFIG, Some("c"), "context \"c\" does not exist"),
            ("just text", None, "is not a kubeconfig"),
            ("a: [", None, "is malformed"),
        ] {
            let error = find(text, context).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
