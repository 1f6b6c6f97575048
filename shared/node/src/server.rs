//! The gRPC server on the socket.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::authority::Authority;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::calls;
use crate::controller::{Controller, MAX_MOUNTS, MAX_REQUESTS};
use crate::frame::Message;
use crate::metrics::Metrics;
use crate::socket::{Socket, SocketError};

/// The maximum number of connections. The driver opens one.
const MAX_CONNECTIONS: usize = 16;
/// The maximum number of concurrent calls of a connection; the driver queues further calls, without regard to namespaces.
/// So there are more than mounts that can wait: calls beyond those are refused immediately.
const MAX_CALLS: u32 = 128;
const _: () = assert!(MAX_CALLS as usize > MAX_MOUNTS);
/// The maximum size of the headers of a call.
const MAX_HEADERS: u32 = 16 << 10;
/// The time limit for the HTTP/2 handshake of a connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for calls in progress after SIGTERM, shorter than the default grace period of a Pod.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an idle thread or connection is kept: its memory can contain values until it ends. The driver opens a new
/// connection for its next call.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// The stack size of the thread of a request.
const STACK_SIZE: usize = 1 << 20;

/// The settings of the server.
#[derive(Debug)]
pub struct Settings {
    /// The path of the socket: `sealed.sock` in the driver's directory for providers.
    pub socket: PathBuf,
    /// The URL of the controller's TLS port.
    pub server: String,
    /// The CA certificates of that port.
    pub authority: Authority,
    /// Counts requests and mounts.
    pub metrics: Arc<Metrics>,
    /// Receives log messages, each of one line.
    pub log: fn(&str),
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings for the controller are invalid.
    #[error(transparent)]
    Controller(#[from] agent::client::ClientError),
    /// The socket cannot be created.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A system call of the server failed.
    #[error("cannot serve the socket")]
    System(#[from] io::Error),
}

/// Serves until SIGTERM or SIGINT, and then finishes the calls in progress.
///
/// # Errors
///
/// Fails if the settings are invalid or the socket cannot be created.
pub fn run(settings: Settings) -> Result<(), ServeError> {
    let controller = Controller::new(settings.server, settings.authority, settings.metrics)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // One more thread checks at the start whether the controller can be reached.
        .max_blocking_threads(MAX_REQUESTS + 1)
        .thread_keep_alive(IDLE_TIMEOUT)
        .thread_stack_size(STACK_SIZE)
        .build()?;
    let (socket, listener) = Socket::bind(&settings.socket)?;
    let result = runtime.block_on(serve(listener, socket, controller, settings.log));
    // Abandons requests whose callers no longer wait.
    runtime.shutdown_background();
    Ok(result?)
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    socket: Socket,
    controller: Controller,
    log: fn(&str),
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let controller = Arc::new(controller);
    tokio::task::spawn_blocking({
        let controller = Arc::clone(&controller);
        move || report_unreachable(&controller, log)
    });
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [terminate, interrupt] = signals;
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    log("serving");
    tokio::select! {
        () = accept(listener, controller, &mut connections, &stopping, log) => {}
        () = wait_for_signal(terminate?, interrupt?) => {}
    }
    drop(socket);
    log("stopping");
    let _ = stop.send(());
    let end = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, end).await;
    Ok(())
}

/// Logs once if the controller does not respond. The controller may start later, so the process continues.
fn report_unreachable(controller: &Controller, log: fn(&str)) {
    if let Err(error) = controller.reach() {
        let why = agent::poll::error_chain(&error);
        log(&format!("Pods wait for their volumes: {why}"));
    }
}

async fn wait_for_signal(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Accepts connections, and never returns.
async fn accept(
    listener: UnixListener,
    controller: Arc<Controller>,
    connections: &mut JoinSet<()>,
    stopping: &watch::Receiver<()>,
    log: fn(&str),
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            // Probably no file descriptor is left.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (controller, stopping) = (Arc::clone(&controller), stopping.clone());
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let _slot = slot;
            serve_connection(stream, &controller, stopping, log).await;
        });
    }
}

async fn serve_connection(
    stream: UnixStream,
    controller: &Arc<Controller>,
    mut stopping: watch::Receiver<()>,
    log: fn(&str),
) {
    let handshake = connection_builder().handshake::<_, Message>(stream);
    let Ok(Ok(mut connection)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await else {
        return;
    };
    let mut calls = JoinSet::new();
    let mut is_ending = false;
    loop {
        tokio::select! {
            call = connection.accept() => {
                let Some(Ok((request, respond))) = call else {
                    return;
                };
                calls.spawn(calls::serve(request, respond, Arc::clone(controller), log));
            }
            Some(_) = calls.join_next() => {}
            () = tokio::time::sleep(IDLE_TIMEOUT), if calls.is_empty() && !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
            }
            Ok(()) = stopping.changed(), if !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
            }
        }
    }
}

fn connection_builder() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(MAX_CALLS)
        .max_header_list_size(MAX_HEADERS);
    builder
}

#[cfg(test)]
mod tests;
