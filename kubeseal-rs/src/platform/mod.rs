//! Where operating systems differ: `unix` and `windows` give the same names. What a system cannot do
//! safely is refused and never done in a weaker way.

pub(crate) mod memory;
#[cfg(unix)]
pub(crate) mod signals;
#[cfg(unix)]
mod unix;
#[cfg(not(unix))]
mod windows;

#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(not(unix))]
pub(crate) use windows::*;
