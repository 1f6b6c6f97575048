//! Tests that stop, kill or replace parts of a cluster, and tests of the control plane's own processes. None of them
//! uses the control plane that other tests share.

mod cluster_faults;
mod event_limits;
mod migration;
mod outages;
mod plane_faults;
mod plane_processes;
mod replicas;
