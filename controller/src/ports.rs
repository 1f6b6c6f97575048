//! The ports of a controller: the unauthenticated port, the metrics port, and the TLS port.

mod pending;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::args::{Address, Config};
use crate::cluster::Cluster;
use crate::expiry;
use crate::http::reviews::Reviews;
use crate::http::tls::{Identity, IdentityError};
use crate::http::{self, Delivery, RequestLimiter, ServerState, UnauthenticatedEndpoints};
use crate::metrics::Metrics;
use pending::PendingPort;

/// A port or the metrics cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The process cannot listen on the address, for example because it is in use.
    #[error("--{flag}: cannot listen on {address}")]
    Listen {
        /// The flag that sets the address.
        flag: &'static str,
        /// The address that the flag sets.
        address: String,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The TLS certificate of the port cannot be generated.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The metrics cannot be set up.
    #[error("cannot set up the metrics")]
    Metrics(#[from] prometheus::Error),
}

/// The unauthenticated port and the metrics port, open but not served yet.
pub struct Server<'a> {
    listener: TcpListener,
    metrics_listener: TcpListener,
    metrics: Arc<Metrics>,
    config: &'a Config,
}

/// The TLS port for authenticated callers, open but not served yet.
pub struct TlsPort {
    address: Address,
    listener: TcpListener,
    identity: Identity,
    reviews: Arc<Reviews>,
    delivery: Delivery,
}

/// The ports that are being served.
pub struct RunningServer {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl<'a> Server<'a> {
    /// Opens the unauthenticated port and the metrics port.
    ///
    /// # Errors
    ///
    /// Returns [`PortError`] if a port cannot be opened or the metrics cannot be set up.
    pub async fn open(config: &'a Config) -> Result<Self, PortError> {
        Ok(Self {
            listener: listen("listen-addr", &config.listen).await?,
            metrics_listener: listen("listen-metrics-addr", &config.listen_metrics).await?,
            metrics: Arc::new(
                Metrics::new(config.omits_names)?.with_max_named_objects(config.max_named_objects),
            ),
            config,
        })
    }

    /// Returns the metrics of the controller.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Serves the endpoints on all open ports until the returned [`RunningServer`] is shut down.
    pub fn start(self, state: ServerState, authorized: Option<TlsPort>) -> RunningServer {
        let (stop, stopping) = watch::channel(false);
        let (config, limits) = (self.config, self.limits());
        let unauthenticated = UnauthenticatedEndpoints {
            limiter: (!config.plain_certificate_only).then(|| self.limiter()),
            authority: authorized.as_ref().map(TlsPort::authority),
        };
        let main = http::router(state.clone(), unauthenticated, Arc::clone(&self.metrics));
        let metrics = http::metrics_router(state.clone(), Arc::clone(&self.metrics));
        let mut tasks = JoinSet::new();
        let (ring, mut expiry_stopping) = (state.ring.clone(), stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = expiry::watch(ring) => {}
                _ = expiry_stopping.wait_for(|is_stopping| *is_stopping) => {}
            }
        });
        if let Some(authorized) = authorized {
            let task = authorized.serve(
                state,
                self.limiter(),
                &self.metrics,
                limits,
                stopping.clone(),
            );
            tasks.spawn(task);
        }
        log_address("HTTP server serving", &self.listener);
        log_address("HTTP metrics server serving", &self.metrics_listener);
        tasks.spawn(http::serve(
            self.listener,
            None,
            main,
            limits,
            stopping.clone(),
        ));
        tasks.spawn(http::serve(
            self.metrics_listener,
            None,
            metrics,
            limits,
            stopping,
        ));
        RunningServer { stop, tasks }
    }

    fn limits(&self) -> http::ConnectionLimits {
        http::ConnectionLimits {
            read: self.config.read_timeout,
            write: self.config.write_timeout,
            capacity: http::Capacity::default(),
        }
    }

    fn limiter(&self) -> RequestLimiter {
        let policy = &self.config.policy;
        let (rate, timeout) = (self.config.rate, self.config.read_timeout);
        RequestLimiter::new(rate, timeout, policy.rules.accept_legacy)
            .with_author_limits(Arc::clone(&policy.author_limits))
    }
}

impl TlsPort {
    /// Returns the CA certificate of the port, in PEM.
    pub fn authority(&self) -> String {
        self.identity.authority.clone()
    }

    /// Opens the TLS port; `None` if it is not configured.
    ///
    /// # Errors
    ///
    /// Returns [`PortError`] if the port cannot be opened or its certificate cannot be generated.
    pub async fn open(
        config: &Config,
        cluster: &Cluster,
        now: Timestamp,
    ) -> Result<Option<Self>, PortError> {
        let Some(address) = &config.listen_authorized else {
            return Ok(None);
        };
        Ok(Some(Self {
            address: address.clone(),
            listener: listen("listen-authorized-addr", address).await?,
            identity: Identity::new(cluster.own_namespace(), now)?,
            reviews: Arc::new(cluster.reviews()),
            delivery: cluster.delivery(watch::Sender::new(false).subscribe()),
        }))
    }

    /// Serves the port as soon as RBAC allows the controller to review callers (see [`PendingPort`]), and reports if
    /// this permission is revoked.
    fn serve(
        self,
        state: ServerState,
        limiter: RequestLimiter,
        metrics: &Arc<Metrics>,
        limits: http::ConnectionLimits,
        mut stopping: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let metrics = Arc::clone(metrics);
        async move {
            let health = Arc::clone(metrics.watches());
            let pending = PendingPort::new(self.address, self.listener, Arc::clone(&health));
            let listener = tokio::select! {
                _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
                listener = pending.wait(&self.reviews) => listener,
            };
            log_address("HTTPS server for authorized callers serving", &listener);
            let tls = Some(self.identity.acceptor());
            let delivery = Delivery {
                stopping: stopping.clone(),
                ..self.delivery
            };
            let reviews = Arc::clone(&self.reviews);
            let router = http::authorized_router(state, limiter, reviews, Some(delivery), metrics);
            let limits = http::ConnectionLimits {
                capacity: http::Capacity::for_waiting_requests(),
                ..limits
            };
            tokio::select! {
                () = http::serve(listener, tls, router, limits, stopping) => {}
                never = pending::report_revocation(&self.reviews, health) => match never {},
            }
        }
    }
}

fn log_address(message: &str, listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        info!(addr = %address, "{message}");
    }
}

impl RunningServer {
    /// Stops serving, after a grace period for open requests.
    pub async fn shut_down(self) {
        info!("Shutting down");
        self.stop.send_replace(true);
        self.tasks.join_all().await;
    }
}

async fn listen(flag: &'static str, address: &Address) -> Result<TcpListener, PortError> {
    let listener = http::bind(address).await;
    listener.map_err(|source| PortError::Listen {
        flag,
        address: address.to_string(),
        source,
    })
}
