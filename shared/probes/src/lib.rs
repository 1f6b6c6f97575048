//! A port with metrics and probes, for programs that only have a few counters.
//!
//! | module | content |
//! |---|---|
//! | `server` | the port, with the feature `server` |
//! | [`metrics`] | counters, gauges, and Prometheus' text format |

pub mod metrics;
#[cfg(feature = "server")]
mod server;

#[cfg(feature = "server")]
pub use server::Server;

/// The metrics and the readiness that the port serves.
pub trait Status: Send + Sync + 'static {
    /// Returns the metrics in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Returns whether the process is ready.
    fn is_ready(&self) -> bool {
        true
    }
}
