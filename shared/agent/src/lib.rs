//! The receiving side of delivery without Secret objects: requests values from a controller with the token of a Pod,
//! and writes them to files.
//!
//! This crate cannot unseal anything. It depends neither on the crate `shared` nor on crates for private keys such as
//! `rsa` and `age`; `.ci/run` checks this. So an attacker who takes over a program with this crate gets only what the
//! Pod's token grants.
//!
//! | module | content |
//! |---|---|
//! | [`client`] | one request to the controller |
//! | [`authority`] | the CA certificates that verify the controller's certificate |
//! | [`poll`] | waiting for the first values and for changes, with pauses after failures |
//! | [`target`] | the target directory, replaced atomically |
//! | [`env_file`] | the file that the kubelet reads for `fileKeyRef` |
//! | [`metrics`] | outcomes of requests |
//! | [`files`] | reading small files up to a limit |
//! | `random` | random numbers for names and pauses |

#![cfg(unix)]

pub mod authority;
pub mod client;
pub mod env_file;
pub mod files;
pub mod metrics;
pub mod poll;
mod random;
pub mod target;

#[cfg(test)]
mod testing;

pub use files::FileError;
