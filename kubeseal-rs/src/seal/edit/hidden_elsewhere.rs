//! Where no file system is in memory, there is no place for a file with plain values.

use std::path::Path;

use zeroize::Zeroizing;

use crate::surroundings::Surroundings;

/// Plain values cannot be put aside safely.
#[derive(Debug, thiserror::Error)]
pub(super) enum HiddenError {
    /// No file system in memory.
    #[error(
        "this system has no folder in memory to edit in, and plain values do not go to a disk. `seal set FILE KEY` \
         changes one item without a file"
    )]
    NoMemory,
}

/// There is none.
pub(super) enum Hidden {}

impl Hidden {
    /// Refuses.
    pub(super) fn new(_: &Surroundings, _: &str, _: &[u8]) -> Result<Self, HiddenError> {
        Err(HiddenError::NoMemory)
    }

    pub(super) fn file(&self) -> &Path {
        match *self {}
    }

    pub(super) fn folder(&self) -> &Path {
        match *self {}
    }

    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, HiddenError> {
        match *self {}
    }
}
