//! Runs the controller and sets the exit code.

use std::alloc::System;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use controller::args::{Backend, ClusterConfig, Config, EarlyExit};
use controller::cluster::{self, Cluster};
use controller::directory::{self, DirectoryController};
use controller::log;
use controller::ports::{PortError, Server, TlsPort};
use jiff::Timestamp;
use shared::error_chain;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all freed memory, since values pass through buffers of libraries: TLS, HTTP and JSON.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// How long threads that write files or generate a key may continue at shutdown. Work for objects and callers stops
/// before its next operation; a single operation that takes longer is aborted. Together with the time for open requests
/// and for releasing the leadership, this limit stays well below a Pod's grace period of 30 seconds.
const THREAD_GRACE_PERIOD: Duration = Duration::from_secs(3);
/// The longest sleep between two rounds: the time of the next round may come from a clock that was wrong.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Why the controller stopped with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Directory(#[from] directory::StartError),
    #[error(transparent)]
    Cluster(#[from] cluster::ConnectError),
    #[error(transparent)]
    Ports(#[from] PortError),
    #[error("cannot create the thread pool or the signal handlers")]
    System(#[from] std::io::Error),
}

/// Exits with 0 for help, version or a signal, with 1 if a value is invalid, the controller cannot start or the output
/// cannot be written, and with 2 if the command line cannot be parsed.
fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    let variable = |name: &str| std::env::var(name).ok();
    match Config::read(args, variable) {
        Ok(config) => run(&config),
        Err(EarlyExit::Print(text)) => print(&text),
        Err(EarlyExit::Usage(text)) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(2)
        }
        Err(EarlyExit::Invalid(messages)) => {
            for message in messages {
                let _ = writeln!(std::io::stderr(), "error: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Prints the text. Fails if the text cannot be written, except if the reader closed the pipe, as `head` does.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    let result = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "error: cannot write to stdout: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run(config: &Config) -> ExitCode {
    log::start(config.log);
    let version = env!("CARGO_PKG_VERSION");
    info!(version, "Starting sealed-secrets controller");
    for warning in &config.warnings {
        warn!("{warning}");
    }
    protect_memory();
    let result = tokio::runtime::Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| {
            let result = runtime.block_on(serve(config));
            runtime.shutdown_timeout(THREAD_GRACE_PERIOD);
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Protects the memory of the process. Must be called before keys are loaded. A process that forbids dumps
/// cannot list its own open files, unless it runs as root, so the metric `process_open_fds` is then 0.
fn protect_memory() {
    let core_dumps = if hardening::forbid_dumps() {
        "off"
    } else {
        "on"
    };
    let swap = hardening::lock_memory();
    if swap.is_possible() {
        warn!(core_dumps, %swap, "Memory with keys can be swapped out");
    } else {
        info!(core_dumps, %swap, "Memory protected");
    }
}

/// Opens the ports before a key is generated, so that an invalid address leaves no new key behind.
async fn serve(config: &Config) -> Result<(), Failure> {
    let server = Server::open(config).await?;
    let mut signals = Signals::new()?;
    match &config.backend {
        Backend::Directory(directory) => {
            run_on_directory(config, server, directory, &mut signals).await
        }
        Backend::Cluster(cluster) => run_in_cluster(config, server, cluster, &mut signals).await,
    }
}

/// Serves requests only after keys are loaded, so that the first response contains a certificate if a key may seal.
async fn run_on_directory(
    config: &Config,
    server: Server<'_>,
    directory: &Path,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let metrics = server.metrics();
    let start = DirectoryController::start(config, directory, metrics, Timestamp::now());
    let mut directory_controller = tokio::select! {
        () = wait_for_signal(&mut signals.stop) => return Ok(()),
        directory_controller = start => directory_controller?,
    };
    let server = server.start(directory_controller.server_state(), None);
    loop {
        let next = tokio::select! {
            () = wait_for_signal(&mut signals.stop) => break,
            next = directory_controller.run_once(Timestamp::now()) => next,
        };
        tokio::select! {
            () = wait_for_signal(&mut signals.stop) => break,
            _ = signals.usr1.recv() => directory_controller.request_key(),
            () = sleep_until(next) => {}
        }
    }
    directory_controller.shut_down(Timestamp::now()).await;
    server.shut_down().await;
    Ok(())
}

async fn run_in_cluster(
    config: &Config,
    server: Server<'_>,
    cluster_config: &ClusterConfig,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let mut cluster = Cluster::new(config, cluster_config, server.metrics()).await?;
    let authorized = TlsPort::open(config, &cluster, Timestamp::now()).await?;
    let authority = authorized.as_ref().map(TlsPort::authority);
    let server = server.start(cluster.server_state(), authorized);
    let publishing = cluster
        .publisher(authority)
        .map(|publisher| tokio::spawn(publisher.run()));
    run_until_signal(&mut cluster, signals).await;
    if let Some(publishing) = publishing {
        publishing.abort();
    }
    cluster.shut_down(Timestamp::now()).await;
    server.shut_down().await;
    Ok(())
}

/// Runs the controller until a signal stops the process.
async fn run_until_signal(cluster: &mut Cluster, signals: &mut Signals) {
    tokio::select! {
        () = wait_for_signal(&mut signals.stop) => return,
        () = cluster.begin(Timestamp::now) => {}
    }
    loop {
        let next = tokio::select! {
            () = wait_for_signal(&mut signals.stop) => return,
            next = cluster.run_once(Timestamp::now()) => next,
        };
        tokio::select! {
            () = wait_for_signal(&mut signals.stop) => return,
            _ = signals.usr1.recv() => cluster.request_key(),
            () = cluster.wait_for_change(Timestamp::now) => {}
            () = sleep_until(next) => {}
        }
    }
}

/// The signals that stop the process, and the signal that requests a key.
struct Signals {
    stop: [Signal; 2],
    usr1: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            stop: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ],
            usr1: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Waits for a signal that stops the process.
async fn wait_for_signal([term, int]: &mut [Signal; 2]) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn sleep_until(time: Timestamp) {
    let remaining = time.duration_since(Timestamp::now());
    let remaining = Duration::try_from(remaining).unwrap_or_default();
    tokio::time::sleep(remaining.min(LONGEST_SLEEP)).await;
}
