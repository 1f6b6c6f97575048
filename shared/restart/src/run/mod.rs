//! Watches the cluster, and, while this replica is the leader, restarts workloads and refreshes Pods.
//!
//! | module | content |
//! |---|---|
//! | `connection` | the client of the API server |
//! | `watches`, `compact` | watches, and the compact form of their objects |
//! | `worker` | applies events, and does the work that is due |
//! | `requests` | Pods, restarts, refreshes, events |
//! | `metrics` | metrics, and the readiness that the probes report |

mod compact;
mod connection;
mod metrics;
mod requests;
mod watches;
mod worker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lease::{Candidate, Election, Pod, WriteLease};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info;

use crate::refresh_queue::RefreshQueue;
use crate::state::State;
use metrics::Metrics;
use probes::Server;
use watches::Watches;
use worker::{Lists, Worker};

/// Maximum number of queued events.
const MAX_MESSAGES: usize = 64;

/// The settings of `seal restart`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The kubeconfig file; `None` for the cluster of this Pod.
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig.
    pub context: Option<String>,
    /// The namespaces to watch; all if empty.
    pub namespaces: Vec<String>,
    /// The number of slots for concurrent rollouts. As many reserve slots exist, at most one for each namespace.
    pub max_rollouts: usize,
    /// The maximum number of Pods to refresh per second.
    pub refresh_rate: u32,
    /// Whether Reloader runs too. If so, workloads that opt in only with Reloader's annotations are left to Reloader.
    pub with_reloader: bool,
    /// The address of metrics and probes.
    pub listen: SocketAddr,
    /// The namespace of the Lease; `None` for the namespace of this Pod.
    pub lease_namespace: Option<String>,
    /// The configuration of the leader election.
    pub election: Election,
    /// The Pod of this process.
    pub pod: Pod,
}

/// Why `seal restart` cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no kubeconfig, and the process does not run in a Pod with a service account token.
    #[error(
        "no cluster found: without --kubeconfig, this command must run in a Pod with a mounted service account token"
    )]
    NoCluster(#[source] kube::config::InClusterError),
    /// The kubeconfig file cannot be used.
    #[error("cannot use the kubeconfig {path}")]
    Kubeconfig {
        /// The argument of `--kubeconfig`.
        path: String,
        /// The underlying error.
        source: Box<kube::config::KubeconfigError>,
    },
    /// The client cannot be built.
    #[error("cannot create a client for the API server with these settings")]
    Client(#[source] Box<kube::Error>),
    /// The address is in use, or the process may not listen on it.
    #[error("cannot listen on {address}\nhint: choose another address with --listen")]
    Listen {
        /// The address from `--listen`.
        address: SocketAddr,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The runtime, the signal handlers, or the server of metrics and probes cannot be created.
    #[error("cannot create the runtime, the signal handlers, or the server of metrics and probes")]
    System(#[from] std::io::Error),
}

/// Runs until the process receives a signal to stop.
///
/// # Errors
///
/// Returns [`RunError`] if the start fails. Later failures are logged and retried.
pub fn run(settings: Settings) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), RunError> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let address = settings.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| RunError::Listen { address, source })?;
    let client =
        connection::client(settings.kubeconfig.as_deref(), settings.context.as_deref()).await?;
    let metrics = Arc::new(Metrics::default());
    if let Ok(address) = listener.local_addr() {
        info!(%address, "Serving metrics and probes");
    }
    let _server = Server::start(listener.into_std()?, metrics.clone())?;
    let write_lease = Arc::<WriteLease>::default();
    let mut candidate = candidate(&settings, client.clone(), &write_lease);
    let (sender, messages) = mpsc::channel(MAX_MESSAGES);
    let mut watches = Watches::start(&client, &settings.namespaces, &sender);
    let mut worker = Worker {
        state: State::new(settings.max_rollouts, settings.with_reloader),
        lists: Lists::new(watches.are_required.clone()),
        role: candidate.role(),
        refresh_interval: Duration::from_secs(1) / settings.refresh_rate.max(1),
        refresh_queue: RefreshQueue::default(),
        listings: BTreeMap::new(),
        next_refresh: Instant::now(),
        client,
        messages,
        write_lease,
        metrics,
    };
    let election = async {
        candidate.run().await;
        // Without leader election, the election returns immediately.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        () = election => {}
        () = worker.run() => {}
        () = watches.wait() => {}
    }
    info!("Shutting down");
    candidate.release().await;
    Ok(())
}

fn candidate(
    settings: &Settings,
    client: kube::Client,
    write_lease: &Arc<WriteLease>,
) -> Candidate {
    let own = || connection::own_namespace(settings.pod.namespace.as_deref());
    let namespace = settings.lease_namespace.clone().unwrap_or_else(own);
    let (election, pod) = (settings.election.clone(), settings.pod.clone());
    Candidate::new(
        client,
        &namespace,
        election,
        pod,
        Arc::clone(write_lease),
        Arc::default(),
    )
}
