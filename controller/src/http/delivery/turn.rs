//! The slot of a request, which the request gives up while it waits for the time of its response.

use tokio::time::{Instant, sleep_until};

use super::memory::{Memory, Reservation};
use super::refused::DeliveryRefusal;
use crate::pool::slots::{Job, Slot, Slots};

/// The turn of one request to create a response. Values that the request holds without a slot count toward the memory
/// of all responses.
pub(super) struct Turn<'a> {
    slots: &'a Slots,
    memory: &'a Memory,
    namespace: &'a str,
    slot: Option<Slot>,
    /// The size of the values that the request holds, in bytes.
    held: usize,
    /// The memory of these values, while the request has no slot.
    reservation: Option<Reservation>,
}

impl<'a> Turn<'a> {
    /// Creates a turn without a slot.
    pub(super) fn new(slots: &'a Slots, memory: &'a Memory, namespace: &'a str) -> Self {
        Self {
            slots,
            memory,
            namespace,
            slot: None,
            held: 0,
            reservation: None,
        }
    }

    /// Waits for a slot, unless the request has one.
    pub(super) async fn begin(&mut self) -> Result<(), DeliveryRefusal> {
        if self.slot.is_some() {
            return Ok(());
        }
        let slot = self.slots.enqueue(&mut Job::new(self.namespace));
        self.slot = Some(slot.await.map_err(|_| DeliveryRefusal::Busy)?);
        self.slots.charge(self.namespace, 1);
        self.reservation = None;
        Ok(())
    }

    /// Adds to the size of the values that the request holds.
    pub(super) fn hold(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// Records that the request no longer holds values.
    pub(super) fn release(&mut self) {
        self.held = 0;
        self.reservation = None;
    }

    /// Waits until `end`. Gives up the slot, if there is memory for the held values and for `more` bytes.
    pub(super) async fn pause(&mut self, end: Instant, more: usize) {
        if self.slot.is_some() {
            self.reservation = self.memory.reserve(self.namespace, self.held + more);
            if self.reservation.is_some() {
                self.slot = None;
            }
        }
        sleep_until(end).await;
    }
}
