//! Which files changed since the last look, by asking again and again.
//!
//! Polling rather than a notification service of the kernel: it works on every file system, network
//! and container mounts included, and nothing is lost when a queue overflows. A look costs one
//! `stat` a file; a file whose stamp is known is neither read nor parsed.

mod listing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use shared::error_chain;

use crate::folder::{FileError, Folder, Stamp};
pub use listing::{Depth, Listing, list};

/// A file touched less than this ago may still be in the middle of being written: it waits for a
/// later look. Long enough for the several writes of a copy, short enough not to be noticed.
pub const QUIET: SignedDuration = SignedDuration::from_millis(200);
/// Two writes can carry the same time when they come this close together, depending on the file
/// system; such a file is read again, and its content compared, until its time lies further back.
const GRANULARITY: SignedDuration = SignedDuration::from_secs(2);

/// What is known of one file.
#[derive(Debug)]
pub struct Known<T> {
    stamp: Option<Stamp>,
    digest: Option<[u8; 32]>,
    /// What it held when it was last understood.
    pub value: Option<T>,
    /// Why it is not understood now.
    pub problem: Option<String>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            stamp: None,
            digest: None,
            value: None,
            problem: None,
        }
    }
}

/// The files of a folder with what each holds.
#[derive(Debug)]
pub struct Polled<T> {
    files: BTreeMap<PathBuf, Known<T>>,
}

impl<T> Default for Polled<T> {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
        }
    }
}

/// What a look saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Is anything different from the look before?
    pub changed: bool,
    /// Was every file at rest?
    pub settled: bool,
}

impl<T> Polled<T> {
    /// The files by path below the root.
    pub fn files(&self) -> &BTreeMap<PathBuf, Known<T>> {
        &self.files
    }

    /// Reads and parses what changed. A file that cannot be read or parsed keeps its last value
    /// beside the problem; a file below a folder that could not be listed stays as it is.
    pub fn look(
        &mut self,
        root: &Folder,
        listing: &Listing,
        now: Timestamp,
        parse: impl Fn(&Path, &[u8]) -> Result<T, String>,
    ) -> Look {
        let before = self.files.len();
        self.files
            .retain(|path, _| listing.files.contains_key(path) || listing.is_unsure_of(path));
        let mut look = Look {
            changed: self.files.len() != before,
            settled: true,
        };
        for (path, stamp) in &listing.files {
            let known = self.files.get(path);
            if known.is_some_and(|known| known.stamp == Some(*stamp)) {
                continue;
            }
            if age(stamp, now).is_some_and(|age| age < QUIET) {
                look.settled = false;
                continue;
            }
            let known = self.files.entry(path.clone()).or_default();
            match known.refresh(root, path, now, &parse) {
                Ok(changed) => look.changed |= changed,
                Err(Moving) => look.settled = false,
            }
        }
        look
    }
}

/// Somebody is writing: look again later.
struct Moving;

impl<T> Known<T> {
    /// Says whether anything changed.
    fn refresh(
        &mut self,
        root: &Folder,
        path: &Path,
        now: Timestamp,
        parse: impl Fn(&Path, &[u8]) -> Result<T, String>,
    ) -> Result<bool, Moving> {
        let read = root
            .open_beneath(path)
            .and_then(|opened| Ok((opened.stamp, opened.read()?)));
        match read {
            Err(FileError::Changing { .. }) => Err(Moving),
            Err(error) if error.is_missing() => Err(Moving),
            Err(error) => {
                // Without stamp: what stops us reading may end without a change of the file.
                (self.stamp, self.digest) = (None, None);
                Ok(self.set_problem(Some(error_chain(&error))))
            }
            Ok((stamp, bytes)) => {
                let at_rest = age(&stamp, now).is_none_or(|age| age > GRANULARITY);
                self.stamp = at_rest.then_some(stamp);
                Ok(self.take(path, &bytes, parse))
            }
        }
    }

    fn take(
        &mut self,
        path: &Path,
        bytes: &[u8],
        parse: impl Fn(&Path, &[u8]) -> Result<T, String>,
    ) -> bool {
        let digest = sha256(bytes);
        if self.digest.replace(digest) == Some(digest) {
            return false;
        }
        match parse(path, bytes) {
            Ok(value) => {
                self.value = Some(value);
                self.problem = None;
            }
            Err(problem) => {
                self.problem = Some(problem);
            }
        }
        true
    }

    fn set_problem(&mut self, problem: Option<String>) -> bool {
        let changed = self.problem != problem;
        self.problem = problem;
        changed
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Time since a file was touched; `None` if that lies ahead, by a clock that is not ours.
fn age(stamp: &Stamp, now: Timestamp) -> Option<SignedDuration> {
    let nanoseconds = now.as_nanosecond() - stamp.touched();
    let nanoseconds = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
    Some(SignedDuration::from_nanos(nanoseconds)).filter(|age| !age.is_negative())
}

#[cfg(test)]
mod tests;
