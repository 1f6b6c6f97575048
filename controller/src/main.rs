//! Runs the controller and sets the exit code.

use std::alloc::System;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use controller::args::{Backend, ClusterConfig, Config, Stop};
use controller::cluster::{self, Cluster};
use controller::log;
use controller::ports::{Authorized, PortError, Server};
use controller::rounds::{self, Rounds};
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
/// and for releasing the leadership this stays well below a Pod's grace period of 30 seconds.
const LAST_GRACE: Duration = Duration::from_secs(3);

/// Why the controller stopped with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Directory(#[from] rounds::StartError),
    #[error(transparent)]
    Cluster(#[from] cluster::ConnectError),
    #[error(transparent)]
    Ports(#[from] PortError),
    #[error("cannot create the thread pool or the signal handlers")]
    System(#[from] std::io::Error),
}

/// Exit codes: 0 for help, version, or a signal; 1 if the controller cannot start; 2 for invalid arguments.
fn main() -> ExitCode {
    let args = std::env::args_os().skip(1);
    let variable = |name: &str| std::env::var(name).ok();
    match Config::read(args, variable) {
        Ok(config) => run(&config),
        Err(Stop::Print(text)) => print(&text),
        Err(Stop::Usage(text)) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(2)
        }
        Err(Stop::Invalid(mistakes)) => {
            for mistake in mistakes {
                let _ = writeln!(std::io::stderr(), "error: {mistake}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Prints the text. Fails if it cannot be written, except if the reader closed the pipe, as `head` does.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
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
    let done = tokio::runtime::Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| {
            let done = runtime.block_on(serve(config));
            runtime.shutdown_timeout(LAST_GRACE);
            done
        });
    match done {
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

/// Opens the ports before a key is generated, so that an invalid address leaves no key behind.
async fn serve(config: &Config) -> Result<(), Failure> {
    let server = Server::open(config).await?;
    let mut signals = Signals::new()?;
    match &config.backend {
        Backend::Directory(directory) => {
            on_directory(config, server, directory, &mut signals).await
        }
        Backend::Cluster(cluster) => in_cluster(config, server, cluster, &mut signals).await,
    }
}

/// Serves requests only after keys are loaded, so that the first response contains a certificate.
async fn on_directory(
    config: &Config,
    server: Server<'_>,
    directory: &Path,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let metrics = server.metrics();
    let start = Rounds::start(config, directory, metrics, Timestamp::now());
    let mut rounds = tokio::select! {
        () = end(&mut signals.ends) => return Ok(()),
        rounds = start => rounds?,
    };
    let server = server.start(rounds.server_state(), None);
    loop {
        let next = tokio::select! {
            () = end(&mut signals.ends) => break,
            next = rounds.round(Timestamp::now()) => next,
        };
        tokio::select! {
            () = end(&mut signals.ends) => break,
            _ = signals.usr1.recv() => rounds.request_key(),
            () = until(next) => {}
        }
    }
    rounds.end(Timestamp::now()).await;
    server.end().await;
    Ok(())
}

async fn in_cluster(
    config: &Config,
    server: Server<'_>,
    cluster_config: &ClusterConfig,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let mut cluster = Cluster::new(config, cluster_config, server.metrics()).await?;
    let authorized = Authorized::open(config, &cluster, Timestamp::now()).await?;
    let server = server.start(cluster.server_state(), authorized);
    let publishing = cluster
        .publisher()
        .map(|publisher| tokio::spawn(publisher.run()));
    work(&mut cluster, signals).await;
    if let Some(publishing) = publishing {
        publishing.abort();
    }
    cluster.end(Timestamp::now()).await;
    server.end().await;
    Ok(())
}

/// Runs the controller until a signal asks it to stop.
async fn work(cluster: &mut Cluster, signals: &mut Signals) {
    tokio::select! {
        () = end(&mut signals.ends) => return,
        () = cluster.begin(Timestamp::now) => {}
    }
    loop {
        let next = tokio::select! {
            () = end(&mut signals.ends) => return,
            next = cluster.turn(Timestamp::now()) => next,
        };
        tokio::select! {
            () = end(&mut signals.ends) => return,
            _ = signals.usr1.recv() => cluster.request_key(),
            () = cluster.wait_for_change(Timestamp::now) => {}
            () = until(next) => {}
        }
    }
}

/// The signals that stop the process, and the signal that requests a key.
struct Signals {
    ends: [Signal; 2],
    usr1: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            ends: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ],
            usr1: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Returns when a signal asks the process to stop.
async fn end([term, int]: &mut [Signal; 2]) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

async fn until(time: Timestamp) {
    let rest = time.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(rest).unwrap_or_default()).await;
}
