//! An open file or directory, and the stamp that shows whether a file changed.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{self, FileType, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::error::system_error;
use super::{Directory, FileError};

/// Maximum size of a file. An API server accepts manifests of about 3 MiB.
pub const MAX_FILE: u64 = 16 * 1024 * 1024;

/// An open file or directory below a [`Directory`], with its metadata.
#[derive(Debug)]
pub struct OpenEntry {
    fd: OwnedFd,
    path: PathBuf,
    /// The stamp at the time of opening.
    pub stamp: Stamp,
    /// The file type.
    pub kind: FileType,
}

/// Metadata of a file or directory, which shows a change without reading the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The device and inode number.
    pub identity: (u64, u64),
    size: u64,
    /// The last change to the content, in seconds and nanoseconds since 1970.
    modified: (i64, i64),
    /// The last change to the metadata, in seconds and nanoseconds since 1970.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn from_stat(stat: &Stat) -> Self {
        Self {
            identity: (stat.st_dev, stat.st_ino),
            size: stat.st_size.cast_unsigned(),
            modified: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            changed: (stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
        }
    }

    /// Returns the time of the last change of content or metadata, in nanoseconds since 1970.
    pub fn last_change_nanoseconds(&self) -> i128 {
        let (seconds, nanoseconds) = self.modified.max(self.changed);
        i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
    }
}

impl OpenEntry {
    pub(super) fn new(fd: OwnedFd, path: PathBuf) -> Result<Self, FileError> {
        let stat = fs::fstat(&fd).map_err(|e| system_error(&path, e))?;
        Ok(Self {
            fd,
            path,
            stamp: Stamp::from_stat(&stat),
            kind: FileType::from_raw_mode(stat.st_mode),
        })
    }

    /// Returns the content of a regular file. The buffer is wiped when dropped, since it may contain a key or a
    /// plaintext value.
    ///
    /// # Errors
    ///
    /// Fails if the file is not a regular file, is larger than [`MAX_FILE`], changes while it is read, or cannot be
    /// read.
    pub fn read(self) -> Result<Zeroizing<Vec<u8>>, FileError> {
        let Self {
            fd,
            path,
            stamp,
            kind,
        } = self;
        if kind != FileType::RegularFile {
            return Err(FileError::NotRegular { path });
        }
        if stamp.size > MAX_FILE {
            return Err(FileError::TooLarge { path });
        }
        // One byte more than the file size, to detect growth. A buffer that is never reallocated leaves no copies of
        // the content in memory.
        let capacity = usize::try_from(stamp.size).unwrap_or(0) + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        let mut file = File::from(fd).take(stamp.size + 1);
        let result = file.read_to_end(&mut bytes);
        result.map_err(|source| FileError::System {
            path: path.clone(),
            source,
        })?;
        let stat = fs::fstat(file.get_ref()).map_err(|e| system_error(&path, e))?;
        if bytes.len() as u64 != stamp.size || Stamp::from_stat(&stat) != stamp {
            return Err(FileError::Changing { path });
        }
        Ok(bytes)
    }
}

impl TryFrom<OpenEntry> for Directory {
    type Error = FileError;

    fn try_from(entry: OpenEntry) -> Result<Self, FileError> {
        let OpenEntry { fd, path, kind, .. } = entry;
        if kind == FileType::Directory {
            Ok(Self { fd, path })
        } else {
            Err(system_error(&path, Errno::NOTDIR))
        }
    }
}
