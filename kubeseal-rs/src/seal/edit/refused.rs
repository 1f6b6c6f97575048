//! `seal edit` where no folder is in memory: refused.

use anyhow::{Result, bail};

use super::Outcome;
use crate::seal_args::Edit;
use crate::surroundings::Surroundings;

/// Changes nothing.
///
/// # Errors
///
/// Always. With `--blind`, too: the new values would lie in the file.
pub fn run(_: &Edit, _: &Surroundings) -> Result<Outcome> {
    bail!(
        "there is no folder in memory to edit in: this system has none, and plain values do not go to a disk. \
         `seal set FILE KEY` changes one item without a file"
    )
}
