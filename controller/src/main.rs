//! Wiring and exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use controller::args::{Address, ClusterConfig, Config, Place, Stop};
use controller::cluster::{self, Cluster};
use controller::http::reviews::Reviews;
use controller::http::tls::{Identity, IdentityError};
use controller::http::{Desk, Facts, Plain};
use controller::metrics::Metrics;
use controller::rounds::{self, Rounds};
use controller::{http, log};
use jiff::Timestamp;
use shared::error_chain;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
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
    #[error(transparent)]
    Identity(#[from] IdentityError),
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
    let server = server.start(rounds.facts(), None);
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
    let authorised = match &server.config.listen_authorised {
        Some(address) => Some(Authorised {
            listener: listen("listen-authorized-addr", address).await?,
            identity: Identity::new(cluster.own_namespace(), Timestamp::now())?,
            reviews: cluster.reviews(),
        }),
        None => None,
    };
    let server = server.start(cluster.facts(), authorised);
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

/// The port of callers with a token.
struct Authorised {
    listener: TcpListener,
    identity: Identity,
    reviews: Reviews,
}

/// Ports that are served.
struct Serving {
    end: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server<'_> {
    fn start(self, facts: Facts, authorised: Option<Authorised>) -> Serving {
        let (end, ended) = watch::channel(false);
        let (config, limits) = (self.config, self.limits());
        let plain = Plain {
            desk: (!config.plain_certificate_only).then(|| self.desk()),
            authority: authorised.as_ref().map(|a| a.identity.authority.clone()),
        };
        let main = http::router(facts.clone(), plain, Arc::clone(&self.metrics));
        let metrics = http::metrics_router(Arc::clone(&self.metrics));
        let mut tasks = JoinSet::new();
        if let Some(authorised) = authorised {
            let task = authorised.serve(facts, self.desk(), &self.metrics, limits, ended.clone());
            tasks.spawn(task);
        }
        announce("HTTP server serving", &self.listener);
        announce("HTTP metrics server serving", &self.metrics_listener);
        tasks.spawn(http::serve(
            self.listener,
            None,
            main,
            limits,
            ended.clone(),
        ));
        tasks.spawn(http::serve(
            self.metrics_listener,
            None,
            metrics,
            limits,
            ended,
        ));
        Serving { end, tasks }
    }

    fn limits(&self) -> http::Limits {
        http::Limits {
            read: self.config.read_timeout,
            write: self.config.write_timeout,
        }
    }

    fn desk(&self) -> Desk {
        let legacy = self.config.policy.rules.accept_legacy;
        Desk::new(self.config.rate, self.config.read_timeout, legacy)
    }
}

impl Authorised {
    /// Serves if this controller may ask the API server about its callers. Until that is known the
    /// port is open and mute.
    fn serve(
        self,
        facts: Facts,
        desk: Desk,
        metrics: &Arc<Metrics>,
        limits: http::Limits,
        mut ended: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let metrics = Arc::clone(metrics);
        async move {
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => return,
                may = may_ask(&self.reviews) => if !may {
                    return;
                },
            }
            announce(
                "HTTPS server for authorized callers serving",
                &self.listener,
            );
            let tls = Some(self.identity.acceptor());
            let router = http::authorised_router(facts, desk, self.reviews, metrics);
            http::serve(self.listener, tls, router, limits, ended).await;
        }
    }
}

/// Asks until there is an answer.
async fn may_ask(reviews: &Reviews) -> bool {
    loop {
        match reviews.missing_right().await {
            Ok(None) => return true,
            Ok(Some(resource)) => {
                error!(
                    "--listen-authorized-addr: not served, because this controller may not create {resource}; \
                     bind its account to the ClusterRole system:auth-delegator"
                );
                return false;
            }
            Err(_) => tokio::time::sleep(Duration::from_secs(5)).await,
        }
    }
}

fn announce(what: &str, listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        info!(addr = %address, "{what}");
    }
}

impl Serving {
    async fn end(self) {
        info!("Shutting down");
        self.end.send_replace(true);
        self.tasks.join_all().await;
    }
}

async fn until(time: Timestamp) {
    let rest = time.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(rest).unwrap_or_default()).await;
}
