//! The operating system's random numbers, for every program of this project.
//!
//! A generator in the memory of a process repeats its numbers when a virtual machine is restored from a snapshot, or
//! when a process is forked at the wrong moment; two values would then have the same session key. So random numbers
//! come from the kernel, except those that aws-lc-rs draws itself for RSA keys, OAEP and TLS. Clippy's
//! `disallowed-methods` refuses `rand::rng` and similar functions. Functions whose results depend on random numbers
//! take the generator as an argument, so that tests can pass a deterministic generator.

use rand::RngExt as _;
use rand::distr::{Distribution, StandardUniform};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

/// The operating system's generator. Panics if the system cannot provide random bytes, which cannot
/// happen on Linux after startup.
pub type SystemRng = UnwrapErr<SysRng>;

/// Returns the operating system's generator.
pub fn system() -> SystemRng {
    UnwrapErr(SysRng)
}

/// Returns a random number from the operating system.
pub fn number<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    system().random()
}
