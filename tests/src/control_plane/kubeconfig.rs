//! Creates and reads the kubeconfigs with which tests reach the control plane.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

/// Creates a kubeconfig with one cluster, one user with a token, and one context.
pub(super) fn new(server: &str, authority: &Path, token: &str) -> Kubeconfig {
    let cluster = json!({ "server": server, "certificate-authority": authority });
    let context = json!({ "cluster": "tests", "user": "tests" });
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "tests", "cluster": cluster }],
        "users": [{ "name": "tests", "user": { "token": token } }],
        "contexts": [{ "name": "tests", "context": context }],
        "current-context": "tests",
    });
    serde_json::from_value(value).expect("the shape of a kubeconfig")
}

/// Creates a kubeconfig with the clusters and the current context of the file `path`, but with this token.
pub(super) fn with_token(path: &Path, token: &str) -> Kubeconfig {
    let mut kubeconfig = read(path);
    let current = kubeconfig.current_context.clone();
    kubeconfig
        .contexts
        .retain(|context| Some(&context.name) == current.as_ref());
    for context in kubeconfig
        .contexts
        .iter_mut()
        .filter_map(|entry| entry.context.as_mut())
    {
        context.user = Some("tests".to_owned());
    }
    let users = json!([{ "name": "tests", "user": { "token": token } }]);
    kubeconfig.auth_infos = serde_json::from_value(users).expect("the shape of users");
    kubeconfig
}

/// Creates a kubeconfig with the users of the file `path`, for clients that reach the API server at the URL `server`.
/// The result contains the CA certificate instead of the path of its file.
pub(super) fn for_server(path: &Path, server: &str, authority: &[u8]) -> Kubeconfig {
    let mut kubeconfig = read(path);
    let clusters = kubeconfig.clusters.iter_mut();
    for cluster in clusters.filter_map(|entry| entry.cluster.as_mut()) {
        cluster.server = Some(server.to_owned());
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = Some(STANDARD.encode(authority));
    }
    kubeconfig
}

/// Returns the kubeconfig as JSON, which is also YAML.
pub(super) fn text(kubeconfig: &Kubeconfig) -> String {
    serde_json::to_string(kubeconfig).expect("a kubeconfig is plain data")
}

pub(super) fn read(path: &Path) -> Kubeconfig {
    Kubeconfig::read_from(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Creates a configuration without `kube`'s own retries, so that tests see every response.
pub(super) async fn config(kubeconfig: Kubeconfig) -> Config {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.unwrap_or_else(|error| panic!("cannot use the kubeconfig: {error}"));
    config.default_retry = false;
    config
}
