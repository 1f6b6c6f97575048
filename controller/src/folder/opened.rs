//! Something that is open, and the stamp by which its changes show.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{self, FileType, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::error::system;
use super::{FileError, Folder};

/// Larger files are refused: a manifest is bounded by what an API server takes, some 3 MiB.
pub const MAX_FILE: u64 = 16 * 1024 * 1024;
/// An open file or folder below a [`Folder`], with what the system says about it.
#[derive(Debug)]
pub struct Opened {
    fd: OwnedFd,
    path: PathBuf,
    /// When it was opened.
    pub stamp: Stamp,
    /// What it is.
    pub kind: FileType,
}

/// By this a change of a file shows without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Device and inode: the file itself.
    pub identity: (u64, u64),
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            identity: (stat.st_dev, stat.st_ino),
            size: stat.st_size.cast_unsigned(),
            modified: (stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
            changed: (stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
        }
    }

    /// The last change of content or metadata, in nanoseconds since 1970.
    pub fn touched(&self) -> i128 {
        let (seconds, nanoseconds) = self.modified.max(self.changed);
        i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
    }
}

impl Opened {
    pub(super) fn new(fd: OwnedFd, path: PathBuf) -> Result<Self, FileError> {
        let stat = fs::fstat(&fd).map_err(|e| system(&path, e))?;
        Ok(Self {
            fd,
            path,
            stamp: Stamp::of(&stat),
            kind: FileType::from_raw_mode(stat.st_mode),
        })
    }

    /// The content of a regular file. Wipes itself: it may be a key or a plain value.
    ///
    /// # Errors
    ///
    /// Not regular, too large, changed meanwhile, or the system's answer.
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
        // One byte more than announced: room that is never outgrown leaves no copies behind.
        let room = usize::try_from(stamp.size).unwrap_or(0) + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        let mut file = File::from(fd).take(stamp.size + 1);
        let read = file.read_to_end(&mut bytes);
        read.map_err(|source| FileError::System {
            path: path.clone(),
            source,
        })?;
        let after = fs::fstat(file.get_ref()).map_err(|e| system(&path, e))?;
        if bytes.len() as u64 != stamp.size || Stamp::of(&after) != stamp {
            return Err(FileError::Changing { path });
        }
        Ok(bytes)
    }
}

impl TryFrom<Opened> for Folder {
    type Error = FileError;

    fn try_from(opened: Opened) -> Result<Self, FileError> {
        let Opened { fd, path, kind, .. } = opened;
        if kind == FileType::Directory {
            Ok(Self { fd, path })
        } else {
            Err(system(&path, Errno::NOTDIR))
        }
    }
}
