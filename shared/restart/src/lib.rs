//! Brings new values of Secrets to the applications that use them: refreshes mounted files at once, and restarts
//! workloads that opt in. Also finds which Pods use which version of a Secret.
//!
//! Nothing here reads a Secret, a key or a plaintext value. Which content a Pod has follows from public data: the
//! versions in the status of a SealedSecret, and the time at which a container started.
//!
//! | module | content |
//! |---|---|
//! | [`consumption`] | how the containers of a Pod consume Secrets |
//! | [`annotations`] | by which annotations workloads, Secrets and Namespaces opt in |
//! | [`history`] | the versions of a Secret; which one a container has |
//! | [`known`] | the fields of the objects that are read |
//! | [`workload`], [`selector`], [`pod`], [`sealed`] | compact forms of the objects |
//! | [`decide`] | (workload, Secrets, Pods, time, memory) → restart it, wait, or leave it |
//! | [`refresh`], [`touches`] | which Pods are refreshed, and in which order |
//! | [`state`], [`turns`] | everything that is known, and the next step, in turns of the namespaces |
//! | [`survey`] | which Pod has which version, for `seal pods` |
//! | [`current`] | whether a Pod has the newest content of a Secret |
//! | `run` | watches, requests, leader election, metrics; on Linux |

pub mod annotations;
pub mod consumption;
pub mod current;
pub mod decide;
pub mod history;
pub mod known;
pub mod pod;
pub mod refresh;
#[cfg(target_os = "linux")]
pub mod run;
pub mod sealed;
pub mod selector;
pub mod state;
pub mod survey;
pub mod touches;
pub mod turns;
pub mod workload;
