//! The port with metrics and a probe, which `--listen` opens.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use probes::{Server, Status};

use crate::failure::Failure;

/// Listens on this address, if there is one. The port closes when the result is dropped.
pub(crate) fn listen(
    address: Option<SocketAddr>,
    status: Arc<dyn Status>,
) -> Result<Option<Server>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address);
    let server = listener.and_then(|listener| Server::start(listener, status));
    let message = format!("cannot listen on {address}");
    server
        .map(Some)
        .context(Failure::new(message).hint("choose another address with --listen"))
}
