//! Functions for Windows.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;

/// Runs the command, waits for it, and exits with its exit code, since Windows cannot replace a process. Returns only
/// on failure.
pub fn replace_process(mut command: Command, _: &OsStr) -> io::Error {
    // The command receives Ctrl-C too, and decides how it ends.
    let ignored = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    match ignored.and_then(|_| command.status()) {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// Converts bytes to the value of an environment variable; `None` if they are not UTF-8.
pub fn variable(bytes: &[u8]) -> Option<OsString> {
    Some(OsString::from(str::from_utf8(bytes).ok()?))
}

/// Returns whether two names identify the same environment variable.
pub fn is_same_variable(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}
