//! Messages about conditions that do not stop a run.

use std::path::PathBuf;

use crate::shown::ShowPath as _;

/// A message for the user, which the caller prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A problem that does not make the run fail.
    Warning(String),
    /// A directory, or a part of it, cannot be read. The search continues.
    Unreadable {
        /// The directory, for messages.
        location: String,
        /// Why the directory cannot be read.
        why: String,
    },
    /// A symbolic link leads out of the tree that is searched, and was not followed.
    LinkOutside {
        /// The path of the link.
        link: PathBuf,
        /// The target of the link.
        target: PathBuf,
    },
}

impl Notice {
    /// Returns the message, in one line; for [`Self::Unreadable`], without the location.
    pub fn message(&self) -> String {
        match self {
            Self::Warning(message) => message.clone(),
            Self::Unreadable { why, .. } => why.clone(),
            Self::LinkOutside { link, target } => format!(
                "{}: not read: symbolic link that leads out of the tree, to {}",
                link.shown(),
                target.shown()
            ),
        }
    }
}

/// Shows a line on the terminal that the next call replaces. An empty string removes it.
pub type StatusLine = fn(&str);

/// How a run waits before it sends a request again.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// The status line for waits; `None` if waits are not shown.
    pub status_line: Option<StatusLine>,
    /// Returns whether the user has interrupted the run, which ends a wait.
    pub is_interrupted: fn() -> bool,
}
