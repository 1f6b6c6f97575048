//! Hides when the values of an object were rendered and its Secret was written.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::attempt::Tools;
use super::timing::{self, Class};
use crate::pool::Stopped;
use crate::pool::turns::{Job, Turn};
use crate::store::{ObjectId, Store};

/// When one attempt may show anything. Without templates nothing is to be hidden.
#[derive(Debug, Default)]
pub(super) struct Curtain {
    /// From when on the Secret may be written.
    write: Option<Instant>,
    /// When the write began.
    written: Option<Instant>,
    is_reported: bool,
    /// Bytes of values that the attempt keeps.
    values: usize,
}

impl Curtain {
    /// Templates were rendered just now, and that began then.
    pub(super) fn draw(&mut self, class: Class, began: Instant, values: usize) {
        *self = Self {
            write: Some(began + class.write(began.elapsed())),
            values,
            ..Self::default()
        };
    }

    /// Were templates rendered?
    pub(super) fn is_drawn(&self) -> bool {
        self.write.is_some()
    }

    /// The duration of the attempt as metrics may show it.
    pub(super) fn shown(&self, took: Duration) -> Duration {
        if self.write.is_some() {
            timing::shown(took)
        } else {
            took
        }
    }
}

impl<S: Store> Tools<S> {
    /// Waits until the Secret may be written. What it gives is dropped after the write.
    pub(super) async fn before_the_write(
        &self,
        id: &ObjectId,
        curtain: &mut Curtain,
    ) -> Result<Option<Turn>, Stopped> {
        let Some(write) = curtain.write else {
            return Ok(None);
        };
        self.pause(id, curtain, write).await;
        let turn = self.writes.wait(&mut Job::of(&id.namespace));
        let turn = turn.await.map_err(|_| Stopped)?;
        self.writes.charge(&id.namespace, 1);
        curtain.written.get_or_insert_with(Instant::now);
        Ok(Some(turn))
    }

    /// Waits until the outcome may be published. Another time it does not wait.
    pub(super) async fn before_the_report(&self, id: &ObjectId, curtain: &mut Curtain) {
        let Some(write) = curtain.write.filter(|_| !curtain.is_reported) else {
            return;
        };
        self.pause(id, curtain, write).await;
        let written = *curtain.written.get_or_insert_with(Instant::now);
        let report = written + timing::report(written.elapsed());
        self.pause(id, curtain, report).await;
        curtain.is_reported = true;
    }

    async fn pause(&self, id: &ObjectId, curtain: &Curtain, until: Instant) {
        if until > Instant::now() {
            let _pause = self.pauses.begin(&id.namespace, curtain.values);
            sleep_until(until).await;
        }
    }
}
