//! Brings new values of Secrets to the applications that use them: refreshes mounted files immediately, and restarts
//! workloads that opt in. Also finds which Pods use which version of a Secret.
//!
//! Nothing here reads a Secret, a key or a plaintext value. Which content a Pod has follows from public data: the
//! versions in the status of a SealedSecret, the time at which a container started, and, for values without a Secret,
//! the records of the CSI driver and the logs of the receiving programs.
//!
//! | module | content |
//! |---|---|
//! | [`consumption`] | how the containers of a Pod consume Secrets |
//! | [`annotations`] | the annotations with which workloads, Secrets and Namespaces opt in |
//! | [`history`] | the content versions of a Secret; which of them a container has |
//! | [`fields`] | the fields of the objects that are read |
//! | [`workload`], [`selector`], [`pod`], [`sealed`] | compact forms of the objects |
//! | [`decide`] | (workload, Secrets, Pods, time, memory) → restart, wait, or no action |
//! | [`refresh`], [`refresh_queue`] | which Pods are refreshed, and in which order |
//! | [`state`], [`turns`] | the known state of the cluster, and the next step; namespaces take turns |
//! | [`survey`] | which Pod has which version, for `seal pods` |
//! | [`delivered`] | values that a Pod receives without a Secret |
//! | [`current`] | whether a Pod has the newest content of a Secret |
//! | `run` | watches, requests, leader election, metrics; on Linux |

pub mod annotations;
pub mod consumption;
pub mod current;
pub mod decide;
pub mod delivered;
pub mod fields;
pub mod history;
pub mod pod;
pub mod refresh;
pub mod refresh_queue;
#[cfg(target_os = "linux")]
pub mod run;
pub mod sealed;
pub mod selector;
pub mod state;
pub mod survey;
pub mod turns;
pub mod workload;
