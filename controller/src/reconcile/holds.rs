//! Holds: permissions to keep a rendered Secret in memory until it is written, for templates with slow functions.
//!
//! Such a Secret may be rendered quickly and is written up to a minute later. An attempt acquires a hold before it
//! unseals any value and keeps it until its outcome is published. Meanwhile the attempt occupies no slot, so other
//! objects are processed, however many attempts wait. Each class has its own holds, so no attempt waits for templates
//! that take longer than its own. Neither how long a hold is kept nor when another attempt gets one depends on a value.

use super::timing::SlowClass;
use crate::pool::Stopped;
use crate::pool::turns::{Job, Turn, Turns};

/// Number of holds of each class. An attempt with a hold keeps at most two mebibytes: one of results, and the items of
/// one object.
const HOLDS: usize = 24;
/// Number of holds that are reserved for namespaces without a hold.
const RESERVED: usize = HOLDS / 2;

/// The holds of all classes.
#[derive(Debug)]
pub(super) struct Holds([Turns; SlowClass::COUNT]);

impl Holds {
    /// Waits for a hold. Dropping the returned turn releases it.
    pub(super) async fn wait(&self, namespace: &str, class: SlowClass) -> Result<Turn, Stopped> {
        let turns = &self.0[class.index()];
        let turn = turns.enqueue(&mut Job::new(namespace));
        let turn = turn.await.map_err(|_| Stopped)?;
        turns.charge(namespace, 1);
        Ok(turn)
    }
}

impl Default for Holds {
    fn default() -> Self {
        Self([(); SlowClass::COUNT].map(|()| Turns::reserving(HOLDS, RESERVED)))
    }
}
