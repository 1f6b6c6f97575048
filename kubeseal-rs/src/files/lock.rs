//! One of our own runs changes a file at a time.
//!
//! The lock is on the file itself, so that none lies beside it in somebody's repository. It only saves work:
//! what protects a file of other programs' changes is [`super::replace_same`].

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::platform;

/// Ours hold it for some milliseconds. A stranger who holds it for longer does not stop anybody.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until no other run holds the file. Nothing where a file cannot be locked, or not be replaced then, as on
/// Windows.
pub(super) fn hold(path: &Path) -> Option<File> {
    if cfg!(windows) {
        return None;
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let file = open(path).ok()?;
        match file.try_lock() {
            // Who held it until now has put another file there.
            Ok(()) if is_at(&file, path) => return Some(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(_) => return None,
        }
    }
}

/// For writing, if possible, which locks on network file systems need. What is no regular file may block.
fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut options = OpenOptions::new();
    options.read(true);
    options.write(true).open(path).or_else(|_| File::open(path))
}

fn is_at(file: &File, path: &Path) -> bool {
    let facts = file
        .metadata()
        .and_then(|ours| Ok((ours, fs::metadata(path)?)));
    facts.is_ok_and(|(ours, there)| platform::is_same_file(&ours, &there))
}
