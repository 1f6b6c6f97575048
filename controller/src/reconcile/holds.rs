//! Holds: permissions to keep a rendered Secret until it is written, for templates with slow functions.
//!
//! Such a Secret may be rendered in a moment and is written up to a minute later. An attempt takes a hold before it opens
//! any value and keeps it until its outcome is published. Meanwhile it occupies no slot, so other objects go on however
//! many wait. Each class has its own holds: nothing waits for templates that take longer than its own. How long a hold is
//! kept does not depend on a value, and neither does the moment at which another attempt gets one.

use super::timing::SlowClass;
use crate::pool::Stopped;
use crate::pool::turns::{Job, Turn, Turns};

/// Holds of each class. What is held is two mebibytes at most: a mebibyte of results, beside the items of one object.
const HOLDS: usize = 24;
/// Of these, so many are kept for namespaces that have none.
const RESERVED: usize = HOLDS / 2;

/// The holds of all classes.
#[derive(Debug)]
pub(super) struct Holds([Turns; SlowClass::COUNT]);

impl Holds {
    /// Waits for a hold. Dropping the returned turn gives it back.
    pub(super) async fn wait(&self, namespace: &str, class: SlowClass) -> Result<Turn, Stopped> {
        let turns = &self.0[class.index()];
        let turn = turns.wait(&mut Job::of(namespace));
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
