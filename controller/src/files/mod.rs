//! File operations relative to an open directory. A name is a single path component and is not followed if it is a
//! symbolic link, so links that other programs create in the directory do not redirect the controller.

mod beneath;
mod error;
mod open_entry;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub use error::FileError;
use error::system_error;
pub use open_entry::{MAX_FILE, OpenEntry, Stamp};

/// Name prefix of temporary files, followed by 16 hexadecimal digits.
const TEMPORARY_PREFIX: &str = ".unfinished-";

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o700);
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(COMMON);
const COMMON: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);
/// With NONBLOCK, so that opening a FIFO does not wait for a writer.
const READ: OFlags = OFlags::NONBLOCK.union(COMMON);
const WRITE_NEW: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(COMMON);

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// The path for messages.
    path: PathBuf,
}

impl Directory {
    /// Opens the directory at a path that the user specified, following all links.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|e| system_error(path, e))?;
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    /// Opens a subdirectory.
    ///
    /// # Errors
    ///
    /// Fails if the subdirectory does not exist, is not a directory, is a link, or cannot be opened.
    pub fn child(&self, name: impl AsRef<OsStr>) -> Result<Self, FileError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match fs::openat(&self.fd, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(_) if self.link_target(name).is_some() => Err(FileError::Link { path }),
            Err(errno) => Err(system_error(&path, errno)),
        }
    }

    /// Opens a subdirectory, and creates it with mode 0700 if it is missing.
    ///
    /// # Errors
    ///
    /// Fails if the subdirectory is not a directory, is a link, or cannot be created or opened.
    pub fn child_or_new(&self, name: impl AsRef<OsStr>) -> Result<Self, FileError> {
        let name = name.as_ref();
        match fs::mkdirat(&self.fd, name, DIRECTORY_MODE) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(system_error(&self.path.join(name), errno)),
        }
        self.child(name)
    }

    /// Returns the names and types of the entries, sorted by name.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn entries(&self) -> Result<Vec<(OsString, FileType)>, FileError> {
        let to_error = |errno| system_error(&self.path, errno);
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(to_error)? {
            let entry = entry.map_err(to_error)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => self.stat(name)?.1,
                kind => kind,
            };
            entries.push((name.to_owned(), kind));
        }
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(entries)
    }

    /// Returns the target of a symbolic link; `None` for everything else.
    pub fn link_target(&self, name: impl AsRef<OsStr>) -> Option<OsString> {
        let target = fs::readlinkat(&self.fd, name.as_ref(), Vec::new()).ok()?;
        Some(OsStr::from_bytes(target.to_bytes()).to_owned())
    }

    /// Opens a file in this directory for reading, without following a link.
    ///
    /// # Errors
    ///
    /// Returns [`FileError::Link`] for a link, or the operating system's error.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<OpenEntry, FileError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match fs::openat(&self.fd, name, READ, Mode::empty()) {
            Ok(fd) => OpenEntry::new(fd, path),
            Err(Errno::LOOP) => Err(FileError::Link { path }),
            Err(errno) => Err(system_error(&path, errno)),
        }
    }

    /// Creates a file with mode 0600, which must not exist yet, and makes its content durable.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn write_new(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<(), FileError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let fd =
            fs::openat(&self.fd, name, WRITE_NEW, FILE_MODE).map_err(|e| system_error(&path, e))?;
        let mut file = File::from(fd);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|source| FileError::System { path, source })
    }

    /// Creates or replaces a file with mode 0600, atomically and durably. A crash leaves the old or the new
    /// content, and possibly a temporary file that [`Self::remove_leftovers`] removes.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let temporary = format!("{TEMPORARY_PREFIX}{:016x}", shared::random::number::<u64>());
        self.write_new(&temporary, bytes)?;
        self.rename(&temporary, name)?;
        self.sync()
    }

    /// Removes temporary files of killed processes. No other process may write to this directory at the same time.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn remove_leftovers(&self) -> Result<(), FileError> {
        for (name, kind) in self.entries()? {
            let digits = name
                .to_str()
                .and_then(|name| name.strip_prefix(TEMPORARY_PREFIX));
            let is_temporary = digits.is_some_and(|digits| {
                digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit())
            });
            if is_temporary && kind == FileType::RegularFile {
                self.remove(name)?;
            }
        }
        Ok(())
    }

    /// Creates a symbolic link, which must not exist yet.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn link(&self, target: &str, name: &str) -> Result<(), FileError> {
        fs::symlinkat(target, &self.fd, name).map_err(|e| self.error(name, e))
    }

    /// Renames an entry within this directory, replacing the target if it exists.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        fs::renameat(&self.fd, from, &self.fd, to).map_err(|e| self.error(to, e))
    }

    /// Removes a file or link if it exists.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), FileError> {
        self.unlink(name.as_ref(), AtFlags::empty(), &[Errno::NOENT])
    }

    /// Removes a directory if it exists and is empty.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn remove_directory_if_empty(&self, name: impl AsRef<OsStr>) -> Result<(), FileError> {
        let ignored = [Errno::NOENT, Errno::NOTEMPTY, Errno::EXIST];
        self.unlink(name.as_ref(), AtFlags::REMOVEDIR, &ignored)
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags, ignored: &[Errno]) -> Result<(), FileError> {
        match fs::unlinkat(&self.fd, name, flags) {
            Err(errno) if !ignored.contains(&errno) => Err(self.error(name, errno)),
            _ => Ok(()),
        }
    }

    /// Makes the entries in this directory durable.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn sync(&self) -> Result<(), FileError> {
        fs::fsync(&self.fd).map_err(|e| system_error(&self.path, e))
    }

    /// Takes the advisory lock on a file in this directory. Creates the file if it is missing. Returns `None` if
    /// another process holds the lock. The lock is released when the returned value is dropped or the process exits.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn lock(&self, name: &str) -> Result<Option<OwnedFd>, FileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | COMMON;
        let fd = fs::openat(&self.fd, name, flags, FILE_MODE).map_err(|e| self.error(name, e))?;
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(fd)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(self.error(name, errno)),
        }
    }

    /// Returns the stamp of this directory.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn stamp(&self) -> Result<Stamp, FileError> {
        let stat = fs::fstat(&self.fd).map_err(|e| system_error(&self.path, e))?;
        Ok(Stamp::from_stat(&stat))
    }

    /// Returns the stamp and type of an entry, without following a link.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<(Stamp, FileType), FileError> {
        let name = name.as_ref();
        let stat = fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.error(name, e))?;
        Ok((
            Stamp::from_stat(&stat),
            FileType::from_raw_mode(stat.st_mode),
        ))
    }

    /// Returns the path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, name: impl AsRef<OsStr>, errno: Errno) -> FileError {
        system_error(&self.path.join(name.as_ref()), errno)
    }
}

#[cfg(test)]
mod tests;
