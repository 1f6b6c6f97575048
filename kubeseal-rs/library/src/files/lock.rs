//! Locks a file, so that runs of this program change the file one after another, where the system supports it.
//!
//! The lock is on the file itself, so no lock file appears in the user's repository. The lock only
//! avoids repeated work: [`super::replace_if_unchanged`] protects the file against changes by other programs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::platform;

/// How long to wait for the lock, so that a program that holds it longer does not block this one.
const TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// Locks the file, and waits while another run holds the lock. Returns `None` after [`TIMEOUT`], if the file cannot be
/// locked, and on Windows, where a locked file cannot be replaced.
pub(super) fn acquire(path: &Path) -> Option<File> {
    if cfg!(windows) {
        return None;
    }
    let end = Instant::now() + TIMEOUT;
    loop {
        let file = open(path).ok()?;
        match file.try_lock() {
            // If the previous holder of the lock has replaced the file, lock the new file.
            Ok(()) if is_file_at(&file, path) => return Some(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(_) => return None,
        }
    }
}

/// Opens the file, for writing if possible, since network file systems require that for locks.
/// Refuses files that are not regular, because opening them may block.
fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut options = OpenOptions::new();
    options.read(true);
    options.write(true).open(path).or_else(|_| File::open(path))
}

fn is_file_at(file: &File, path: &Path) -> bool {
    let metadata = file
        .metadata()
        .and_then(|locked| Ok((locked, fs::metadata(path)?)));
    metadata.is_ok_and(|(locked, current)| platform::is_same_file(&locked, &current))
}
