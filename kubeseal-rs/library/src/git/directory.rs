//! Checks the directory of a repository before reading it.
//!
//! Reading a named pipe may block indefinitely, and reading `/dev/zero` or a huge file exhausts the memory. An archive
//! or another user can replace a file of the repository with a pipe, a link to a device or a huge file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, FileType, Metadata};
use std::path::{Path, PathBuf};

use super::GitError;
use crate::files;

const MIB: u64 = 1 << 20;

/// The size limit for a file with settings, a path or a reference.
const SMALL_LIMIT: u64 = MIB;

/// The size limit for an index or a list of references.
const LARGE_LIMIT: u64 = 64 * MIB;

/// The maximum number of files and directories to check.
const MAX_FILES: usize = 1_000_000;

/// The kind of directory, which determines the size limits of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DirectoryKind {
    /// The directory of a repository or linked work tree, or its `info` directory.
    Repository,
    /// The `worktrees` directory, which contains a directory for each linked work tree.
    WorkTrees,
    References,
    Logs,
    Objects,
}

/// Checks that the directory of a repository, the directory that it shares with other work trees, and the object
/// directories that it borrows from contain no pipe, no device and no file above its size limit.
pub(super) fn check(git_dir: &Path) -> Result<(), GitError> {
    let mut check = DirectoryCheck {
        remaining: MAX_FILES,
        seen: BTreeSet::new(),
    };
    let Ok(metadata) = fs::metadata(git_dir) else {
        return Ok(());
    };
    let private = if metadata.is_dir() {
        git_dir.to_owned()
    } else {
        check_file(git_dir, &metadata, Some(SMALL_LIMIT))?;
        read_path_file(git_dir, "gitdir:").unwrap_or_else(|| git_dir.to_owned())
    };
    check.check_below(&private, DirectoryKind::Repository)?;
    let common = read_path_file(&private.join("commondir"), "");
    let common = common.unwrap_or(private);
    check.check_below(&common, DirectoryKind::Repository)?;
    check.check_borrowed(&common.join("objects"))
}

/// Reads the path in a small file, after a prefix. The path is relative to the file's directory. `None` if the file
/// cannot be read or lacks the prefix.
pub(super) fn read_path_file(file: &Path, prefix: &str) -> Option<PathBuf> {
    let bytes = files::read_regular(file, SMALL_LIMIT).ok()?;
    let path = bytes.strip_prefix(prefix.as_bytes())?.trim_ascii();
    let path = gix::path::from_byte_slice(path).ok()?;
    Some(file.parent()?.join(path))
}

/// Checks that a `.gitignore` of the work tree is a small regular file. Symbolic links are skipped,
/// since Git does not read them.
pub(super) fn check_gitignore(directory: &Path) -> Result<(), GitError> {
    let list = directory.join(".gitignore");
    match fs::symlink_metadata(&list) {
        Ok(metadata) if !metadata.is_symlink() => check_file(&list, &metadata, Some(SMALL_LIMIT)),
        _ => Ok(()),
    }
}

struct DirectoryCheck {
    remaining: usize,
    /// The directories checked so far, with symbolic links resolved.
    seen: BTreeSet<PathBuf>,
}

impl DirectoryCheck {
    fn check_below(&mut self, directory: &Path, kind: DirectoryKind) -> Result<(), GitError> {
        let mut directories = vec![(directory.to_owned(), kind)];
        while let Some((directory, kind)) = directories.pop() {
            // A symbolic link may lead back to a parent directory.
            let is_new = directory.canonicalize().is_ok_and(|f| self.seen.insert(f));
            let entries = is_new.then(|| fs::read_dir(&directory).ok()).flatten();
            for entry in entries.into_iter().flatten().flatten() {
                self.remaining = self.remaining.saturating_sub(1);
                if self.remaining == 0 {
                    return Err(irregular_error(
                        &directory,
                        &format!("more than {MAX_FILES} files"),
                    ));
                }
                if let Some(kind) = check_entry(&entry, kind)? {
                    directories.push((entry.path(), kind));
                }
            }
        }
        Ok(())
    }

