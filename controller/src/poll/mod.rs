//! Detects changed files by polling.
//!
//! Polling works on every file system, including network and container mounts, and does not depend on a notification
//! queue that can overflow. A poll costs one `stat` per file; a file whose stamp is unchanged is neither read nor
//! parsed.

mod listing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use shared::error_chain;

use crate::files::{Directory, FileError, Stamp};
pub use listing::{Depth, Listing, list};

/// Minimum age of a change before the file is read, since a file that changed more recently may be incomplete. Longer
/// than the pauses between the writes of a copy, and too short for users to notice.
pub const QUIET_PERIOD: SignedDuration = SignedDuration::from_millis(200);
/// The longest time within which two writes can have the same timestamp on some file systems. A file with such a recent
/// change is read and compared again until its timestamp is older.
const GRANULARITY: SignedDuration = SignedDuration::from_secs(2);

/// The last valid content of a file, and the problem of its current content.
#[derive(Debug)]
pub struct PolledFile<T> {
    stamp: Option<Stamp>,
    digest: Option<[u8; 32]>,
    /// The content of the last successful parse.
    pub value: Option<T>,
    /// Why the current content is invalid.
    pub problem: Option<String>,
}

impl<T> Default for PolledFile<T> {
    fn default() -> Self {
        Self {
            stamp: None,
            digest: None,
            value: None,
            problem: None,
        }
    }
}

/// The files in a directory with their parsed content.
#[derive(Debug)]
pub struct PolledFiles<T> {
    files: BTreeMap<PathBuf, PolledFile<T>>,
}

impl<T> Default for PolledFiles<T> {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
        }
    }
}

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollResult {
    /// Whether anything changed since the last poll.
    pub changed: bool,
    /// Whether every changed file was read. False if a file was skipped, since another program may still be writing it.
    pub settled: bool,
}

impl<T> PolledFiles<T> {
    /// Returns the files by path relative to the root.
    pub fn files(&self) -> &BTreeMap<PathBuf, PolledFile<T>> {
        &self.files
    }

    /// Reads and parses the changed files. A file that cannot be read or parsed keeps its last value and has a problem;
    /// a file below a directory that cannot be listed stays unchanged.
    pub fn scan(
        &mut self,
        root: &Directory,
        listing: &Listing,
        now: Timestamp,
        parse: impl Fn(&Path, &[u8]) -> Result<T, String>,
    ) -> PollResult {
        let previous_count = self.files.len();
        self.files
            .retain(|path, _| listing.files.contains_key(path) || listing.may_contain(path));
        let mut result = PollResult {
            changed: self.files.len() != previous_count,
            settled: true,
        };
        for (path, stamp) in &listing.files {
            let previous = self.files.get(path);
            if previous.is_some_and(|previous| previous.stamp == Some(*stamp)) {
                continue;
            }
            if age(stamp, now).is_some_and(|age| age < QUIET_PERIOD) {
                result.settled = false;
                continue;
            }
            let file = self.files.entry(path.clone()).or_default();
            match file.refresh(root, path, now, &parse) {
                Ok(changed) => result.changed |= changed,
                Err(BeingWritten) => result.settled = false,
            }
        }
        result
    }
}

/// Another program is writing or replacing the file, so it is read in a later poll.
struct BeingWritten;

impl<T> PolledFile<T> {
    /// Reads the file, and parses its content if it changed. Returns whether the content or the problem changed.
    fn refresh(
        &mut self,
        root: &Directory,
        path: &Path,
        now: Timestamp,
        parse: impl Fn(&Path, &[u8]) -> Result<T, String>,
    ) -> Result<bool, BeingWritten> {
        let content = root
            .open_beneath(path)
            .and_then(|opened| Ok((opened.stamp, opened.read()?)));
        match content {
            Err(FileError::Changing { .. }) => Err(BeingWritten),
            Err(error) if error.is_missing() => Err(BeingWritten),
            Err(error) => {
                // Without a stamp, the file is read again in the next poll: the cause of the error can end without a
                // change to the file.
                (self.stamp, self.digest) = (None, None);
                Ok(self.set_problem(Some(error_chain(&error))))
            }
            Ok((stamp, bytes)) => {
                let is_old = age(&stamp, now).is_none_or(|age| age > GRANULARITY);
                self.stamp = is_old.then_some(stamp);
                Ok(self.update(path, &bytes, parse))
            }
        }
    }

    /// Parses the content if it differs from the previous content. Returns whether it differs.
    fn update(
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

/// Returns the time since the last change to a file; `None` if the change is in the future by this machine's clock.
fn age(stamp: &Stamp, now: Timestamp) -> Option<SignedDuration> {
    let nanoseconds = now.as_nanosecond() - stamp.last_change_nanoseconds();
    let nanoseconds = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
    Some(SignedDuration::from_nanos(nanoseconds)).filter(|age| !age.is_negative())
}

#[cfg(test)]
mod tests;
