//! Parts of the JSON output of several `seal keys` subcommands.

use kubeseal_library::keys::{Origin, Unreadable};
use serde::Serialize;

/// An item of a SealedSecret.
#[derive(Debug, Serialize)]
pub(super) struct ItemReport<'a> {
    /// Where the SealedSecret was found: the cluster, a file or a branch.
    #[serde(rename = "where")]
    location: String,
    /// The item key.
    item: &'a str,
}

impl<'a> ItemReport<'a> {
    pub(super) fn new(origin: &Origin, item: &'a str) -> Self {
        Self {
            location: origin.to_string(),
            item,
        }
    }
}

/// A file, object, rule or part of a Git history that is missing or cannot be read.
#[derive(Debug, Serialize)]
pub(super) struct UnreadableReport<'a> {
    /// The file, object, rule or part of a Git history, as in messages.
    #[serde(rename = "where")]
    location: &'a str,
    /// Why the content is missing or cannot be read.
    why: &'a str,
}

impl<'a> UnreadableReport<'a> {
    pub(super) fn all(unreadable: impl IntoIterator<Item = &'a Unreadable>) -> Vec<Self> {
        let report = |unreadable: &'a Unreadable| Self {
            location: &unreadable.location,
            why: &unreadable.why,
        };
        unreadable.into_iter().map(report).collect()
    }
}
