//! Determines when an attempt may write and report, so that neither time reveals how long rendering and writing took.

use std::time::Duration;

use controller_core::object_id::ObjectId;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::attempt::Tools;
use super::pauses::Pause;
use super::permits::Permit;
use super::timing::{self, Class};
use crate::pool::Stopped;
use crate::store::Store;
use fair::{Job, Slot};

/// The times of one attempt. An attempt has no times if its object has no templates, since its duration depends only on
/// public data, or if the store is not public.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    class: Class,
    /// The earliest time of the write.
    write: Option<Instant>,
    /// When the write began.
    write_start: Option<Instant>,
    /// When the outcome may be published.
    report: Option<Instant>,
    is_reported: bool,
    /// When to check again whether the Secret still needs its former values, or whether it still exists.
    next_check: Option<Timestamp>,
    /// The size of the values that the attempt keeps, in bytes.
    values: usize,
    permit: Option<Permit>,
    /// Kept until the end of the attempt.
    pause: Option<Pause>,
}

impl Schedule {
    /// Sets the class of the object's templates.
    pub(super) fn set_class(&mut self, class: Class) {
        self.class = class;
    }

    /// Returns the class of the object's templates.
    pub(super) fn class(&self) -> Class {
        self.class
    }

    /// Sets the times after templates were rendered. `start` is when rendering began.
    pub(super) fn set_times(&mut self, start: Instant, values: usize) {
        let permit = self.permit.take();
        *self = Self {
            class: self.class,
            write: Some(start + self.class.write_delay(start.elapsed())),
            values,
            // Without a permit, the size of the values determines whether the attempt may pause.
            pause: self.pause.take().filter(|_| permit.is_some()),
            permit,
            next_check: self.next_check,
            ..Self::default()
        };
    }

    /// Sets the time of the next check, which takes place even without a change.
    pub(super) fn set_next_check(&mut self, time: Option<Timestamp>) {
        self.next_check = time;
    }

    /// Returns the time of the next check, which takes place even without a change.
    pub(super) fn next_check(&self) -> Option<Timestamp> {
        self.next_check
    }

    /// Keeps a pause, during which the attempt occupies no slot.
    pub(super) fn keep_pause(&mut self, pause: Pause) {
        self.pause = Some(pause);
    }

    /// Keeps a permit for the values that the attempt will produce.
    pub(super) fn keep_permit(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Releases the permit, if the attempt has one.
    pub(super) fn release_permit(&mut self) {
        self.permit = None;
    }

    /// Returns whether the times are set: templates were rendered, and the store is public.
    pub(super) fn has_times(&self) -> bool {
        self.write.is_some()
    }

    /// Returns when the outcome may be published; `None` if the times are not set. The first call must follow the
    /// write, or the decision to leave the Secret.
    pub(super) fn publication(&mut self) -> Option<Instant> {
        let write = self.write?;
        let report = *self.report.get_or_insert_with(|| {
            let now = Instant::now();
            let write_start = self.write_start.unwrap_or(write.max(now));
            let took = now.saturating_duration_since(write_start);
            write_start + timing::report_delay(took)
        });
        Some(report)
    }

    /// Returns the duration of the attempt for metrics: rounded up if the times are set.
    pub(super) fn metric_duration(&self, took: Duration) -> Duration {
        if self.write.is_some() {
            timing::round_for_metrics(took)
        } else {
            took
        }
    }
}

impl<S: Store> Tools<S> {
    /// Waits until the Secret may be written. Returns the slot for writing, which the caller drops after the write;
    /// `None` if the schedule has no times.
    pub(super) async fn wait_to_write(
        &self,
        id: &ObjectId,
        schedule: &mut Schedule,
    ) -> Result<Option<Slot>, Stopped> {
        let Some(write) = schedule.write else {
            return Ok(None);
        };
        self.give_up_slot(id, schedule);
        sleep_until(write).await;
        let slot = self.writes.enqueue(&mut Job::new(&id.namespace));
        let slot = slot.await.map_err(|_| Stopped)?;
        self.writes.charge(&id.namespace, 1);
        schedule.write_start.get_or_insert_with(Instant::now);
        Ok(Some(slot))
    }

    /// Waits until the outcome may be published. Further calls return immediately.
    pub(super) async fn wait_to_report(&self, id: &ObjectId, schedule: &mut Schedule) {
        if schedule.is_reported {
            return;
        }
        let Some(report) = schedule.publication() else {
            return;
        };
        self.pause(id, schedule, report).await;
        schedule.is_reported = true;
    }

    async fn pause(&self, id: &ObjectId, schedule: &mut Schedule, until: Instant) {
        if until > Instant::now() {
            self.give_up_slot(id, schedule);
            sleep_until(until).await;
        }
    }

    /// Returns the time of a version that this attempt wrote: the time of its publication, which is later than the
    /// write and the same for all values, although rendering and writing take a time that depends on the values.
    pub(super) fn version_time(clock: fn() -> Timestamp, schedule: &mut Schedule) -> Timestamp {
        let now = clock();
        let remaining = schedule
            .publication()
            .map(|report| report.saturating_duration_since(Instant::now()));
        now.saturating_add(remaining.unwrap_or_default())
            .unwrap_or(now)
    }

    /// Gives up the slot of the attempt, if there is memory for its values.
    fn give_up_slot(&self, id: &ObjectId, schedule: &mut Schedule) {
        if schedule.pause.is_none() {
            schedule.pause = self.pauses.begin(&id.namespace, schedule.values);
        }
    }
}
