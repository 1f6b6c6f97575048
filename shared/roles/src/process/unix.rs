//! Functions for Linux, macOS and other Unix systems.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Replaces this process with the command, whose `argv[0]` is `program`: the name from the command line. Returns only
/// on failure.
pub fn replace_process(mut command: Command, program: &OsStr) -> io::Error {
    command.arg0(program).exec()
}

/// Converts bytes to the value of an environment variable. Any bytes are valid.
pub fn variable(bytes: &[u8]) -> Option<OsString> {
    Some(OsString::from_vec(bytes.to_vec()))
}

/// Returns whether two names identify the same environment variable.
pub fn is_same_variable(one: &str, other: &str) -> bool {
    one == other
}
