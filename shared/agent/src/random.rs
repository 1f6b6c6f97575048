//! Random numbers from the operating system. They make names unique and spread requests over time; no secret depends on
//! them.

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns a random number; 0 if the random generator of the system is not ready yet.
pub(crate) fn number() -> u32 {
    let mut bytes = [0; 4];
    // A signal never interrupts a read of so few bytes.
    let _ = getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}

/// Returns a random number from 0 to 1.
pub(crate) fn fraction() -> f64 {
    f64::from(number()) / f64::from(u32::MAX)
}
