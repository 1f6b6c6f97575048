//! Locking pages.

use rustix::io;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::Swap;
use crate::swap::has_swap;

/// Locks every page of this process, now and later, if no limit stands in the way. Pages are locked when
/// they are first touched, so that nothing is held that is not used.
pub fn lock_memory() -> Swap {
    let outcome = match limit() {
        None => lock_all().map_or(Swap::Refused, |()| Swap::Locked),
        Some(bytes) => Swap::Limited(bytes),
    };
    if outcome.is_possible() && !has_swap() {
        return Swap::None;
    }
    outcome
}

/// What this process may lock; none for everything. Under a limit nothing is locked: `mlockall` counts
/// address space, of which threads reserve more than any limit, and later allocations would fail.
fn limit() -> Option<u64> {
    if may_ignore_limits() {
        return None;
    }
    raise_to_hard_limit();
    getrlimit(Resource::Memlock).current
}

fn may_ignore_limits() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

/// Many systems have a soft limit of 8 MiB below a hard one that is higher.
fn raise_to_hard_limit() {
    let maximum = getrlimit(Resource::Memlock).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Where this fails the limit stays, and is reported.
    let _ = setrlimit(Resource::Memlock, raised);
}

fn lock_all() -> io::Result<()> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}
