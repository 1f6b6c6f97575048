//! Counts the objects with v2 values, which Bitnami's controller could not unseal.

use std::path::PathBuf;

use anyhow::Result;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::keys::{Holder, Inventory, survey};
use shared::v2;

use super::Doctor;
use super::findings::{Finding, Findings};
use crate::report;
use crate::seal::keys::store;

/// The name of the step.
const STEP: &str = "rollback";

/// Checks the objects in a file or directory, or those of the cluster.
///
/// # Errors
///
/// Fails if the objects cannot be read.
pub(super) fn check(args: &Doctor, clusters: &Clusters<'_>, findings: &mut Findings) -> Result<()> {
    let inventory = inventory(args, clusters)?;
    let affected: Vec<_> = inventory.holders.iter().filter_map(affected).collect();
    for (object_name, text) in &affected {
        let remedy = "convert it with `seal rotate --to v1`, and apply it";
        findings.add(object_name, Finding::bad(text.clone(), remedy));
    }
    for unread in &inventory.unread {
        let remedy = "correct it, and run the command again";
        let text = format!("cannot be read: {}", unread.why);
        findings.add(&unread.location, Finding::bad(text, remedy));
    }
    findings.add(STEP, summary(&inventory, affected.len()));
    Ok(())
}

/// Returns the verdict on all objects. Unreadable files and objects may contain v2 values.
fn summary(inventory: &Inventory, affected: usize) -> Finding {
    let (total, unread) = (inventory.holders.len(), inventory.unread_count());
    if affected > 0 {
        let text = format!(
            "{affected} of {total} objects would stop being updated under Bitnami's controller; their Secrets would stay"
        );
        return Finding::bad(
            text,
            "convert them before you change to Bitnami's controller",
        );
    }
    if unread > 0 {
        let text = format!(
            "unknown for {unread} of the files and objects, which cannot be read; Bitnami's controller can read the {total} \
             others"
        );
        return Finding::bad(
            text,
            "correct them before you change to Bitnami's controller",
        );
    }
    Finding::good(format!("Bitnami's controller can read all {total} objects"))
}

fn inventory(args: &Doctor, clusters: &Clusters<'_>) -> Result<Inventory> {
    match &args.file {
        Some(path) => survey::in_files(&[PathBuf::from(path)], &mut report::notice),
        None => store(&args.location, clusters)?.sealed(&[], &mut report::notice),
    }
}

/// Returns the name of an object that Bitnami's controller cannot read, and the reason.
fn affected(holder: &Holder) -> Option<(String, String)> {
    let entries = &holder.sealed.spec.encrypted_data;
    if !v2::is_v2(entries) {
        return None;
    }
    let items: Vec<_> = v2::items(entries).collect();
    let v2_count = items
        .iter()
        .filter(|(_, text)| v2::is_v2_value(text))
        .count();
    let total = items.len();
    let text = format!("{v2_count} of {total} items are v2, so it refuses the whole object");
    Some((holder.origin.to_string(), text))
}
