//! Requests to the controller.

use std::sync::Arc;
use std::time::Duration;

use agent::authority::Authority;
use agent::client::{Client, ClientError, PendingDelivery};
use fair::{Job, Slot, Slots};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::failure::{Failure, FinalCode};
use crate::frame::Message;
use crate::metrics::Metrics;
use crate::mount::{self, MountRequest};

/// The maximum number of mounts in progress, including those that wait for a slot. Each holds its request, at most a few
/// hundred kilobytes.
pub(crate) const MAX_MOUNTS: usize = 96;
/// The number of mounts that are reserved for namespaces without a mount in progress.
const RESERVED_MOUNTS: usize = 24;
/// The maximum number of concurrent requests. Each has a thread. They mostly wait: the controller delays responses with
/// templates.
pub(crate) const MAX_REQUESTS: usize = 32;
/// The number of requests that are reserved for namespaces without a request.
const RESERVED_REQUESTS: usize = 8;
/// The maximum number of responses that are received and decoded at the same time. Each can have several megabytes.
const MAX_RESPONSES: usize = 8;

/// How long a mount waits for a slot. The rest of the time limit of the call is enough for the controller to respond to
/// a request with slow templates.
const MAX_WAIT: Duration = Duration::from_secs(6);
/// The time limit of a request to the controller, shorter than the time limit of a call from the driver.
const TIMEOUT: Duration = Duration::from_secs(11);

/// How to reach the controller.
pub(crate) struct Controller {
    server: String,
    authority: Authority,
    queue: Queue,
    responses: Semaphore,
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
            queue: Queue::default(),
            responses: Semaphore::new(MAX_RESPONSES),
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
        let _place = self.queue.enter(&mount.namespace)?;
        let slot = self.queue.wait(&mount.namespace).await?;
        let (this, runtime) = (Arc::clone(self), Handle::current());
        let request = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            this.respond(&mount, &runtime)
        });
        let panicked = |_| Failure::new(FinalCode::Internal, "the provider failed; see its log");
        request.await.map_err(panicked)?
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Requests the values, and receives them when few other responses are in memory.
    fn respond(&self, mount: &MountRequest, runtime: &Handle) -> Result<Message, Failure> {
        let pending = self.begin(mount);
        let _memory = runtime.block_on(self.responses.acquire());
        let result = pending.and_then(PendingDelivery::receive);
        self.metrics.requests.record(result.as_ref());
        mount::response(result, &mount.selection.encodings)
    }

    /// Opens a connection for each request: the buffers of a connection that stays open can contain values.
    fn begin(&self, mount: &MountRequest) -> Result<PendingDelivery, ClientError> {
        let mut client = Client::without_token(self.server.clone(), self.authority.clone())?;
        client.begin(&mount.token, &mount.selection.request, TIMEOUT)
    }
}

/// The mounts in progress and the requests of a node, each shared fairly among the namespaces of the Pods.
struct Queue {
    mounts: Slots,
    requests: Slots,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            mounts: Slots::reserving(MAX_MOUNTS, RESERVED_MOUNTS),
            requests: Slots::reserving(MAX_REQUESTS, RESERVED_REQUESTS),
        }
    }
}

impl Queue {
    /// Returns the place of a mount of this namespace; fails if the namespace has too many mounts in progress.
    fn enter(&self, namespace: &str) -> Result<Slot, Failure> {
        let mut place = self.mounts.enqueue(&mut Job::new(namespace));
        self.mounts.charge(namespace, 1);
        place.try_recv().map_err(|_| queue_is_full())
    }

    /// Waits for the slot of a request of this namespace.
    async fn wait(&self, namespace: &str) -> Result<Slot, Failure> {
        let slot = self.requests.enqueue(&mut Job::new(namespace));
        self.requests.charge(namespace, 1);
        let slot = tokio::time::timeout(MAX_WAIT, slot).await;
        slot.ok().and_then(Result::ok).ok_or_else(queue_is_full)
    }
}

fn queue_is_full() -> Failure {
    let text = "too many volumes of Pods in this namespace are being mounted on this node\n\
                hint: the kubelet retries; start fewer Pods at the same time, and use fewer volumes and slow templates";
    Failure::new(FinalCode::FailedPrecondition, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: 90 Pods of one namespace request slow templates, so that mounts of another namespace wait.
    #[tokio::test(start_paused = true)]
    async fn mounts_of_one_namespace_do_not_delay_those_of_another() {
        let queue = Queue::default();
        let hostile: Vec<_> = (0..90).map(|_| queue.enter("hostile")).collect();
        let refused = hostile.iter().filter(|place| place.is_err()).count();
        assert_eq!(refused, 90 - (MAX_MOUNTS - RESERVED_MOUNTS));
        let mut slots = Vec::new();
        for _ in 0..MAX_REQUESTS - RESERVED_REQUESTS {
            slots.push(queue.wait("hostile").await.unwrap());
        }
        let failure = queue.wait("hostile").await.unwrap_err();
        assert!(failure.to_string().contains("on this node"), "{failure}");
        assert_eq!(failure.code, FinalCode::FailedPrecondition);
        let start = tokio::time::Instant::now();
        let place = queue.enter("quiet").unwrap();
        let slot = queue.wait("quiet").await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        drop((place, slot, slots, hostile));
        assert!(queue.enter("hostile").is_ok());
        assert!(queue.wait("hostile").await.is_ok());
    }
}
