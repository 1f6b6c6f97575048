//! Wiring and exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use controller::args::{Address, ClusterConfig, Config, Place, Stop};
use controller::cluster::{self, Cluster};
use controller::http::{Desk, Facts};
use controller::metrics::Metrics;
use controller::rounds::{self, Rounds};
use controller::{http, log};
use jiff::Timestamp;
use shared::error_chain;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// Why the controller did not run to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Directory(#[from] rounds::StartError),
    #[error(transparent)]
    Cluster(#[from] cluster::ConnectError),
    #[error("--{flag}: cannot listen on {address}")]
    Listen {
        flag: &'static str,
        address: String,
        source: std::io::Error,
    },
    #[error("the system refused what every process needs")]
    System(#[from] std::io::Error),
    #[error("the metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
}

/// 0: help, version, or ended by a signal. 1: cannot start. 2: wrong words.
fn main() -> ExitCode {
    let words = std::env::args_os().skip(1);
    let variable = |name: &str| std::env::var(name).ok();
    match Config::read(words, variable) {
        Ok(config) => run(&config),
        Err(Stop::Print(text)) => {
            // A closed pipe is no failure.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
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

fn run(config: &Config) -> ExitCode {
    log::start(config.log);
    let version = env!("CARGO_PKG_VERSION");
    info!(version, "Starting sealed-secrets controller");
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let done = tokio::runtime::Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(serve(config)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The ports are opened before a key is made, so that a mistake there leaves no trace.
async fn serve(config: &Config) -> Result<(), Failure> {
    let server = Server {
        listener: listen("listen-addr", &config.listen).await?,
        metrics_listener: listen("listen-metrics-addr", &config.listen_metrics).await?,
        metrics: Arc::new(Metrics::new(config.omits_names)?),
        config,
    };
    let mut signals = Signals::new()?;
    match &config.place {
        Place::Directory(directory) => on_directory(server, directory, &mut signals).await,
        Place::Cluster(place) => in_cluster(server, place, &mut signals).await,
    }
}

async fn listen(flag: &'static str, address: &Address) -> Result<TcpListener, Failure> {
    let listener = http::bind(address).await;
    listener.map_err(|source| Failure::Listen {
        flag,
        address: address.to_string(),
        source,
    })
}

/// Served when the keys are there, so that the first answer has a certificate.
async fn on_directory(
    server: Server<'_>,
    directory: &Path,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let metrics = Arc::clone(&server.metrics);
    let mut rounds = Rounds::start(server.config, directory, metrics, Timestamp::now()).await?;
    let server = server.start(rounds.facts());
    loop {
        let next = rounds.round(Timestamp::now()).await;
        tokio::select! {
            () = end(&mut signals.ends) => break,
            _ = signals.usr1.recv() => rounds.ask_for_key(),
            () = until(next) => {}
        }
    }
    server.end().await;
    Ok(())
}

async fn in_cluster(
    server: Server<'_>,
    place: &ClusterConfig,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let metrics = Arc::clone(&server.metrics);
    let mut cluster = Cluster::new(server.config, place, metrics).await?;
    let server = server.start(cluster.facts());
    work(&mut cluster, signals).await;
    server.end().await;
    Ok(())
}

/// Until it is asked to end, which it notices whatever it waits for.
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
            _ = signals.usr1.recv() => cluster.ask_for_key(),
            () = cluster.changed(Timestamp::now) => {}
            () = until(next) => {}
        }
    }
}

/// Those that ask it to end, and the one that asks for a key.
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

/// Comes back when it is asked to end.
async fn end([term, int]: &mut [Signal; 2]) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Ports that are open and not yet served.
struct Server<'a> {
    listener: TcpListener,
    metrics_listener: TcpListener,
    metrics: Arc<Metrics>,
    config: &'a Config,
}

/// Ports that are served.
struct Serving {
    end: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Server<'_> {
    fn start(self, facts: Facts) -> Serving {
        let (end, ended) = watch::channel(false);
        let config = self.config;
        let limits = http::Limits {
            read: config.read_timeout,
            write: config.write_timeout,
        };
        let legacy = config.policy.rules.accept_legacy;
        let desk = Desk::new(config.rate, config.read_timeout, legacy);
        let main = http::router(facts, desk, Arc::clone(&self.metrics));
        let metrics = http::metrics_router(self.metrics);
        if let Ok(address) = self.listener.local_addr() {
            info!(addr = %address, "HTTP server serving");
        }
        if let Ok(address) = self.metrics_listener.local_addr() {
            info!(addr = %address, "HTTP metrics server serving");
        }
        let main = http::serve(self.listener, main, limits, ended.clone());
        let metrics = http::serve(self.metrics_listener, metrics, limits, ended);
        Serving {
            end,
            tasks: [tokio::spawn(main), tokio::spawn(metrics)],
        }
    }
}

impl Serving {
    async fn end(self) {
        info!("Shutting down");
        self.end.send_replace(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

async fn until(time: Timestamp) {
    let rest = time.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(rest).unwrap_or_default()).await;
}
