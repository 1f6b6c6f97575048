//! Everything that is sealed: the SealedSecrets of files, of a cluster, or of both, joined by namespace and name.
//!
//! No value leaves this module, not even an encrypted one.
//!
//! | module | owns |
//! |---|---|
//! | `content` | what is visible in a SealedSecret without a key |
//! | [`tree`] | the SealedSecrets in files |
//! | [`live`] | the SealedSecrets and the names of Secrets in a cluster |
//! | `join` | one row for each SealedSecret in a file, and for each that is only in the cluster |
//! | [`key_times`] | the times of the keys whose certificates are known |
//! | `redact` | pseudonyms in place of names |
//! | `summary` | the numbers of objects by state, format and age of the newest key |

mod content;
mod join;
pub mod key_times;
pub mod live;
mod redact;
mod summary;
pub mod tree;

use std::path::PathBuf;

use crate::git::LastChange;
use live::LiveObject;

pub use content::{Content, Delivery};
pub use join::join;
pub use key_times::KeyTimes;
pub use redact::redact;
pub use summary::{AgeGroup, Summary};

/// A SealedSecret in a file, with its object in the cluster, or a SealedSecret that is only in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The namespace; `None` if neither the file nor its rule sets one.
    pub namespace: Option<String>,
    /// The name; empty if the object has none.
    pub name: String,
    /// The content of the file or, without a file, of the object in the cluster; `None` if the object is malformed.
    pub content: Option<Content>,
    /// The position in a file; `None` if no file contains the object, or no file was read.
    pub position: Option<Position>,
    /// The object in the cluster; `None` if there is none, or no cluster was read.
    pub live: Option<LiveObject>,
    /// The state; `None` if no cluster was read.
    pub state: Option<State>,
}

/// The position of a SealedSecret in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The path of the file.
    pub path: PathBuf,
    /// The line where the object begins.
    pub line: usize,
    /// The last change of the file; `None` if it is unknown.
    pub change: Option<LastChange>,
}

/// The state of a SealedSecret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The controller has processed the newest generation.
    Ok,
    /// The controller has not reported on the newest generation.
    Pending,
    /// The newest generation could not be unsealed, or its Secret could not be written.
    Failed,
    /// The file and the object in the cluster have different values, templates, scopes or deliveries.
    Differs,
    /// No object in the cluster has the namespace and name of the file's object.
    NotInCluster,
    /// No file contains the object.
    NoFile,
}

impl State {
    /// Returns the name of the state in all outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Differs => "differs",
            Self::NotInCluster => "not-in-cluster",
            Self::NoFile => "no-file",
        }
    }

    /// Returns whether the state needs attention: an object failed, differs, or is only in a file or only in the
    /// cluster.
    pub fn is_finding(self) -> bool {
        match self {
            Self::Ok | Self::Pending => false,
            Self::Failed | Self::Differs | Self::NotInCluster | Self::NoFile => true,
        }
    }
}
