//! Tests with a real Kubernetes control plane. The tests share a plane, in which each test has its own namespaces. A
//! test that changes or counts objects or requests of the whole cluster starts a separate plane.

mod behavior;
mod by_token;
mod chart;
mod cluster;
mod kubeseal_faults;
mod kubeseal_online;
mod kubeseal_trust;
mod seal_cluster;
mod seal_keys;
mod seal_pods;
mod seal_rotate;
mod service_path;
mod two_stores;
