//! Functions for Windows.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::path::Path;

/// Returns `true`: the owner of a file is not checked on Windows.
pub fn is_trusted(_: &Path, _: &Path) -> bool {
    true
}

/// Opens a file for reading. Opening does not block, since pipes on Windows are not files in directories.
///
/// # Errors
///
/// Returns the I/O error.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Returns `None`: Windows has no unnamed files.
pub fn unnamed_file(_: &Path) -> Option<File> {
    None
}

/// Never called, since there are no unnamed files.
///
/// # Errors
///
/// Always fails.
pub fn give_name(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns `false`: Windows cannot exchange files.
///
/// # Errors
///
/// Never fails.
#[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
pub fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Does nothing: a file gets its owner from its directory.
pub fn copy_owner(_: &File, _: &std::fs::Metadata) {}

/// Never called, since files are not locked.
pub fn is_same_file(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    true
}

/// Does nothing: a new directory inherits its permissions, and directories in the user's profile grant access to that
/// user only.
pub fn restrict_to_user(_: &mut DirBuilder) {}

/// Returns the permissions unchanged: access depends on the directory.
pub fn without_other_users(permissions: &Permissions) -> Permissions {
    permissions.clone()
}

/// Does nothing: Git for Windows runs hooks without an executable bit.
///
/// # Errors
///
/// Never fails.
#[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
pub fn make_executable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A terminal. `rpassword` turns the echo off for each question and restores it on Ctrl-C.
pub struct QuietTerminal;

impl QuietTerminal {
    /// Checks that there is a terminal.
    ///
    /// # Errors
    ///
    /// Returns the I/O error.
    pub fn open(_: bool) -> io::Result<Self> {
        let console = OpenOptions::new().read(true).write(true).open("CONIN$");
        console.map(|_| Self)
    }

    /// Does nothing: `rpassword` has restored the terminal. Returns `false`, since it is unknown whether there
    /// is more input.
    #[expect(clippy::unused_self, reason = "required on other systems")]
    pub fn restore(&self) -> bool {
        false
    }
}
