//! Requests to the controller.

use std::sync::Arc;
use std::time::Duration;

use agent::authority::Authority;
use agent::client::{Client, ClientError, Delivery};
use tokio::sync::Semaphore;

use crate::failure::{Failure, FinalCode};
use crate::frame::Message;
use crate::metrics::Metrics;
use crate::mount::{self, MountRequest};

/// The maximum number of concurrent requests. Each has a thread, and holds its values, which can have several
/// megabytes.
pub(crate) const MAX_REQUESTS: usize = 8;

/// The time limit of a request to the controller, shorter than the time limit of a call from the driver.
const TIMEOUT: Duration = Duration::from_secs(11);

/// How to reach the controller.
pub(crate) struct Controller {
    server: String,
    authority: Authority,
    slots: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Controller {
    /// Checks the settings. Sends nothing.
    pub(crate) fn new(
        server: String,
        authority: Authority,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ClientError> {
        Client::without_token(server.clone(), authority.clone())?;
        Ok(Self {
            server,
            authority,
            slots: Arc::new(Semaphore::new(MAX_REQUESTS)),
            metrics,
        })
    }

    /// Checks that the controller can be reached.
    pub(crate) fn reach(&self) -> Result<(), ClientError> {
        let mut client = Client::without_token(self.server.clone(), self.authority.clone())?;
        client.reach(TIMEOUT)
    }

    /// Returns the response to a mount. If the caller stops waiting, the request occupies its thread until its own time
    /// limit.
    pub(crate) async fn mount(self: &Arc<Self>, mount: MountRequest) -> Result<Message, Failure> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let this = Arc::clone(self);
        let request = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let result = this.request(&mount);
            mount::response(result, &mount.selection.encodings)
        });
        let panicked = |_| Failure::new(FinalCode::Internal, "the provider failed; see its log");
        request.await.map_err(panicked)?
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn request(&self, mount: &MountRequest) -> Result<Delivery, ClientError> {
        let result = self.try_request(mount);
        self.metrics.requests.record(result.as_ref());
        result
    }

    /// Opens a connection for each request: the buffers of a connection that stays open can contain values.
    fn try_request(&self, mount: &MountRequest) -> Result<Delivery, ClientError> {
        let mut client = Client::without_token(self.server.clone(), self.authority.clone())?;
        client.deliver_with(&mount.token, &mount.selection.request, TIMEOUT)
    }
}
