//! What can be wrong with a file or a folder.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::MAX_FILE;

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
    #[error("{} is nested too deep in folders", path.display())]
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

pub(super) fn system(path: &Path, errno: Errno) -> FileError {
    FileError::System {
        path: path.to_owned(),
        source: errno.into(),
    }
}
