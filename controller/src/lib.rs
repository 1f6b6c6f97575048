//! The controller: turns SealedSecrets into Secrets.
//!
//! For each object the controller first fetches everything, then decides in a pure function over plain data,
//! and then applies the plan without further decisions. Time is an argument wherever a decision depends on
//! it; only the main loop reads a clock.
//!
//! | module | owns |
//! |---|---|
//! | [`args`] | flags and `SEALED_SECRETS_*` → `Config` |
//! | [`reconcile`] | gather → desired → decide → apply → retry |
//! | [`decide`] | desired + existing → `Plan` |
//! | [`status`] | outcome + last status → status to record |
//! | [`ownership`] | which Secrets are owned, and how an existing one is updated |
//! | [`author_limits`] | what authors of SealedSecrets may ask for |
//! | [`drift`] | how often edits and deletions by other clients are corrected |
//! | [`token_secrets`] | what Kubernetes itself adds to a Secret, which is not drift |
//! | [`store`] | the interface to the object stores; [`store::directory`], [`store::cluster`] |
//! | [`key_store`], [`cluster_keys`] | key Secrets ↔ key ring, in a folder and in a cluster |
//! | `key_changes` | added and removed keys: reports, and removal of the last key |
//! | [`leader`] | which of several replicas may write |
//! | [`key_renewal`] | when and how a key is made |
//! | [`rounds`] | one round of the controller on a directory |
//! | [`cluster`] | the controller in a cluster: watches → reconcile |
//! | [`http`] | the endpoints, unauthenticated and for callers with a token; their limits |
//! | [`ports`] | which ports are open and served |
//! | [`published`] | the certificate in a `ConfigMap` |
//! | [`metrics`] | every metric name and label |
//! | [`watch_health`] | which watches fail, since when and why |
//! | [`log`] | log lines |
//! | [`folder`], [`poll`] | file access that cannot leave a folder; detection of changed files |
//! | `fair` | fair shares among tenants |
//! | [`pool`] | bounded thread pools for blocking work, shared fairly |

pub mod added_metadata;
pub mod args;
pub mod author_limits;
pub mod cluster;
pub mod cluster_keys;
pub mod decide;
pub mod drift;
mod expiry;
mod fair;
pub mod folder;
pub mod http;
mod key_changes;
pub mod key_renewal;
pub mod key_store;
pub mod leader;
pub mod log;
pub mod metrics;
pub mod no_secret;
pub mod ownership;
pub mod poll;
pub mod pool;
pub mod ports;
pub mod published;
pub mod reconcile;
pub mod rounds;
pub mod status;
pub mod store;
#[cfg(test)]
mod testing;
pub mod token_secrets;
pub mod watch_health;
