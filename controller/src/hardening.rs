//! What keeps keys and values in this process's memory, and out of files.
//!
//! The binary's allocator wipes whatever is freed. This module turns off core dumps and, where the
//! system lets it, swap.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// What could be had of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Hardening {
    /// No core dump holds our memory, and no process of the same user reads it.
    pub no_dumps: bool,
    /// No page of ours goes to swap.
    pub locked: bool,
}

/// Protects the memory of this process, as far as the system allows. Call it before there are keys.
///
/// A process that must not be dumped cannot list its own open files any more, unless it is root, so
/// the metric `process_open_fds` is 0 then.
pub fn protect() -> Hardening {
    Hardening {
        no_dumps: forbid_dumps().is_ok(),
        locked: lock_memory().is_ok(),
    }
}

/// The limit alone is not enough: it does not hold for dumps that are piped to a program
/// (core(5)).
fn forbid_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Only without a limit: beyond one, later allocations would fail. Pages are locked when they are
/// first touched, so that nothing is held that is not used.
fn lock_memory() -> io::Result<()> {
    if getrlimit(Resource::Memlock).current.is_some() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Ok(mlockall(flags)?)
}
