//! Connects to the API server.

use std::path::Path;
use std::time::Duration;

use connect::Connections;
use http::{HeaderValue, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::RunError;

/// The file with the namespace of the Pod.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// The maximum duration of a watch, in seconds.
pub(super) const WATCH_SECONDS: u32 = 240;
/// Timeout of a connection on which no data arrives: longer than a watch.
const MAX_SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
/// Timeout for TCP and TLS connections.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("seal-restart/", env!("CARGO_PKG_VERSION"));

/// Builds a client for the cluster of a kubeconfig, or of this Pod. Sends no request.
pub(super) async fn client(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<Client, RunError> {
    let mut config = config(kubeconfig, context).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(MAX_SILENCE);
    config
        .headers
        .push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    let connections = Connections::new(&config).map_err(client_error)?;
    let builder = connections.client_builder(&config).map_err(client_error)?;
    Ok(builder.build())
}

async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, RunError> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let Some(path) = kubeconfig else {
        return Config::incluster().map_err(RunError::NoCluster);
    };
    let to_error = |source| RunError::Kubeconfig {
        path: path.display().to_string(),
        source: Box::new(source),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(to_error)?;
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(to_error)
}

fn client_error(error: kube::Error) -> RunError {
    RunError::Client(Box::new(error))
}

/// Returns the namespace of this Pod: `POD_NAMESPACE` (`variable`) or, if it is not set, the namespace of the service
/// account; `default` if the result is empty.
pub(super) fn own_namespace(variable: Option<&str>) -> String {
    let file = || std::fs::read_to_string(OWN_NAMESPACE).ok();
    let namespace = variable
        .map(str::to_owned)
        .or_else(file)
        .unwrap_or_default();
    match namespace.trim() {
        "" => "default".into(),
        namespace => namespace.into(),
    }
}
