//! Parts of the JSON output of several commands of `seal keys`.

use kubeseal_library::keys::{Origin, Unread};
use serde::Serialize;

/// An item of a SealedSecret.
#[derive(Debug, Serialize)]
pub(super) struct ItemReport<'a> {
    /// Where the SealedSecret was found: the cluster, a file or a branch.
    #[serde(rename = "where")]
    place: String,
    /// The item key.
    item: &'a str,
}

impl<'a> ItemReport<'a> {
    pub(super) fn new(origin: &Origin, item: &'a str) -> Self {
        Self {
            place: origin.to_string(),
            item,
        }
    }
}

/// A file or object that cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct UnreadReport<'a> {
    /// The location of the file or object, for messages.
    #[serde(rename = "where")]
    place: &'a str,
    /// Why the file or object cannot be read.
    why: &'a str,
}

impl<'a> UnreadReport<'a> {
    /// Returns the reports of all files and objects.
    pub(super) fn all(unread: impl IntoIterator<Item = &'a Unread>) -> Vec<Self> {
        let report = |unread: &'a Unread| Self {
            place: &unread.location,
            why: &unread.why,
        };
        unread.into_iter().map(report).collect()
    }
}
