//! `seal edit` on systems without in-memory directories, where it always fails.

use anyhow::{Result, bail};
use kubeseal_library::environment::Environment;

use super::Outcome;
use crate::failure::Failure;
use crate::seal::edit::Edit;

/// Fails without changing anything.
///
/// # Errors
///
/// Always fails, even with `--blind`: the edited file would contain the new values.
pub fn run(_: &Edit, _: &Environment) -> Result<Outcome> {
    let message = "cannot edit on this system: it has no in-memory file system, and plaintext is never written to disk";
    bail!(Failure::new(message).hint("change a single item with `seal set FILE KEY`"))
}
