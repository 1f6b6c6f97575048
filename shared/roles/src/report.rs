//! Messages on stderr. Untrusted names in them cannot control the terminal.

use std::io::{self, Write as _};

use text::{lines_shown, shown};

/// Prints a message that is not the result. Line breaks in it are escaped, so names cannot start a new line.
pub fn info(message: &str) {
    write_stderr(&format!("{}\n", shown(message)));
}

/// Prints a message of several lines.
pub fn info_lines(messages: &str) {
    write_stderr(&format!("{messages}\n"));
}

/// Prints a warning. The run continues.
pub fn warn(message: &str) {
    write_stderr(&format!("warning: {message}\n"));
}

/// Writes to stderr. A write error, such as a closed pipe, does not stop the run.
pub fn write_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(lines_shown(text).as_bytes());
}
