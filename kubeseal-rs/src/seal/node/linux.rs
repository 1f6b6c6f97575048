//! Runs the provider, and writes its log to stderr.

use std::path::Path;

use agent::authority::Authority;
use agent::client::ClientError;
use anyhow::{Error, Result};
use kubeseal_library::environment::Environment;
use node::client;
use node::server::{self, ServeError, Settings};
use shared::error_chain;

use super::Node;
use crate::failure::Failure;
use crate::report::{self, ShowPath as _};
use crate::seal::Outcome;

/// Runs until a signal requests termination; with `--check`, only checks a running provider.
///
/// # Errors
///
/// Fails if the arguments are invalid, or no provider responds to the check.
pub fn run(args: &Node, _: &Environment) -> Result<Outcome> {
    if args.check {
        client::check(&args.socket)?;
    } else {
        let served = server::run(Settings {
            socket: args.socket.clone(),
            server: args.server.clone(),
            authority: Authority::File(args.ca_file.clone()),
            log: report::info_lines,
        });
        served.map_err(|error| explain(error, &args.ca_file))?;
    }
    Ok(Outcome::Done)
}

/// Adds what to do if the CA certificates of the controller cannot be read.
fn explain(error: ServeError, ca_file: &Path) -> Error {
    let ServeError::Controller(ClientError::File(_) | ClientError::NoAuthority) = error else {
        return error.into();
    };
    let message = format!(
        "cannot use {} as CA certificates of the controller: {}",
        ca_file.shown(),
        error_chain(&error)
    );
    let failure = Failure::new(message)
        .hint("set `certificateConfigMap.enabled` in the chart of the controller, and mount that ConfigMap here")
        .hint("pass the file with --ca-file");
    failure.into()
}
