//! `seal unset FILE KEY…`: removes items, their key hints and their rotate-by dates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use shared::sealed_file::{Changes, HintRule};
use shared::{hints, rotate_by};

use super::target::{Target, qualified_name};
use super::{Outcome, v2_items};
use crate::report::{self, ShowPath as _, shown};

/// Arguments of `seal unset`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs neither certificate nor cluster. Comments, order and layout are kept. For an item that does not exist, the key
hint and the rotate-by line that a merge left are removed.

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

/// Removes items from a SealedSecret: all of them, or none. Of an item that does not exist, removes the key hint and
/// the rotate-by line that were left, for example by a merge.
///
/// # Errors
///
/// Fails if the file cannot be read or edited safely, or if an item is required by the type of the Secret, or does not
/// exist and nothing was left of it.
pub fn run(args: &Unset) -> Result<Outcome> {
    let mut target = Target::read(&args.file, args.name.as_deref())?;
    let mut keys = args.keys.clone();
    keys.sort();
    keys.dedup();
    let (items, missing): (Vec<String>, Vec<String>) =
        keys.into_iter().partition(|key| target.has_item(key));
    let removed_remainders = remainders(&target, &missing)?;
    target.until_current(|target| {
        target.check_change(&BTreeMap::new(), &items)?;
        let unused = v2_items::unused_after_removal(&target.found.sealed, &items);
        let entries = &target.found.sealed.spec.encrypted_data;
        // Another program may have added the item meanwhile.
        let missing = missing.iter().filter(|key| !entries.contains_key(*key));
        let missing: Vec<String> = missing.cloned().collect();
        let is_written = target.write(&Changes {
            texts: BTreeMap::new(),
            removed: [items.clone(), unused, missing].concat(),
            data: None,
            hints: HintRule::Drop,
            dates: BTreeMap::new(),
        })?;
        Ok(is_written.then_some(()))
    })?;
    let object_name = qualified_name(&target.found);
    let removed_items = items.iter().map(|key| format!("{key} removed"));
    for message in removed_items.chain(removed_remainders) {
        report::info(&format!("{}: {object_name}: {message}", args.file.shown()));
    }
    Ok(Outcome::Done)
}

/// Returns a message for each item that does not exist, but of which a key hint or a rotate-by line is left.
fn remainders(target: &Target, missing: &[String]) -> Result<Vec<String>> {
    let annotations = target.found.sealed.metadata.annotations.as_ref();
    let (dates, hints) = (rotate_by::read(annotations), hints::read(annotations));
    let message = |key: &String| match (dates.has_line(key), hints.contains_key(key)) {
        (true, true) => Ok(format!(
            "removed the rotate-by line and the key hint of {key}"
        )),
        (true, false) => Ok(format!("removed the rotate-by line of {key}")),
        (false, true) => Ok(format!("removed the key hint of {key}")),
        (false, false) => Err(no_such_item(target, key)),
    };
    let messages = missing.iter().map(message);
    messages
        .map(|message| message.map(|text| shown(&text).into_owned()))
        .collect()
}

fn no_such_item(target: &Target, key: &str) -> anyhow::Error {
    let object_name = qualified_name(&target.found);
    let existing: Vec<_> = target.items().map(|key| shown(key)).collect();
    let existing = match existing.as_slice() {
        [] => "none".to_owned(),
        keys => keys.join(", "),
    };
    anyhow!("{object_name} has no item {key:?}; existing items: {existing}")
}