    /// Checks object directories that a repository borrows from (`info/alternates`).
    fn check_borrowed(&mut self, objects: &Path) -> Result<(), GitError> {
        let mut directories = vec![objects.to_owned()];
        while let Some(directory) = directories.pop() {
            let list = directory.join("info/alternates");
            let Ok(text) = files::read_regular(&list, SMALL_LIMIT) else {
                continue;
            };
            for borrowed in gix::odb::alternate::parse(&text).unwrap_or_default() {
                let borrowed = objects.join(borrowed);
                let is_new = borrowed
                    .canonicalize()
                    .is_ok_and(|f| !self.seen.contains(&f));
                if is_new {
                    self.check_below(&borrowed, DirectoryKind::Objects)?;
                    directories.push(borrowed);
                }
            }
        }
        Ok(())
    }
}

/// Checks an entry in a directory like [`check`]. For a subdirectory whose entries have to be checked too, returns its
/// kind.
fn check_entry(entry: &DirEntry, kind: DirectoryKind) -> Result<Option<DirectoryKind>, GitError> {
    let name = entry.file_name();
    let limit = limit(&name, kind);
    // Skip the system call for object files: there are many, and the directory entry contains their type.
    if limit.is_none() && entry.file_type().is_ok_and(|kind| kind.is_file()) {
        return Ok(None);
    }
    let path = entry.path();
    let Ok(metadata) = fs::metadata(&path) else {
        return Ok(None);
    };
    if metadata.is_dir() {
        return Ok(subdirectory_kind(&name, kind));
    }
    check_file(&path, &metadata, limit).map(|()| None)
}

fn subdirectory_kind(name: &OsStr, kind: DirectoryKind) -> Option<DirectoryKind> {
    match kind {
        DirectoryKind::Repository => match name.to_str()? {
            "refs" => Some(DirectoryKind::References),
            "logs" => Some(DirectoryKind::Logs),
            "objects" => Some(DirectoryKind::Objects),
            "worktrees" => Some(DirectoryKind::WorkTrees),
            "info" => Some(DirectoryKind::Repository),
            _ => None,
        },
        DirectoryKind::WorkTrees => Some(DirectoryKind::Repository),
        other => Some(other),
    }
}

/// Returns the size limit for a file that is read completely; `None` for any other file.
fn limit(name: &OsStr, kind: DirectoryKind) -> Option<u64> {
    let name = name.to_str().unwrap_or_default();
    match (kind, name) {
        (DirectoryKind::References, _)
        | (DirectoryKind::Objects, "alternates" | "commit-graph-chain")
        | (
            DirectoryKind::Repository,
            "HEAD" | "config" | "config.worktree" | "commondir" | "gitdir" | "shallow" | "exclude"
            | "attributes" | "grafts" | "sparse-checkout",
        ) => Some(SMALL_LIMIT),
        // The index, and references such as `FETCH_HEAD`, are read completely too.
        (DirectoryKind::Repository, _) => {
            let is_reference = name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            let is_large = name == "packed-refs" || name.ends_with("index") || is_reference;
            is_large.then_some(LARGE_LIMIT)
        }
        _ => None,
    }
}

fn check_file(path: &Path, metadata: &Metadata, limit: Option<u64>) -> Result<(), GitError> {
    if is_special(metadata.file_type()) {
        return Err(irregular_error(path, "not a regular file"));
    }
    match limit {
        Some(limit) if metadata.len() > limit => {
            let why = format!("larger than the limit of {limit} bytes");
            Err(irregular_error(path, &why))
        }
        _ => Ok(()),
    }
}

/// Returns whether this is a pipe or a device. Sockets, such as that of a file system monitor, are allowed: opening a
/// socket fails immediately.
fn is_special(kind: FileType) -> bool {
    #[cfg(unix)]
    let is_socket = std::os::unix::fs::FileTypeExt::is_socket(&kind);
    #[cfg(not(unix))]
    let is_socket = false;
    !kind.is_file() && !kind.is_dir() && !is_socket
}

fn irregular_error(path: &Path, why: &str) -> GitError {
    GitError::Irregular {
        file: path.to_owned(),
        why: why.to_owned(),
    }
}
