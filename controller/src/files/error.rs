//! Errors of files and directories.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::MAX_FILE;

/// A file or directory cannot be used. The message names its path, never its content.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system reported an error.
    #[error("{} cannot be used", path.display())]
    System {
        /// The file or directory that cannot be used.
        path: PathBuf,
        /// The underlying error.
        source: io::Error,
    },
    /// The path is or contains a symbolic link that is not followed.
    #[error(
        "{} is or contains a symbolic link that is not followed: a link must be inside `sealed` or `keys`, must \
         lead to an existing file or directory in the controller's directory, and must not lead from one of `keys`, \
         `sealed`, `secrets` and `status` to another one; replace the link with the file or directory itself",
        path.display()
    )]
    Link {
        /// The path that is or contains the link.
        path: PathBuf,
    },
    /// A file with this name exists that the controller did not create.
    #[error("{} already exists and was not created by the controller; move it away", path.display())]
    AlreadyExists {
        /// The file of another program.
        path: PathBuf,
    },
    /// The path is not a regular file, but for example a FIFO, a device or a directory.
    #[error("{} is not a regular file; replace it with one, or move it away", path.display())]
    NotRegular {
        /// The FIFO, device, directory or other special file.
        path: PathBuf,
    },
    /// The file is larger than [`MAX_FILE`].
    #[error("{} is larger than the limit of {} MiB; split it into several files, or move it away", path.display(), MAX_FILE / 1024 / 1024)]
    TooLarge {
        /// The file above the limit.
        path: PathBuf,
    },
    /// Directories are nested more deeply than supported.
    #[error("{} is nested deeper than the limit of {max} directories; move it up", path.display())]
    TooDeep {
        /// The first directory below the maximum nesting.
        path: PathBuf,
        /// The maximum nesting.
        max: usize,
    },
    /// Another program wrote to the file while it was read.
    #[error("{} changed while it was read; it will be read again", path.display())]
    Changing {
        /// The file that changed.
        path: PathBuf,
    },
}

impl FileError {
    /// Returns whether the error shows that the path exists and is not a directory.
    pub fn is_not_a_directory(&self) -> bool {
        match self {
            Self::Link { .. } => true,
            Self::System { source, .. } => source.kind() == io::ErrorKind::NotADirectory,
            _ => false,
        }
    }

    /// Returns whether the error shows that another program removed a file with a value, or replaced it with an entry
    /// that is not a regular file, is too large, or may not be read by the controller.
    pub fn shows_lost_value_file(&self) -> bool {
        match self {
            Self::Link { .. } | Self::NotRegular { .. } | Self::TooLarge { .. } => true,
            // `NotFound` is a file that has been removed since the directory was listed; a socket cannot be opened.
            Self::System { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) || source.raw_os_error() == Some(Errno::NXIO.raw_os_error())
            }
            Self::AlreadyExists { .. } | Self::TooDeep { .. } | Self::Changing { .. } => false,
        }
    }

    /// Returns whether the error shows that the path does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

pub(super) fn system_error(path: &Path, errno: Errno) -> FileError {
    FileError::System {
        path: path.to_owned(),
        source: errno.into(),
    }
}
