//! Lines for a person who waits.

use std::io::{self, Write};

/// Writes one line to stderr, past the test runner's capture: that shows a line only once the test
/// failed.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
