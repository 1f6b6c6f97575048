//! Determines when an attempt may write and report, so that neither reveals how long rendering and writing took.

use std::time::Duration;

use controller_core::object_id::ObjectId;
use tokio::time::{Instant, sleep_until};

use super::attempt::Tools;
use super::timing::{self, Class};
use crate::pool::Stopped;
use crate::pool::turns::{Job, Turn};
use crate::store::Store;

/// The times of one attempt. Attempts of objects without templates have none: their times depend on public data.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    class: Class,
    /// The earliest time of the write.
    write: Option<Instant>,
    /// When the write began.
    write_start: Option<Instant>,
    is_reported: bool,
    /// The size of the values that the attempt keeps, in bytes.
    values: usize,
    hold: Option<Turn>,
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
        *self = Self {
            class: self.class,
            write: Some(start + self.class.write_delay(start.elapsed())),
            values,
            hold: self.hold.take(),
            ..Self::default()
        };
    }

    /// Keeps a hold: the attempt occupies no slot until the hold is released.
    pub(super) fn keep_hold(&mut self, hold: Turn) {
        self.hold = Some(hold);
    }

    /// Releases the hold.
    pub(super) fn release_hold(&mut self) {
        self.hold = None;
    }

    /// Returns whether templates were rendered.
    pub(super) fn is_set(&self) -> bool {
        self.write.is_some()
    }

    /// Returns the duration of the attempt for metrics.
    pub(super) fn metric_duration(&self, took: Duration) -> Duration {
        if self.write.is_some() {
            timing::round_for_metrics(took)
        } else {
            took
        }
    }
}

impl<S: Store> Tools<S> {
    /// Waits until the Secret may be written. The caller drops the returned turn after the write.
    pub(super) async fn wait_to_write(
        &self,
        id: &ObjectId,
        schedule: &mut Schedule,
    ) -> Result<Option<Turn>, Stopped> {
        let Some(write) = schedule.write else {
            return Ok(None);
        };
        self.pause(id, schedule, write).await;
        let turn = self.writes.enqueue(&mut Job::new(&id.namespace));
        let turn = turn.await.map_err(|_| Stopped)?;
        self.writes.charge(&id.namespace, 1);
        schedule.write_start.get_or_insert_with(Instant::now);
        Ok(Some(turn))
    }

    /// Waits until the outcome may be published. Returns at once when called again.
    pub(super) async fn wait_to_report(&self, id: &ObjectId, schedule: &mut Schedule) {
        let Some(write) = schedule.write.filter(|_| !schedule.is_reported) else {
            return;
        };
        self.pause(id, schedule, write).await;
        let write_start = *schedule.write_start.get_or_insert_with(Instant::now);
        let report = write_start + timing::report_delay(write_start.elapsed());
        self.pause(id, schedule, report).await;
        schedule.is_reported = true;
    }

    async fn pause(&self, id: &ObjectId, schedule: &Schedule, until: Instant) {
        if schedule.hold.is_some() {
            sleep_until(until).await;
        } else if until > Instant::now() {
            let _pause = self.pauses.begin(&id.namespace, schedule.values);
            sleep_until(until).await;
        }
    }
}
