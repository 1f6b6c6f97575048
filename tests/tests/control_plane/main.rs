//! Tests with a real Kubernetes control plane. They share one, in which each has its own namespaces; a test that changes
//! or counts what belongs to the whole cluster starts its own.

mod behavior;
mod by_token;
mod chart;
mod cluster;
mod kubeseal_faults;
mod kubeseal_online;
mod kubeseal_trust;
mod seal_cluster;
mod seal_keys;
mod seal_rotate;
mod service_path;
mod two_stores;
