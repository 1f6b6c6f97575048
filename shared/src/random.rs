//! The system's random numbers, for every program of this project.
//!
//! A generator in the memory of a process gives the same numbers twice when a virtual machine is
//! restored from a snapshot, or a process is forked at the wrong moment; then two values would have
//! one session key. So each number is asked of the kernel. `rand` is built without its feature
//! `thread_rng`, which leaves no other generator to reach for: `rand::rng` and `rand::random` do not
//! exist. The functions of this crate take the generator as an argument, and tests pass in their own.

use rand::RngExt as _;
use rand::distr::{Distribution, StandardUniform};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

/// The operating system's generator. Panics if the system has no random bytes to give, which Linux
/// rules out once it has started.
pub type SystemRng = UnwrapErr<SysRng>;

/// The operating system's generator.
pub fn system() -> SystemRng {
    UnwrapErr(SysRng)
}

/// One number of the operating system's.
pub fn number<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    system().random()
}
