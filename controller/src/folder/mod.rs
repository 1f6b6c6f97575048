//! File operations below an open folder. A name is one path component, and the last one is never
//! followed if it is a symbolic link: what others put into the folder cannot lead us elsewhere.

mod beneath;
mod error;
mod opened;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

pub use error::FileError;
use error::system;
pub use opened::{MAX_FILE, Opened, Stamp};

/// What names of unfinished files begin with; 16 hexadecimal digits follow.
const LEFTOVER_PREFIX: &str = ".unfinished-";

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);
const FOLDER: OFlags = OFlags::DIRECTORY.union(COMMON);
const COMMON: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);
/// A FIFO must not make us wait for its other end.
const READ: OFlags = OFlags::NONBLOCK.union(COMMON);
const WRITE_NEW: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(COMMON);

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

impl Folder {
    /// Opens the folder that the user named, wherever links on the way lead.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|e| system(path, e))?;
        let path = path.to_owned();
        Ok(Self { fd, path })
    }

    /// A folder in this one.
    ///
    /// # Errors
    ///
    /// Missing, no folder, or a link.
    pub fn child(&self, name: impl AsRef<OsStr>) -> Result<Self, FileError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match fs::openat(&self.fd, name, FOLDER, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(_) if self.link_target(name).is_some() => Err(FileError::Link { path }),
            Err(errno) => Err(system(&path, errno)),
        }
    }

    /// A folder in this one, made with mode 0700 if it is missing.
    ///
    /// # Errors
    ///
    /// As [`Self::child`].
    pub fn child_or_new(&self, name: impl AsRef<OsStr>) -> Result<Self, FileError> {
        let name = name.as_ref();
        match fs::mkdirat(&self.fd, name, FOLDER_MODE) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(system(&self.path.join(name), errno)),
        }
        self.child(name)
    }

    /// Names and kinds of what is in it, in order of name.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn entries(&self) -> Result<Vec<(OsString, FileType)>, FileError> {
        let at = |errno| system(&self.path, errno);
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(at)? {
            let entry = entry.map_err(at)?;
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

    /// Where a symbolic link points; `None` for everything else.
    pub fn link_target(&self, name: impl AsRef<OsStr>) -> Option<OsString> {
        let target = fs::readlinkat(&self.fd, name.as_ref(), Vec::new()).ok()?;
        Some(OsStr::from_bytes(target.to_bytes()).to_owned())
    }

    /// Opens a file in this folder for reading; a link is not followed.
    ///
    /// # Errors
    ///
    /// The system's answer, or [`FileError::Link`].
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<Opened, FileError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match fs::openat(&self.fd, name, READ, Mode::empty()) {
            Ok(fd) => Opened::new(fd, path),
            Err(Errno::LOOP) => Err(FileError::Link { path }),
            Err(errno) => Err(system(&path, errno)),
        }
    }

    /// Makes a file of mode 0600 that must not exist, and makes it durable.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn write_new(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<(), FileError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let fd = fs::openat(&self.fd, name, WRITE_NEW, FILE_MODE).map_err(|e| system(&path, e))?;
        let mut file = File::from(fd);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|source| FileError::System { path, source })
    }

    /// Makes or replaces a file of mode 0600 in one step and durably. A crash leaves the old or the
    /// new content, and maybe a file that [`Self::remove_leftovers`] takes away.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let temporary = format!("{LEFTOVER_PREFIX}{:016x}", shared::random::number::<u64>());
        self.write_new(&temporary, bytes)?;
        self.rename(&temporary, name)?;
        self.sync()
    }

    /// Removes what killed processes left of [`Self::replace`]. Nobody may be writing here.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn remove_leftovers(&self) -> Result<(), FileError> {
        for (name, kind) in self.entries()? {
            let digits = name
                .to_str()
                .and_then(|name| name.strip_prefix(LEFTOVER_PREFIX));
            let ours = digits.is_some_and(|digits| {
                digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit())
            });
            if ours && kind == FileType::RegularFile {
                self.remove(name)?;
            }
        }
        Ok(())
    }

    /// Makes a symbolic link that must not exist.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn link(&self, target: &str, name: &str) -> Result<(), FileError> {
        fs::symlinkat(target, &self.fd, name).map_err(|e| self.at(name, e))
    }

    /// Renames within this folder, over what has the new name.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        fs::renameat(&self.fd, from, &self.fd, to).map_err(|e| self.at(to, e))
    }

    /// Removes a file or a link, if it is there.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), FileError> {
        self.unlink(name.as_ref(), AtFlags::empty(), &[Errno::NOENT])
    }

    /// Removes a folder, if it is there and empty.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn remove_folder_if_empty(&self, name: impl AsRef<OsStr>) -> Result<(), FileError> {
        let fine = [Errno::NOENT, Errno::NOTEMPTY, Errno::EXIST];
        self.unlink(name.as_ref(), AtFlags::REMOVEDIR, &fine)
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags, fine: &[Errno]) -> Result<(), FileError> {
        match fs::unlinkat(&self.fd, name, flags) {
            Err(errno) if !fine.contains(&errno) => Err(self.at(name, errno)),
            _ => Ok(()),
        }
    }

    /// Makes names in this folder durable.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn sync(&self) -> Result<(), FileError> {
        fs::fsync(&self.fd).map_err(|e| system(&self.path, e))
    }

    /// Takes the advisory lock on a file in this folder, made if missing; `None` if another
    /// process has it. It ends with the returned value, or with the process.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn lock(&self, name: &str) -> Result<Option<OwnedFd>, FileError> {
        let flags = OFlags::RDWR | OFlags::CREATE | COMMON;
        let fd = fs::openat(&self.fd, name, flags, FILE_MODE).map_err(|e| self.at(name, e))?;
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(fd)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(self.at(name, errno)),
        }
    }

    /// Its own stamp.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn stamp(&self) -> Result<Stamp, FileError> {
        let stat = fs::fstat(&self.fd).map_err(|e| system(&self.path, e))?;
        Ok(Stamp::of(&stat))
    }

    /// Stamp and kind of what has that name; of a link, its own.
    ///
    /// # Errors
    ///
    /// The system's answer.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<(Stamp, FileType), FileError> {
        let name = name.as_ref();
        let stat =
            fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.at(name, e))?;
        Ok((Stamp::of(&stat), FileType::from_raw_mode(stat.st_mode)))
    }

    /// For messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, name: impl AsRef<OsStr>, errno: Errno) -> FileError {
        system(&self.path.join(name.as_ref()), errno)
    }
}

#[cfg(test)]
mod tests;
