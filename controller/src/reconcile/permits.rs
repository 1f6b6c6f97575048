//! Permits to keep a rendered Secret in memory until it is written, for templates with slow functions.
//!
//! Such a Secret may be rendered quickly and is written up to a minute later. An attempt acquires a permit before it
//! unseals any value, and keeps the permit until its outcome is published. In the meantime the attempt occupies no
//! slot, so other objects are processed regardless of the number of waiting attempts. Each class has its own permits,
//! so no attempt waits for templates that take longer than its own. The time for which an attempt keeps a permit, and
//! the time when another attempt gets it, do not depend on any value.

use super::timing::SlowClass;
use crate::pool::Stopped;
use fair::{Job, Slot, Slots};

/// Number of permits of each class. An attempt with a permit keeps at most two mebibytes: one of results, and one for
/// the items of one object.
const PERMITS: usize = 24;
/// Number of permits that are reserved for namespaces without a permit.
const RESERVED: usize = PERMITS / 2;

/// The permits of all classes. Each class is a set of slots, and each slot is a permit.
#[derive(Debug)]
pub(super) struct Permits([Slots; SlowClass::COUNT]);

/// A permit, released when dropped.
pub(super) type Permit = Slot;

impl Permits {
    /// Waits for a permit, which is released on drop.
    pub(super) async fn acquire(
        &self,
        namespace: &str,
        class: SlowClass,
    ) -> Result<Permit, Stopped> {
        let permits = &self.0[class.index()];
        let permit = permits.enqueue(&mut Job::new(namespace));
        let permit = permit.await.map_err(|_| Stopped)?;
        permits.charge(namespace, 1);
        Ok(permit)
    }
}

impl Default for Permits {
    fn default() -> Self {
        Self([(); SlowClass::COUNT].map(|()| Slots::reserving(PERMITS, RESERVED)))
    }
}
