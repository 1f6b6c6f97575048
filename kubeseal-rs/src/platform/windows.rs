//! Windows.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;

/// The program of that path, which may lack its `.exe`. Scripts are named by their whole names.
pub(crate) fn program(path: PathBuf) -> Option<PathBuf> {
    let mut longer = path.clone().into_os_string();
    longer.push(".exe");
    let whole = path.extension().is_some().then_some(path);
    let mut candidates = [Some(longer.into()), whole].into_iter().flatten();
    candidates.find(|path: &PathBuf| path.is_file())
}

/// Runs the command, waits for it, and ends with its exit code: no process can take the place of
/// another one here. Comes back only with what went wrong.
pub(crate) fn become_command(mut command: Command, _: &OsStr) -> io::Error {
    // The command gets Ctrl-C, too, and says how it ends.
    let ignored = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    match ignored.and_then(|_| command.status()) {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// The value of a variable, if it can be one: text.
pub(crate) fn variable(bytes: &[u8]) -> Option<OsString> {
    Some(OsString::from(str::from_utf8(bytes).ok()?))
}

/// Who put a file there cannot be asked here.
pub(crate) fn is_ours(_: &Path, _: &Path) -> bool {
    true
}

/// Do two names mean one variable?
pub(crate) fn is_same_variable(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// Opens a file for reading. Pipes have names of their own here, and are no files of a folder.
pub(crate) fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Every file has a name here.
pub(crate) fn unnamed_file(_: &Path) -> Option<File> {
    None
}

/// Is not asked, since there is no unnamed file.
pub(crate) fn give_name(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not here.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// A file has the owner that its folder gives it.
pub(crate) fn give_to_owner_of(_: &File, _: &std::fs::Metadata) {}

/// Is not asked, since no file is locked.
pub(crate) fn is_same_file(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    true
}

/// They are for whom the folder above is: below the user's profile, for him alone.
pub(crate) fn for_this_user_alone(_: &mut DirBuilder) {}

/// Git for Windows runs hooks without asking for a right.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(crate) fn make_executable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A terminal. `rpassword` turns its echo off with each question, and puts it right on Ctrl-C.
pub(crate) struct QuietTerminal;

impl QuietTerminal {
    /// Makes sure that there is one.
    pub(crate) fn open() -> io::Result<Self> {
        let console = OpenOptions::new().read(true).write(true).open("CONIN$");
        console.map(|_| Self)
    }

    /// `rpassword` did.
    #[expect(clippy::unused_self, reason = "elsewhere there is something to do")]
    pub(crate) fn restore(&self) {}
}
