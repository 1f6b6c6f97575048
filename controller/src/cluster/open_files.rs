//! Raises the limit on open files of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// The number of open files that are reserved besides the watches: for ports, callers and requests.
const OTHER_FILES: u64 = 256;

/// Raises the limit on open files to the allowed maximum, as the Go runtime does: each watch has its own connection.
/// Logs a warning if the resulting limit is too low for this number of watches.
pub(super) fn raise(watches: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised_limit = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised_limit) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    let required = u64::try_from(watches)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_FILES);
    if let Some(limit) = limit.filter(|limit| *limit < required) {
        warn!(
            allowed = limit,
            wanted = required,
            "The limit on open files (ulimit -n) is too low to watch all configured namespaces"
        );
    }
}
