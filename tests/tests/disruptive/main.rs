//! Tests that stop, kill or replace parts of a cluster, and tests of the control plane's own processes. Each test
//! starts a separate control plane.

mod cluster_faults;
mod event_limits;
mod migration;
mod outages;
mod plane_faults;
mod plane_processes;
mod replicas;
