//! The controller: turns SealedSecrets into Secrets.
//!
//! For each object the controller first reads all inputs, then decides in a pure function, and then applies the plan.
//! The current time is an argument of every decision about objects and keys. The decisions are in the crate
//! `controller_core`.
//!
//! | module | owns |
//! |---|---|
//! | [`args`] | flags and `SEALED_SECRETS_*` → `Config` |
//! | [`reconcile`] | gather → desired → decide → apply → retry |
//! | [`store`] | the interface to the object stores; [`store::directory`], [`store::cluster`] |
//! | [`key_store`], [`cluster_keys`] | key Secrets ↔ key ring, in a directory and in a cluster |
//! | `key_changes` | reports of added and removed keys; what happens when the last key is removed |
//! | [`leader`] | which of several replicas may write |
//! | [`key_renewal`] | when and how a key is generated |
//! | `expiry` | warnings while a served key is expired |
//! | `version_key` | the content-version key, which is stored in a Secret |
//! | [`directory`] | the controller on a directory, in rounds |
//! | [`cluster`] | the controller in a cluster: watches → reconcile |
//! | [`readable`] | API objects, read so that a malformed one does not break a list or watch |
//! | [`http`] | the unauthenticated and the authenticated endpoints; their limits |
//! | [`ports`] | which ports are open and served |
//! | [`published`] | the certificate in a `ConfigMap` |
//! | [`metrics`] | every metric name and label |
//! | [`watch_health`] | which watches fail, since when and why |
//! | [`log`] | log lines |
//! | [`files`], [`poll`] | file access that cannot leave a directory; detection of changed files |
//! | [`pool`] | bounded thread pools for blocking work, shared fairly |

pub mod args;
pub mod cluster;
pub mod cluster_keys;
pub mod directory;
mod expiry;
pub mod files;
pub mod http;
mod key_changes;
pub mod key_renewal;
pub mod key_store;
pub mod log;
pub mod metrics;
pub mod poll;
pub mod pool;
pub mod ports;
pub mod published;
pub mod reconcile;
pub mod store;
#[cfg(test)]
mod testing;
mod version_key;

pub use lease as leader;
pub use lease::{readable, watch_health};
