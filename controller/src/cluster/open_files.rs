//! How many connections this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Beside the watches: ports, callers, requests.
const OTHERS: u64 = 256;

/// Takes what the system gives, as programs in Go do by themselves: each watch has a connection of its
/// own, and a thousand namespaces are two thousand watches. Says so if that is not enough.
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
            wanted, "Too few files may be open (ulimit -n) for watches of all these namespaces"
        );
    }
}
