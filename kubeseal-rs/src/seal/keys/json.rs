//! Parts of the JSON output of several `seal keys` subcommands.

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

/// A file, object, rule or part of a Git history that is missing or cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct UnreadReport<'a> {
    /// The location, for messages.
    #[serde(rename = "where")]
    place: &'a str,
    /// Why the content is missing or cannot be read.
    why: &'a str,
}

impl<'a> UnreadReport<'a> {
    pub(super) fn all(unread: impl IntoIterator<Item = &'a Unread>) -> Vec<Self> {
        let report = |unread: &'a Unread| Self {
            place: &unread.location,
            why: &unread.why,
        };
        unread.into_iter().map(report).collect()
    }
}
