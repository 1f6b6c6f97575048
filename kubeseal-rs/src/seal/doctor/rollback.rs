//! Counts what Bitnami's controller could not unseal: objects with v2 values.

use std::path::PathBuf;

use anyhow::Result;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::keys::{Holder, Inventory, survey};
use shared::v2;

use super::Doctor;
use super::findings::{Finding, Findings};
use crate::report;
use crate::seal::keys::store;

/// The step that all findings are about.
const STEP: &str = "rollback";

/// Checks the objects in a file or directory, or those of the cluster.
///
/// # Errors
///
/// Fails if the objects cannot be read.
pub(super) fn check(args: &Doctor, clusters: &Clusters<'_>, findings: &mut Findings) -> Result<()> {
    let inventory = inventory(args, clusters)?;
    let affected: Vec<_> = inventory.holders.iter().filter_map(affected).collect();
    for (place, text) in &affected {
        let remedy = "convert it with `seal rotate --to v1`, and apply it";
        findings.add(place, Finding::bad(text.clone(), remedy));
    }
    for unread in &inventory.unread {
        let remedy = "correct it, and run the command again";
        let text = format!("cannot be read: {}", unread.why);
        findings.add(&unread.place, Finding::remark(text, remedy));
    }
    let total = inventory.holders.len();
    let finding = match affected.len() {
        0 => Finding::good(format!("Bitnami's controller can read all {total} objects")),
        count => Finding::bad(
            format!(
                "{count} of {total} objects would stop being updated under Bitnami's controller; their Secrets would stay"
            ),
            "convert them before the change of controllers",
        ),
    };
    findings.add(STEP, finding);
    Ok(())
}

fn inventory(args: &Doctor, clusters: &Clusters<'_>) -> Result<Inventory> {
    match &args.file {
        Some(path) => survey::in_files(&[PathBuf::from(path)], &mut report::notice),
        None => store(&args.location, clusters)?.sealed(&[], &mut report::notice),
    }
}

/// Returns the place of an object that Bitnami's controller cannot read, and why.
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
