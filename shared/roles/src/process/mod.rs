//! Differences between operating systems in how commands are started: `unix` and `windows` export the same functions.

#[cfg(unix)]
mod unix;
#[cfg(not(unix))]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(not(unix))]
pub use windows::*;
