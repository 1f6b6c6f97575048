//! `seal edit` on systems without folders in memory, where it is refused.

use anyhow::{Result, bail};
use kubeseal_library::environment::Environment;

use super::Outcome;
use crate::seal_args::Edit;

/// Fails without changing anything.
///
/// # Errors
///
/// Always fails, even with `--blind`: the file would contain the new values.
pub fn run(_: &Edit, _: &Environment) -> Result<Outcome> {
    bail!(
        "there is no folder in memory to edit in: this system has none, and plain values do not go to a disk. \
         `seal set FILE KEY` changes one item without a file"
    )
}
