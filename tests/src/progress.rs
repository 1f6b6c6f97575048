//! Progress messages.

use std::io::{self, Write};

/// Writes a line to stderr. Bypasses the test runner's capture, which shows output only after a failure.
pub(crate) fn print_progress(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
