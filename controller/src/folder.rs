//! File operations below an open folder. A name is one path component, and the last one is never
//! followed if it is a symbolic link: what others put into the folder cannot lead us elsewhere.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// Larger files are refused: a manifest is bounded by what an API server takes, some 3 MiB.
pub const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Links in one path. The kernel's own bound.
const MAX_LINKS: usize = 40;

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

/// A file or folder could not be used. Names the place, never the content.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system's answer.
    #[error("{} cannot be used", path.display())]
    System {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A link to somewhere else.
    #[error(
        "{} is a symbolic link that is not followed, since it leads out of the directory or nowhere; \
         put the file itself there", path.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// Something of another one's has the name.
    #[error("{} is in the way: it was not made by this program; move it elsewhere", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
    },
    /// A FIFO, a device, a folder.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// Where.
        path: PathBuf,
    },
    /// Beyond [`MAX_FILE`].
    #[error("{} is larger than {} MiB", path.display(), MAX_FILE / 1024 / 1024)]
    TooLarge {
        /// Where.
        path: PathBuf,
    },
    /// More folders inside folders than anybody needs.
    #[error("{} lies too deep inside folders", path.display())]
    TooDeep {
        /// Where.
        path: PathBuf,
    },
    /// Somebody wrote while we read.
    #[error("{} changed while it was read", path.display())]
    Changing {
        /// Where.
        path: PathBuf,
    },
}

impl FileError {
    /// Is there something else than the folder that was asked for?
    pub fn is_no_folder(&self) -> bool {
        match self {
            Self::Link { .. } => true,
            Self::System { source, .. } => source.kind() == io::ErrorKind::NotADirectory,
            _ => false,
        }
    }

    /// Is there just nothing of that name?
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

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
    fn of(stat: &Stat) -> Self {
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

    /// Opens a path of several components for reading. Links on the way and at its end are followed
    /// as long as they stay inside this folder.
    ///
    /// # Errors
    ///
    /// [`FileError::Link`] for a link that leads out or nowhere, or the system's answer.
    pub fn open_beneath(&self, path: &Path) -> Result<Opened, FileError> {
        let shown = self.path.join(path);
        let fd = self.walk(path).map_err(|errno| match errno {
            Errno::XDEV | Errno::LOOP => FileError::Link {
                path: shown.clone(),
            },
            errno => system(&shown, errno),
        })?;
        opened(fd, shown)
    }

    /// Component by component, so that no component can be swapped for a link in between.
    fn walk(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut todo: VecDeque<OsString> = components(path)?.into();
        let mut open = vec![self.fd.try_clone().map_err(|_| Errno::MFILE)?];
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                open.pop();
            } else {
                let here = open.last().ok_or(Errno::XDEV)?;
                let flags = if todo.is_empty() { READ } else { FOLDER };
                match fs::openat(here, &name, flags, Mode::empty()) {
                    Ok(fd) => open.push(fd),
                    Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => {
                        let target = fs::readlinkat(here, &name, Vec::new()).map_err(|_| errno)?;
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        let target = Path::new(OsStr::from_bytes(target.to_bytes())).to_owned();
                        for name in components(&target)?.into_iter().rev() {
                            todo.push_front(name);
                        }
                    }
                    Err(Errno::NOENT) if links > 0 => return Err(Errno::LOOP),
                    Err(errno) => return Err(errno),
                }
            }
            if open.is_empty() {
                return Err(Errno::XDEV);
            }
        }
        open.pop().ok_or(Errno::XDEV)
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
            Ok(fd) => opened(fd, path),
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
        let temporary = format!("{LEFTOVER_PREFIX}{:016x}", rand::random::<u64>());
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

impl Opened {
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

fn opened(fd: OwnedFd, path: PathBuf) -> Result<Opened, FileError> {
    let stat = fs::fstat(&fd).map_err(|e| system(&path, e))?;
    Ok(Opened {
        fd,
        path,
        stamp: Stamp::of(&stat),
        kind: FileType::from_raw_mode(stat.st_mode),
    })
}

/// Names and `..` of a relative path; an absolute one leads out.
fn components(path: &Path) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) | Component::ParentDir => {
                names.push(component.as_os_str().to_owned());
            }
            Component::RootDir | Component::Prefix(_) => return Err(Errno::XDEV),
        }
    }
    Ok(names)
}

fn system(path: &Path, errno: Errno) -> FileError {
    FileError::System {
        path: path.to_owned(),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests;
