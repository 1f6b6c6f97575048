//! Runs the provider, and writes its log to stderr.

use std::sync::Arc;

use agent::authority::Authority;
use anyhow::Result;
use node::client;
use node::metrics::Metrics;
use node::server::{self, Settings};

use super::Node;
use crate::port::listen;
use crate::report;

/// Runs until a signal asks the process to stop, or checks one that runs.
///
/// # Errors
///
/// Fails if the arguments cannot be used, or no provider answers.
pub fn run(args: &Node) -> Result<()> {
    if args.check {
        client::check(&args.socket)?;
    } else {
        let metrics = Arc::<Metrics>::default();
        let _port = listen(args.listen, metrics.clone())?;
        server::run(Settings {
            socket: args.socket.clone(),
            server: args.server.clone(),
            authority: Authority::File(args.ca_file.clone()),
            metrics,
            log: report::info_lines,
        })?;
    }
    Ok(())
}
