//! Differences between operating systems: `unix` and `windows` export the same functions.

#[cfg(unix)]
pub mod signals;
#[cfg(unix)]
mod unix;
#[cfg(not(unix))]
mod windows;

pub use hardening::memory;
#[cfg(unix)]
pub use unix::*;
#[cfg(not(unix))]
pub use windows::*;
