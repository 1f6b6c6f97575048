//! Raises the limit on open files of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Number of open files besides the watches: for ports, callers and requests.
const OTHERS: u64 = 256;

/// Raises the limit on open files to the allowed maximum, as the Go runtime does: each watch has its own connection,
/// and a thousand namespaces need two thousand watches. Logs a warning if the maximum is too low.
pub(super) fn raise(watches: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    let wanted = u64::try_from(watches)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS);
    if let Some(allowed) = allowed.filter(|allowed| *allowed < wanted) {
        warn!(
            allowed,
            wanted, "The limit on open files (ulimit -n) is too low to watch all these namespaces"
        );
    }
}
