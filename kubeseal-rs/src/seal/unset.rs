//! `seal unset FILE KEY…`: removes items, their key hints and their rotate-by dates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use shared::sealed_file::{Changes, HintRule};

use super::target::{Target, qualified_name};
use super::{Outcome, v2_items};
use crate::report;
use crate::report::ShowPath as _;

/// Arguments of `seal unset`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs neither certificate nor cluster. Comments, order and layout are kept.

Examples:
  seal unset db.sealed.yaml password
  seal unset db.sealed.yaml password --name shop/db")]
pub struct Unset {
    /// File with the SealedSecret
    pub file: PathBuf,
    /// Keys of the items to remove
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,
    /// SealedSecret to change, if the file contains several: [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Removes items from a SealedSecret: all of them, or none.
///
/// # Errors
///
/// Fails if the file cannot be read or edited safely, or if an item does not exist or is required by the type of the
/// Secret.
pub fn run(args: &Unset) -> Result<Outcome> {
    let mut target = Target::read(&args.file, args.name.as_deref())?;
    let mut keys = args.keys.clone();
    keys.sort();
    keys.dedup();
    if let Some(key) = keys.iter().find(|key| !target.has_item(key)) {
        let object_name = qualified_name(&target.found);
        let existing: Vec<_> = target.items().map(|key| report::shown(key)).collect();
        let existing = match existing.as_slice() {
            [] => "none".to_owned(),
            keys => keys.join(", "),
        };
        bail!("{object_name} has no item {key:?}; existing items: {existing}");
    }
    target.until_current(|target| {
        target.check_change(&BTreeMap::new(), &keys)?;
        let unused = v2_items::unused_after_removal(&target.found.sealed, &keys);
        let is_written = target.write(&Changes {
            texts: BTreeMap::new(),
            removed: [keys.clone(), unused].concat(),
            data: None,
            hints: HintRule::Drop,
            dates: BTreeMap::new(),
        })?;
        Ok(is_written.then_some(()))
    })?;
    for key in &keys {
        let object_name = qualified_name(&target.found);
        report::info(&format!(
            "{}: {object_name}: {key} removed",
            args.file.shown()
        ));
    }
    Ok(Outcome::Done)
}
