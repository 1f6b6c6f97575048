//! Keeps the memory of a process out of core dumps and swap, as far as the system allows.
//!
//! Two modules are for command-line tools that handle values: [`memory`] creates files in memory instead of on disk,
//! and [`programs`] finds external programs without relative paths, so that no program of an untrusted repository is
//! run.
//!
//! Freed memory is wiped by an allocator, which only a binary can choose: `zeroizing_alloc::ZeroAlloc` in each `main`.
//! `NOTES.md` describes the limits.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod swap;

pub mod memory;
pub mod programs;

#[cfg(target_os = "linux")]
pub use linux::lock_memory;

use std::fmt;

/// Whether memory can be written to disk as swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// Every page is locked when it is first touched.
    Locked,
    /// Nothing is locked, but this process cannot be swapped out.
    None,
    /// Pages can be swapped out, and nothing is locked: the process may lock only this many bytes.
    Limited(u64),
    /// Pages can be swapped out: the system refused to lock them.
    Refused,
}

impl Swap {
    /// Returns whether memory, and so a key, can be written to disk.
    pub fn is_possible(self) -> bool {
        matches!(self, Self::Limited(_) | Self::Refused)
    }
}

impl fmt::Display for Swap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("locked"),
            Self::None => f.write_str("not locked, but this process cannot be swapped out"),
            Self::Limited(bytes) => write!(
                f,
                "not locked: RLIMIT_MEMLOCK is {bytes} bytes; remove the limit, add the capability IPC_LOCK, or \
                 disable swap"
            ),
            Self::Refused => f.write_str("not locked: the system refused; disable swap"),
        }
    }
}

/// Disables core dumps of this process, and on Linux also reads of its memory by other processes of the same
/// user. Child processes that run another program are not affected on Linux; on other Unix systems they inherit the
/// limit, and can raise it. Returns whether the system accepted the setting: always `false` on Windows.
pub fn forbid_dumps() -> bool {
    try_forbid_dumps().is_ok()
}

/// Sets the process as not dumpable. This also applies to dumps that are piped to a program, and ends at `exec`;
/// `RLIMIT_CORE` would be inherited by every child, and does not apply to those dumps (core(5)).
#[cfg(target_os = "linux")]
fn try_forbid_dumps() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Lowers only the soft limit of core dumps, so that a child can raise it again.
#[cfg(all(unix, not(target_os = "linux")))]
fn try_forbid_dumps() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Core)
    };
    Ok(setrlimit(Resource::Core, limit)?)
}

/// Not supported on other systems.
#[cfg(not(unix))]
fn try_forbid_dumps() -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
