//! The receiving side of delivery without Secret objects: asks a controller for values with the token of a Pod, and
//! writes them to files.
//!
//! This crate can decrypt nothing. It depends neither on the sealing core nor on a crate with private keys, and `.ci/run`
//! checks it, so an attacker who takes over a program with this crate gets only what the Pod's token gives.
//!
//! | module | content |
//! |---|---|
//! | [`client`] | one request to the controller |
//! | [`authority`] | the CA certificates that the controller's certificate is verified with |
//! | [`poll`] | waiting for the first values and for changes, with pauses after failures |
//! | [`target`] | the target folder, replaced atomically |
//! | [`env_file`] | the file that kubelet reads for `fileKeyRef` |
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
