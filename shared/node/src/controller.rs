//! Requests to the controller.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::authority::Authority;
use agent::client::{Client, ClientError, Delivery};
use tokio::sync::Semaphore;

use crate::failure::{Failure, FinalCode};
use crate::frame::Message;
use crate::mount::{self, Order};

/// How many requests are sent at once. Each has a thread, and while it lasts its values, which can have some megabytes.
pub(crate) const MAX_REQUESTS: usize = 8;

/// The time limit of a request. With the time for reading and waiting, a mount ends within 15 seconds.
const TIMEOUT: Duration = Duration::from_secs(11);

/// The controller, with connections to it that are open.
pub(crate) struct Controller {
    server: String,
    authority: Authority,
    clients: Mutex<Vec<Client>>,
    slots: Arc<Semaphore>,
}

impl Controller {
    /// Checks the settings. Sends nothing.
    pub(crate) fn new(server: String, authority: Authority) -> Result<Self, ClientError> {
        let client = Client::without_token(server.clone(), authority.clone())?;
        Ok(Self {
            server,
            authority,
            clients: Mutex::new(vec![client]),
            slots: Arc::new(Semaphore::new(MAX_REQUESTS)),
        })
    }

    /// Returns the answer to a mount. If the caller stops waiting, the request keeps its thread until its own limit.
    pub(crate) async fn mount(self: &Arc<Self>, order: Order) -> Result<Message, Failure> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let this = Arc::clone(self);
        let request = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let result = this.request(&order);
            mount::answer(result, &order.selection.encodings)
        });
        let panicked = |_| Failure::new(FinalCode::Internal, "the provider failed; see its log");
        request.await.map_err(panicked)?
    }

    fn request(&self, order: &Order) -> Result<Delivery, ClientError> {
        let client = self.lock().pop();
        let new = || Client::without_token(self.server.clone(), self.authority.clone());
        let mut client = client.map_or_else(new, Ok)?;
        let result = client.deliver_with(&order.token, &order.selection.request, TIMEOUT);
        self.lock().push(client);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
