//! Opens the TLS port as soon as RBAC allows the controller to review callers.
//!
//! One `kubectl apply` often starts the controller before it grants this permission. While the permission is missing,
//! the port is closed: clients get an error at once, instead of a connection without a response.

use std::io;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tracing::{debug, error};

use crate::args::Address;
use crate::http;
use crate::http::reviews::Reviews;
use crate::reconcile::backoff;
use crate::store::api_response;
use crate::watch_health::{Cause, WatchHealth};

/// The name of the port in reports of failing watches.
const HEALTH_NAME: &str = "the TLS port (--listen-authorized-addr)";
/// Maximum pause between two checks of the permission.
const MAX_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// The TLS port before it is served.
pub(super) struct PendingPort {
    address: Address,
    /// `None` while the port is closed.
    listener: Option<TcpListener>,
    health: Arc<WatchHealth>,
}

/// Why the port cannot be served yet.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(
        "RBAC does not allow this controller to create {0}; bind its service account to the ClusterRole \
         system:auth-delegator, and the port opens within seconds"
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
    /// Takes the open port. `health` reports the port as failing until it can be served.
    pub(super) fn new(address: Address, listener: TcpListener, health: Arc<WatchHealth>) -> Self {
        Self {
            address,
            listener: Some(listener),
            health,
        }
    }

    /// Returns the port once it can be served. Retries without limit. Cancel safe.
    pub(super) async fn wait(mut self, reviews: &Reviews) -> TcpListener {
        let (mut failures, mut reported) = (0, String::new());
        loop {
            let obstacle = match self.attempt(reviews).await {
                Ok(listener) => {
                    self.health.record_success(HEALTH_NAME);
                    return listener;
                }
                Err(obstacle) => obstacle,
            };
            self.health
                .record_failure(HEALTH_NAME, obstacle.cause(), Timestamp::now());
            log_obstacle(&obstacle, &mut reported);
            failures += 1;
            let pause = backoff(failures, shared::random::number()).min(MAX_PAUSE);
            tokio::time::sleep(pause.unsigned_abs()).await;
        }
    }

    async fn attempt(&mut self, reviews: &Reviews) -> Result<TcpListener, Obstacle> {
        if let Some(resource) = reviews.missing_permission().await? {
            self.listener = None;
            return Err(Obstacle::Permission(resource));
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

/// Logs an obstacle: at ERROR the first time, at DEBUG while it continues.
fn log_obstacle(obstacle: &Obstacle, reported: &mut String) {
    let text = obstacle.to_string();
    if *reported == text {
        debug!("--listen-authorized-addr: still not served, because {text}");
    } else {
        error!("--listen-authorized-addr: not served yet, because {text}");
        *reported = text;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

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

    #[test]
    fn an_obstacle_is_remembered_until_it_changes() {
        let mut reported = String::new();
        log_obstacle(&Obstacle::Permission("tokenreviews"), &mut reported);
        assert!(reported.contains("create tokenreviews"), "{reported}");
        log_obstacle(&Obstacle::Permission("subjectaccessreviews"), &mut reported);
        assert!(
            reported.contains("create subjectaccessreviews"),
            "{reported}"
        );
    }
}
