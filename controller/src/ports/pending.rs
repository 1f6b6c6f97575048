//! Opens the TLS port as soon as RBAC allows the controller to review callers, and reports if this permission is
//! missing.
//!
//! One `kubectl apply` often starts the controller before it grants this permission. While the permission is missing,
//! the port is closed: clients get an error at once, instead of a connection without a response. If the permission is
//! revoked later, the port stays open, and callers get the status 503.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tracing::{debug, error, info};

use crate::args::Address;
use crate::http;
use crate::http::reviews::Reviews;
use crate::reconcile::backoff;
use crate::store::api_response;
use crate::watch_health::{Cause, WatchHealth};

/// The name of the port in reports of failing watches.
const HEALTH_NAME: &str = "the TLS port (--listen-authorized-addr)";
/// Maximum pause between two checks of the permission while there is an obstacle.
const MAX_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// Pause between two checks of the permission while the port is served without an obstacle.
const SERVED_PAUSE: Duration = Duration::from_secs(30);

/// How the log describes a port that cannot be opened yet: the first time, and while the obstacle continues.
const NOT_SERVED: [&str; 2] = ["not served yet", "still not served"];
/// Like [`NOT_SERVED`], for a port that is open.
const REFUSING: [&str; 2] = [
    "callers may get the status 503",
    "callers may still get the status 503",
];

/// The TLS port before it is served.
pub(super) struct PendingPort {
    address: Address,
    /// `None` while the port is closed.
    listener: Option<TcpListener>,
    health: Arc<WatchHealth>,
}

/// Why callers cannot be reviewed, or the port cannot be opened.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(
        "RBAC does not allow this controller to create {0}; bind its service account to the ClusterRole \
         system:auth-delegator, and the controller notices this within seconds"
    )]
    Permission(&'static str),
    #[error("the API server does not show whether this controller may review callers: {}", api_response(.0))]
    Request(#[from] kube::Error),
    #[error("the address {address} cannot be used: {source}")]
    Listen { address: String, source: io::Error },
}

impl Obstacle {
    fn cause(&self) -> Cause {
        match self {
            Self::Permission(_) => Cause::Forbidden,
            Self::Request(error) => error.into(),
            Self::Listen { .. } => Cause::Failed,
        }
    }
}

impl PendingPort {
    /// Takes the open port. `health` reports the port as failing while it cannot be served.
    pub(super) fn new(address: Address, listener: TcpListener, health: Arc<WatchHealth>) -> Self {
        Self {
            address,
            listener: Some(listener),
            health,
        }
    }

    /// Returns the port once it can be served. Retries without limit. Cancel safe.
    pub(super) async fn wait(mut self, reviews: &Reviews) -> TcpListener {
        let mut report = Report::new(Arc::clone(&self.health), NOT_SERVED);
        loop {
            match self.attempt(reviews).await {
                Ok(listener) => {
                    report.clear();
                    return listener;
                }
                Err(obstacle) => tokio::time::sleep(report.record(&obstacle)).await,
            }
        }
    }

    async fn attempt(&mut self, reviews: &Reviews) -> Result<TcpListener, Obstacle> {
        if let Err(obstacle) = check_permission(reviews).await {
            if matches!(obstacle, Obstacle::Permission(_)) {
                self.listener = None;
            }
            return Err(obstacle);
        }
        match self.listener.take() {
            Some(listener) => Ok(listener),
            None => self.bind().await,
        }
    }

    async fn bind(&self) -> Result<TcpListener, Obstacle> {
        let listener = http::bind(&self.address).await;
        listener.map_err(|source| Obstacle::Listen {
            address: self.address.to_string(),
            source,
        })
    }
}

/// Reports an open port as failing while callers cannot be reviewed. Never returns. Cancel safe.
pub(super) async fn report_revocation(reviews: &Reviews, health: Arc<WatchHealth>) -> Infallible {
    let mut report = Report::new(health, REFUSING);
    let mut pause = SERVED_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        pause = match check_permission(reviews).await {
            Ok(()) => {
                if report.clear() {
                    info!("--listen-authorized-addr: callers can be reviewed again");
                }
                SERVED_PAUSE
            }
            Err(obstacle) => report.record(&obstacle),
        };
    }
}

async fn check_permission(reviews: &Reviews) -> Result<(), Obstacle> {
    match reviews.missing_permission().await? {
        Some(resource) => Err(Obstacle::Permission(resource)),
        None => Ok(()),
    }
}

/// Reports obstacles in the log and as failures in [`WatchHealth`], as for a failing watch.
struct Report {
    health: Arc<WatchHealth>,
    /// See [`NOT_SERVED`].
    consequence: [&'static str; 2],
    /// The number of consecutive obstacles.
    failures: u32,
    /// The text of the last obstacle; empty if there is none.
    logged: String,
}

impl Report {
    fn new(health: Arc<WatchHealth>, consequence: [&'static str; 2]) -> Self {
        Self {
            health,
            consequence,
            failures: 0,
            logged: String::new(),
        }
    }

    /// Reports an obstacle. Returns the pause before the next check.
    fn record(&mut self, obstacle: &Obstacle) -> Duration {
        self.health
            .record_failure(HEALTH_NAME, obstacle.cause(), Timestamp::now());
        self.log(obstacle);
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.failures, shared::random::number()).min(MAX_PAUSE);
        pause.unsigned_abs()
    }

    /// Reports that there is no obstacle. Returns whether there was one.
    fn clear(&mut self) -> bool {
        self.logged.clear();
        self.failures = 0;
        self.health.record_success(HEALTH_NAME)
    }

