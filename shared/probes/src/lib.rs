//! A port with metrics and probes, for programs that only have a few counters.
//!
//! | module | content |
//! |---|---|
//! | `server` | the port |
//! | [`metrics`] | counters, gauges, and Prometheus' text format |

pub mod metrics;
mod server;

pub use server::{Server, Status};
