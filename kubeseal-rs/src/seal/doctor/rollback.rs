//! Counts the objects with v2 values, which Bitnami's controller cannot unseal, and the objects without a Secret, for
//! which Bitnami's controller would create a Secret.

use std::path::PathBuf;

use anyhow::Result;
use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
use kubeseal_library::cluster::Clusters;
use kubeseal_library::keys::{Holder, Inventory, survey};
use shared::v2;

use super::Doctor;
use super::findings::{Finding, Findings};
use crate::report;
use crate::seal::keys::open_store;

/// The name of the step.
const STEP: &str = "rollback";

/// Checks the objects in a file or directory or, without one, those of the cluster or of `--directory`.
pub(super) fn check(args: &Doctor, clusters: &Clusters<'_>, findings: &mut Findings) -> Result<()> {
    let inventory = inventory(args, clusters)?;
    let affected: Vec<_> = inventory.holders.iter().filter_map(affected).collect();
    for (object_name, text) in &affected {
        let remedy = "convert the object with `seal rotate --to v1`, and apply it";
        findings.add(object_name, Finding::bad(text.clone(), remedy));
    }
    let delivered: Vec<String> = inventory
        .holders
        .iter()
        .filter_map(delivered_object)
        .collect();
    for object_name in &delivered {
        let text = format!(
            "has no Secret because of its annotation {DELIVER_ANNOTATION}; Bitnami's controller would create one"
        );
        let remedy = "if its values must never be in a Secret, delete the object from the cluster before you switch \
        controllers";
        findings.add(object_name, Finding::bad(text, remedy));
    }
    for unreadable in &inventory.unreadable {
        let remedy = "correct the file or object, and run the command again";
        let text = format!("cannot be read: {}", unreadable.why);
        findings.add(&unreadable.location, Finding::bad(text, remedy));
    }
    findings.add(STEP, summary(&inventory, affected.len(), delivered.len()));
    Ok(())
}

/// Returns the verdict on all objects. It is good only if there are objects, if all of them could be read, and if none
/// is affected or delivered.
fn summary(inventory: &Inventory, affected: usize, delivered: usize) -> Finding {
    let (total, unreadable) = (inventory.holders.len(), inventory.count_unreadable());
    if total == 0 && unreadable == 0 {
        return Finding::bad(
            "no SealedSecret was found, so nothing was checked",
            "check the path, or the context of the cluster and --directory",
        );
    }
    if affected > 0 {
        let text = format!(
            "{affected} of {total} objects would stop being updated under Bitnami's controller; their Secrets would stay"
        );
        return Finding::bad(
            text,
            "convert them before you switch to Bitnami's controller",
        );
    }
    if delivered > 0 {
        let text = format!(
            "{delivered} of {total} objects would get a Secret under Bitnami's controller, and have none today"
        );
        return Finding::bad(
            text,
            "decide what to do with them before you switch controllers",
        );
    }
    if unreadable > 0 {
        let text = format!(
            "{unreadable} files or objects cannot be read, and may contain v2 values; Bitnami's controller can read the \
             other {total} objects"
        );
        return Finding::bad(
            text,
            "correct them before you switch to Bitnami's controller",
        );
    }
    Finding::good(format!("Bitnami's controller can read all {total} objects"))
}

fn inventory(args: &Doctor, clusters: &Clusters<'_>) -> Result<Inventory> {
    match &args.file {
        Some(path) => survey::in_files(&[PathBuf::from(path)], &mut report::notice),
        None => open_store(&args.location, clusters)?.sealed(&[], &mut report::notice),
    }
}

/// Returns the location of an object that has no Secret because of its annotation, and for which Bitnami's controller
/// would create one. Objects with v2 values are omitted, because Bitnami's controller refuses them.
fn delivered_object(holder: &Holder) -> Option<String> {
    let annotations = holder.sealed.metadata.annotations.as_ref()?;
    let is_delivered = annotations.get(DELIVER_ANNOTATION)? == DELIVER_FILES;
    let is_v2 = v2::is_v2(&holder.sealed.spec.encrypted_data);
    (is_delivered && !is_v2).then(|| holder.origin.to_string())
}

/// Returns the location of an object that Bitnami's controller cannot read, and the reason.
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
