//! Runs the provider, and writes its log to stderr.

use std::path::Path;
use std::sync::Arc;

use agent::authority::Authority;
use agent::client::ClientError;
use anyhow::{Error, Result};
use node::client;
use node::metrics::Metrics;
use node::server::{self, ServeError, Settings};
use text::{error_chain, shown};

use super::Node;
use crate::failure::Failure;
use crate::port::listen;
use crate::report;

/// Runs until a signal requests termination; with `--check`, only checks a running provider.
///
/// # Errors
///
/// Fails if the arguments cannot be used or the socket cannot be served; with `--check`, if no provider responds.
pub fn run(args: &Node) -> Result<()> {
    if args.check {
        return Ok(client::check(&args.socket)?);
    }
    let metrics = Arc::<Metrics>::default();
    let _port = listen(args.listen, metrics.clone())?;
    let served = server::run(Settings {
        socket: args.socket.clone(),
        server: args.server.clone(),
        authority: Authority::File(args.ca_file.clone()),
        metrics,
        log: report::info_lines,
    });
    served.map_err(|error| explain(error, &args.ca_file))
}

/// Adds hints if the CA certificates of the controller cannot be read.
fn explain(error: ServeError, ca_file: &Path) -> Error {
    let ServeError::Controller(ClientError::File(_) | ClientError::NoAuthority) = error else {
        return error.into();
    };
    let message = format!(
        "cannot use {} as CA certificates of the controller: {}",
        shown(&ca_file.display().to_string()),
        error_chain(&error)
    );
    let failure = Failure::new(message)
        .hint("set `certificateConfigMap.enabled` in the chart of the controller, and mount that ConfigMap here")
        .hint("pass the file with --ca-file");
    failure.into()
}
