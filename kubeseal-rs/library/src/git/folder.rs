//! Checks the folder of a repository before reading it.
//!
//! Reading a named pipe may block indefinitely, and reading `/dev/zero` or a huge file exhausts the
//! memory. An archive or another user can replace a regular file by such a file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, FileType, Metadata};
use std::path::{Path, PathBuf};

use super::GitError;
use crate::files;

const MIB: u64 = 1 << 20;

/// The size limit for a file with settings, a path or a reference.
const SMALL: u64 = MIB;

/// The size limit for an index or a list of references.
const LARGE: u64 = 64 * MIB;

/// The limit for files and folders to check. After `git gc` there are a few thousand.
const MAX_FILES: usize = 1_000_000;

/// The kind of folder, which determines the size limits of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The folder of a repository or linked work tree, or its `info` folder.
    Repository,
    /// The folder that contains one folder for each linked work tree.
    WorkTrees,
    References,
    Logs,
    Objects,
}

/// Checks the folder of a repository, the folder that it shares with other work trees, and object
/// folders that it borrows from.
pub(super) fn check(git_dir: &Path) -> Result<(), GitError> {
    let mut check = Check {
        left: MAX_FILES,
        seen: BTreeSet::new(),
    };
    let Ok(found) = fs::metadata(git_dir) else {
        return Ok(());
    };
    let private = if found.is_dir() {
        git_dir.to_owned()
    } else {
        check_file(git_dir, &found, Some(SMALL))?;
        leads_to(git_dir, "gitdir:").unwrap_or_else(|| git_dir.to_owned())
    };
    check.below(&private, Place::Repository)?;
    let common = leads_to(&private.join("commondir"), "");
    let common = common.unwrap_or(private);
    check.below(&common, Place::Repository)?;
    check.borrowed(&common.join("objects"))
}

/// Reads the path in a small file. The path is relative to the file's folder.
pub(super) fn leads_to(file: &Path, prefix: &str) -> Option<PathBuf> {
    let bytes = files::read_regular(file, SMALL).ok()?;
    let path = bytes.strip_prefix(prefix.as_bytes())?.trim_ascii();
    let path = gix::path::from_byte_slice(path).ok()?;
    Some(file.parent()?.join(path))
}

/// Checks that a `.gitignore` of the work tree is a small regular file. Symbolic links are skipped,
/// since Git does not read them.
pub(super) fn check_ignored(folder: &Path) -> Result<(), GitError> {
    let list = folder.join(".gitignore");
    match fs::symlink_metadata(&list) {
        Ok(found) if !found.is_symlink() => check_file(&list, &found, Some(SMALL)),
        _ => Ok(()),
    }
}

struct Check {
    left: usize,
    /// The folders checked so far, with symbolic links resolved.
    seen: BTreeSet<PathBuf>,
}

impl Check {
    fn below(&mut self, folder: &Path, place: Place) -> Result<(), GitError> {
        let mut folders = vec![(folder.to_owned(), place)];
        while let Some((folder, place)) = folders.pop() {
            // A symbolic link may lead back to a parent folder.
            let is_new = folder.canonicalize().is_ok_and(|f| self.seen.insert(f));
            let entries = is_new.then(|| fs::read_dir(&folder).ok()).flatten();
            for entry in entries.into_iter().flatten().flatten() {
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    return Err(irregular(&folder, "too many files"));
                }
                if let Some(place) = check_entry(&entry, place)? {
                    folders.push((entry.path(), place));
                }
            }
        }
        Ok(())
    }

    /// Checks object folders that a repository borrows from (`info/alternates`).
    fn borrowed(&mut self, objects: &Path) -> Result<(), GitError> {
        let mut folders = vec![objects.to_owned()];
        while let Some(folder) = folders.pop() {
            let list = folder.join("info/alternates");
            let Ok(text) = files::read_regular(&list, SMALL) else {
                continue;
            };
            for other in gix::odb::alternate::parse(&text).unwrap_or_default() {
                let other = objects.join(other);
                let is_new = other.canonicalize().is_ok_and(|f| !self.seen.contains(&f));
                if is_new {
                    self.below(&other, Place::Objects)?;
                    folders.push(other);
                }
            }
        }
        Ok(())
    }
}

/// Checks a file. For a folder that has to be checked too, returns its kind.
fn check_entry(entry: &DirEntry, place: Place) -> Result<Option<Place>, GitError> {
    let name = entry.file_name();
    let limit = limit(&name, place);
    // Skip the system call for object files: there are many, and the folder entry tells their type.
    if limit.is_none() && entry.file_type().is_ok_and(|kind| kind.is_file()) {
        return Ok(None);
    }
    let path = entry.path();
    let Ok(found) = fs::metadata(&path) else {
        return Ok(None);
    };
    if found.is_dir() {
        return Ok(below(&name, place));
    }
    check_file(&path, &found, limit).map(|()| None)
}

fn below(name: &OsStr, place: Place) -> Option<Place> {
    match place {
        Place::Repository => match name.to_str()? {
            "refs" => Some(Place::References),
            "logs" => Some(Place::Logs),
            "objects" => Some(Place::Objects),
            "worktrees" => Some(Place::WorkTrees),
            "info" => Some(Place::Repository),
            _ => None,
        },
        Place::WorkTrees => Some(Place::Repository),
        other => Some(other),
    }
}

/// Returns the size limit for a file that is read completely.
fn limit(name: &OsStr, place: Place) -> Option<u64> {
    let name = name.to_str().unwrap_or_default();
    match (place, name) {
        (Place::References, _) | (Place::Objects, "alternates" | "commit-graph-chain") => {
            Some(SMALL)
        }
        (
            Place::Repository,
            "HEAD" | "config" | "config.worktree" | "commondir" | "gitdir" | "shallow" | "exclude"
            | "attributes" | "grafts" | "sparse-checkout",
        ) => Some(SMALL),
        // Other such files are the index and references such as `FETCH_HEAD`.
        (Place::Repository, _) => {
            let is_reference = name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            let is_large = name == "packed-refs" || name.ends_with("index") || is_reference;
            is_large.then_some(LARGE)
        }
        _ => None,
    }
}

fn check_file(path: &Path, found: &Metadata, limit: Option<u64>) -> Result<(), GitError> {
    if is_special(found.file_type()) {
        return Err(irregular(path, "not a regular file"));
    }
    match limit {
        Some(limit) if found.len() > limit => {
            let why = format!("larger than {limit} bytes");
            Err(irregular(path, &why))
        }
        _ => Ok(()),
    }
}

/// Returns whether this is a pipe or a device. Sockets are allowed, for example that of a file
/// system monitor: opening one fails at once.
fn is_special(kind: FileType) -> bool {
    #[cfg(unix)]
    let is_socket = std::os::unix::fs::FileTypeExt::is_socket(&kind);
    #[cfg(not(unix))]
    let is_socket = false;
    !kind.is_file() && !kind.is_dir() && !is_socket
}

fn irregular(path: &Path, why: &str) -> GitError {
    GitError::Irregular {
        file: path.to_owned(),
        why: why.to_owned(),
    }
}
