//! Differences between operating systems: `unix` and `windows` export the same names. What a system
//! cannot do safely is refused, never replaced by something weaker.

pub mod memory;
#[cfg(unix)]
pub mod signals;
#[cfg(unix)]
mod unix;
#[cfg(not(unix))]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(not(unix))]
pub use windows::*;
