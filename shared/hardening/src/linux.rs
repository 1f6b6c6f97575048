//! Locks memory pages on Linux.

use rustix::io;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::Swap;
use crate::swap::has_swap;

/// Locks every current and future page of this process, if the system allows it. A page is locked when it is
/// first touched, so that unused memory stays unlocked.
pub fn lock_memory() -> Swap {
    let outcome = match lock_limit() {
        None => lock_all().map_or(Swap::Refused, |()| Swap::Locked),
        Some(bytes) => Swap::Limited(bytes),
    };
    if outcome.is_possible() && !has_swap() {
        return Swap::None;
    }
    outcome
}

/// Returns how many bytes this process may lock, after raising the limit as far as allowed; `None` means no limit.
/// Under a limit nothing is locked: `mlockall` counts address space, of which threads reserve more than usual limits,
/// and later allocations would fail.
fn lock_limit() -> Option<u64> {
    if can_ignore_limits() {
        return None;
    }
    raise_to_hard_limit();
    getrlimit(Resource::Memlock).current
}

fn can_ignore_limits() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

/// Raises the soft limit of locked memory (`RLIMIT_MEMLOCK`), which is often 8 MiB, to the hard limit.
fn raise_to_hard_limit() {
    let maximum = getrlimit(Resource::Memlock).maximum;
    let new_limit = Rlimit {
        current: maximum,
        maximum,
    };
    // If this fails, the old limit stays and is reported.
    let _ = setrlimit(Resource::Memlock, new_limit);
}

fn lock_all() -> io::Result<()> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
}