    /// Logs an obstacle: at ERROR the first time, at DEBUG while it continues.
    fn log(&mut self, obstacle: &Obstacle) {
        let text = obstacle.to_string();
        let [first, continued] = self.consequence;
        if self.logged == text {
            debug!("--listen-authorized-addr: {continued}, because {text}");
        } else {
            error!("--listen-authorized-addr: {first}, because {text}");
            self.logged = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kube::Client;
    use serde_json::{Value, json};
    use tokio::time::timeout;

    use super::*;
    use crate::testing::{client, refusal};

    /// The response of the simulated API server to a question about a permission.
    #[derive(Debug, Clone, Copy)]
    enum ReviewResult {
        Allowed,
        Denied,
        Unavailable,
    }

    impl ReviewResult {
        fn response(self) -> (u16, Value) {
            let review = |allowed: bool| {
                let status = json!({ "allowed": allowed });
                (201, json!({ "metadata": {}, "spec": {}, "status": status }))
            };
            match self {
                Self::Allowed => review(true),
                Self::Denied => review(false),
                Self::Unavailable => refusal(503, "try later"),
            }
        }
    }

    fn client_returning(result: &Arc<Mutex<ReviewResult>>) -> Client {
        let result = Arc::clone(result);
        client(move |_, _| result.lock().unwrap().response())
    }

    /// Returns a port that the system chose, and its address.
    async fn port() -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_port_is_served_within_seconds_after_the_obstacle_is_gone() {
        for (obstacle, cause, is_closed) in [
            (ReviewResult::Denied, Cause::Forbidden, true),
            (ReviewResult::Unavailable, Cause::Failed, false),
        ] {
            let result = Arc::new(Mutex::new(obstacle));
            let reviews = Reviews::new(client_returning(&result));
            let ((listener, address), health) = (port().await, Arc::<WatchHealth>::default());
            let pending = PendingPort::new(address.clone(), listener, Arc::clone(&health));
            let mut served = std::pin::pin!(pending.wait(&reviews));

            let waited = timeout(Duration::from_mins(10), &mut served).await;
            assert!(waited.is_err(), "{obstacle:?}");
            assert_eq!(health.count_failing(cause), 1, "{obstacle:?}");
            let can_bind = http::bind(&address).await.is_ok();
            assert_eq!(can_bind, is_closed, "{obstacle:?}");

            *result.lock().unwrap() = ReviewResult::Allowed;
            let served = timeout(Duration::from_secs(6), served).await.unwrap();
            let port = served.local_addr().unwrap().port();
            assert_eq!(port, address.port, "{obstacle:?}");
            assert_eq!(health.report(), "", "{obstacle:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_another_program_took_meanwhile_is_retried() {
        let result = Arc::new(Mutex::new(ReviewResult::Denied));
        let reviews = Reviews::new(client_returning(&result));
        let ((listener, address), health) = (port().await, Arc::<WatchHealth>::default());
        let pending = PendingPort::new(address.clone(), listener, Arc::clone(&health));
        let mut served = std::pin::pin!(pending.wait(&reviews));
        let minute = Duration::from_mins(1);
        assert!(timeout(minute, &mut served).await.is_err());

        let other_program = http::bind(&address).await.unwrap();
        *result.lock().unwrap() = ReviewResult::Allowed;
        assert!(timeout(minute, &mut served).await.is_err());
        assert_eq!(health.count_failing(Cause::Failed), 1);
        drop(other_program);
        assert!(timeout(minute, served).await.is_ok());
    }

    /// Fault: an administrator removes the binding to `system:auth-delegator` while the port is open, and nothing
    /// reports why Pods get no values.
    #[tokio::test(start_paused = true)]
    async fn a_permission_that_is_revoked_while_the_port_is_open_is_reported_until_it_is_granted() {
        let result = Arc::new(Mutex::new(ReviewResult::Allowed));
        let reviews = Reviews::new(client_returning(&result));
        let health = Arc::<WatchHealth>::default();
        let mut reporting = std::pin::pin!(report_revocation(&reviews, Arc::clone(&health)));
        let minute = Duration::from_mins(1);
        for (obstacle, cause) in [
            (ReviewResult::Denied, Cause::Forbidden),
            (ReviewResult::Unavailable, Cause::Failed),
        ] {
            assert!(timeout(minute, &mut reporting).await.is_err());
            assert_eq!(health.report(), "", "{obstacle:?}");
            *result.lock().unwrap() = obstacle;
            assert!(timeout(minute, &mut reporting).await.is_err());
            assert_eq!(health.count_failing(cause), 1, "{obstacle:?}");
            assert!(health.report().starts_with(HEALTH_NAME), "{obstacle:?}");
            *result.lock().unwrap() = ReviewResult::Allowed;
            let seconds = Duration::from_secs(6);
            assert!(timeout(seconds, &mut reporting).await.is_err());
            assert_eq!(health.report(), "", "{obstacle:?}");
        }
    }

    #[test]
    fn an_obstacle_is_remembered_until_it_changes_or_ends() {
        let mut report = Report::new(Arc::default(), NOT_SERVED);
        report.record(&Obstacle::Permission("tokenreviews"));
        let logged = &report.logged;
        assert!(logged.contains("create tokenreviews"), "{logged}");
        report.record(&Obstacle::Permission("subjectaccessreviews"));
        let logged = &report.logged;
        assert!(logged.contains("create subjectaccessreviews"), "{logged}");
        assert!(report.clear());
        assert_eq!((report.logged.as_str(), report.failures), ("", 0));
        assert!(!report.clear());
    }
}
