//! The controller: turns SealedSecrets into Secrets.
//!
//! For each object everything is fetched first, then a plain function over plain data decides, and
//! then the plan is carried out with nothing left to choose. Time is an argument wherever anything
//! is decided by it; only the main loop reads a clock. Decisions are in the crate `controller_core`.
//!
//! | module | owns |
//! |---|---|
//! | [`args`] | flags and `SEALED_SECRETS_*` → `Config` |
//! | [`reconcile`] | gather → desired → decide → apply → try again |
//! | [`store`] | the interface to where objects live; [`store::directory`], [`store::cluster`] |
//! | [`key_store`], [`cluster_keys`] | key Secrets ↔ key ring, in a folder and in a cluster |
//! | `key_changes` | keys that come and go: what is reported, and what becomes of the last one |
//! | [`leader`] | which of several replicas may write |
//! | [`key_renewal`] | when and how a key is made |
//! | [`rounds`] | one round of the controller on a directory |
//! | [`cluster`] | the controller in a cluster: watches → reconcile |
//! | [`http`] | the endpoints, plain and for callers with a token; their limits |
//! | [`ports`] | which of them are open, and served |
//! | [`published`] | the certificate in a `ConfigMap` |
//! | [`metrics`] | every metric name and label |
//! | [`watch_health`] | which watches fail, since when and why |
//! | [`log`] | log lines |
//! | [`folder`], [`poll`] | files that cannot lead elsewhere; which of them changed |
//! | [`pool`] | bounded pools for work that blocks, shared out fairly |

pub mod args;
pub mod cluster;
pub mod cluster_keys;
mod expiry;
pub mod folder;
pub mod http;
mod key_changes;
pub mod key_renewal;
pub mod key_store;
pub mod leader;
pub mod log;
pub mod metrics;
pub mod poll;
pub mod pool;
pub mod ports;
pub mod published;
pub mod reconcile;
pub mod rounds;
pub mod store;
#[cfg(test)]
mod testing;
pub mod watch_health;
