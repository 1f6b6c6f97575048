//! File operations relative to an open directory. A name is a single path component, and a symbolic link is never
//! followed, so links that other programs create cannot lead out of the directory.
//!
//! This gives the same guarantee as `openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, and also works in
//! sandboxes that refuse that system call, such as gVisor and older seccomp profiles.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{Owner, TargetError};

const COMMON: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(COMMON);
/// With NONBLOCK, so that opening a FIFO does not wait for a writer.
const READ: OFlags = OFlags::NONBLOCK.union(COMMON);
const WRITE_NEW: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(COMMON);
/// Applications run as other users, so every user can open the directories; the modes of files restrict access.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
const NEW_FILE_MODE: Mode = Mode::from_raw_mode(0o600);
/// File system types, as `statfs` reports them, that keep their files in memory.
const TMPFS: i128 = 0x0102_1994;
const RAMFS: i128 = 0x8584_58f6;

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// The path, for messages only.
    path: PathBuf,
}

/// Mode, owner and group of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) mode: u32,
    pub(super) owner: Owner,
}

impl Directory {
    /// Opens the directory at a path that the user specified, following links in it.
    pub(super) fn open(path: &Path) -> Result<Self, TargetError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty());
        let fd = fd.map_err(|errno| TargetError::system("open", path, errno))?;
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    /// Opens a subdirectory.
    pub(super) fn child(&self, name: impl AsRef<OsStr>) -> Result<Self, TargetError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match fs::openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(errno) => Err(TargetError::system("open", &path, errno)),
        }
    }

    /// Opens a subdirectory, and creates it if it is missing.
    pub(super) fn child_or_new(&self, name: &str) -> Result<Self, TargetError> {
        step()?;
        match fs::mkdirat(&self.fd, name, DIRECTORY_MODE) {
            Err(errno) if errno != Errno::EXIST => return Err(self.error("create", name, errno)),
            _ => {}
        }
        let child = self.child(name)?;
        // The umask of this process may have removed permissions. The set-group-ID bit comes from the parent: the
        // kubelet sets it, together with the group `fsGroup`, on the root of a volume, so that the files get this
        // group.
        let result = fs::fstat(&child.fd).and_then(|stat| {
            let inherited = Mode::from_raw_mode(stat.st_mode) & Mode::SGID;
            fs::fchmod(&child.fd, DIRECTORY_MODE | inherited)
        });
        result.map_err(|errno| self.error("set the mode of", name, errno))?;
        Ok(child)
    }

    /// Returns the names and types of the entries, sorted by name.
    pub(super) fn entries(&self) -> Result<Vec<(OsString, FileType)>, TargetError> {
        let to_error = |errno| TargetError::system("list", &self.path, errno);
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(to_error)? {
            let entry = entry.map_err(to_error)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                entries.push((name.to_owned(), self.kind(name, entry.file_type())));
            }
        }
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(entries)
    }

    /// Returns the type of an entry. Some file systems do not list the types of their entries.
    fn kind(&self, name: &OsStr, listed: FileType) -> FileType {
        if listed != FileType::Unknown {
            return listed;
        }
        let stat = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_or(listed, |stat| FileType::from_raw_mode(stat.st_mode))
    }

    /// Returns the target of a symbolic link; `None` for everything else.
    pub(super) fn link_target(&self, name: impl AsRef<OsStr>) -> Option<OsString> {
        let target = fs::readlinkat(&self.fd, name.as_ref(), Vec::new()).ok()?;
        Some(OsStr::from_bytes(target.to_bytes()).to_owned())
    }

    /// Creates a file, which must not exist yet, and makes its content durable. The mode is set last, so no other
    /// user can open the file before its content is complete.
    pub(super) fn write_new(
        &self,
        name: &str,
        bytes: &[u8],
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<(), TargetError> {
        step()?;
        let fd = fs::openat(&self.fd, name, WRITE_NEW, NEW_FILE_MODE);
        let mut file = File::from(fd.map_err(|errno| self.error("create", name, errno))?);
        step()?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|source| self.io_error("write", name, source))?;
        if let Some(owner) = owner {
            owner.apply_to(&file).map_err(|source| TargetError::Owner {
                path: self.path.clone(),
                source,
            })?;
        }
        let result = fs::fchmod(&file, Mode::from_raw_mode(mode));
        result.map_err(|errno| self.error("set the mode of", name, errno))
    }

    /// Reads a regular file of at most `limit` bytes; `None` for anything else.
    pub(super) fn read(&self, name: &str, limit: u64) -> Option<(Zeroizing<Vec<u8>>, Properties)> {
        let fd = fs::openat(&self.fd, name, READ, Mode::empty()).ok()?;
        let stat = fs::fstat(&fd).ok()?;
        let size = u64::try_from(stat.st_size).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || size > limit {
            return None;
        }
        // Reading one byte more detects a file that grew, and the buffer is never reallocated.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).ok()? + 1));
        File::from(fd).take(size + 1).read_to_end(&mut bytes).ok()?;
        let mode = Mode::from_raw_mode(stat.st_mode).bits();
        let owner = Owner {
            user: stat.st_uid,
            group: stat.st_gid,
        };
        (bytes.len() as u64 == size).then_some((bytes, Properties { mode, owner }))
    }

    /// Creates a symbolic link, which must not exist yet.
    pub(super) fn link(&self, target: &str, name: &str) -> Result<(), TargetError> {
        step()?;
        let result = fs::symlinkat(target, &self.fd, name);
        result.map_err(|errno| self.error("create", name, errno))
    }

    /// Renames an entry within this directory, replacing the target if it exists.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), TargetError> {
        step()?;
        let result = fs::renameat(&self.fd, from, &self.fd, to);
        result.map_err(|errno| self.error("replace", to, errno))
    }

    /// Removes a file or link if it exists.
    pub(super) fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), TargetError> {
        step()?;
        self.unlink(name.as_ref(), AtFlags::empty())
    }

    /// Removes an empty directory if it exists.
    pub(super) fn remove_directory(&self, name: impl AsRef<OsStr>) -> Result<(), TargetError> {
        step()?;
        self.unlink(name.as_ref(), AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags) -> Result<(), TargetError> {
        match fs::unlinkat(&self.fd, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(TargetError::system("remove", &self.path.join(name), errno)),
        }
    }

    /// Makes the entries in this directory durable.
    pub(super) fn sync(&self) -> Result<(), TargetError> {
        fs::fsync(&self.fd).map_err(|errno| TargetError::system("write", &self.path, errno))
    }

    /// Takes the advisory lock of the directory until `self` is dropped. Returns `false` if another process holds the
    /// lock.
    pub(super) fn lock(&self) -> Result<bool, TargetError> {
        match fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(TargetError::system("lock", &self.path, errno)),
        }
    }

    /// Returns whether the file system of the directory keeps its files in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        let info = fs::fstatfs(&self.fd);
        info.is_ok_and(|info| [TMPFS, RAMFS].contains(&i128::from(info.f_type)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, verb: &'static str, name: &str, errno: Errno) -> TargetError {
        TargetError::system(verb, &self.path.join(name), errno)
    }

    fn io_error(&self, verb: &'static str, name: &str, source: std::io::Error) -> TargetError {
        let path = self.path.join(name);
        TargetError::System { verb, path, source }
    }
}

/// Called before changes in the file system. In tests it fails from a chosen step on, so that nothing is cleaned up, as
/// if the process had been killed.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it can fail")]
fn step() -> Result<(), TargetError> {
    Ok(())
}

#[cfg(test)]
pub(super) use tests::{STEPS_LEFT, step};

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How many steps succeed in this thread; `None` if all do.
        pub(in super::super) static STEPS_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    pub(in super::super) fn step() -> Result<(), TargetError> {
        match STEPS_LEFT.get() {
            None => Ok(()),
            Some(0) => Err(TargetError::system(
                "be killed at",
                Path::new(""),
                Errno::INTR,
            )),
            Some(left) => {
                STEPS_LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
