//! Runs the provider, and writes its log to stderr.

use agent::authority::Authority;
use anyhow::Result;
use kubeseal_library::environment::Environment;
use node::client;
use node::server::{self, Settings};

use super::Node;
use crate::report;
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
        server::run(Settings {
            socket: args.socket.clone(),
            server: args.server.clone(),
            authority: Authority::File(args.ca_file.clone()),
            log: report::info_lines,
        })?;
    }
    Ok(Outcome::Done)
}
