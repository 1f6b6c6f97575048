//! Progress messages.

use std::io::{self, Write};

/// Writes a line to stderr. Bypasses the test runner's capture, which shows output only after a failure.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
