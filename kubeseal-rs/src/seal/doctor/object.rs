//! Checks whether each SealedSecret in a file can be unsealed.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use kubeseal_library::cluster::{ApiPath, Authorized, Controller, KeysOfItems, parse};
use kubeseal_library::environment::Environment;
use kubeseal_library::walk::sealed_in;
use serde_json::Value as Json;
use shared::error_chain;
use shared::key_ring::KeyRing;
use shared::needs::{Reason, examine, likely_scoped_names, own_scoped_name};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::unseal::UsedKey;

use super::connection::Connection;
use super::findings::{Finding, Findings};
use super::keys::StoredKeys;
use super::{item, templates};
use crate::seal::doctor::Doctor;

/// The maximum number of combinations of scope, namespace and name to try. For v1, each combination costs a private-key
/// operation per item and key.
const MAX_SCOPED_NAMES: usize = 2000;

/// Checks every SealedSecret in a file.
///
/// # Errors
///
/// Fails if the file cannot be read, or contains no SealedSecret.
pub(super) fn check(
    args: &Doctor,
    file: &Path,
    keys: &KeyRing,
    connection: &Connection,
    environment: &Environment,
    findings: &mut Findings,
) -> Result<()> {
    let objects = sealed_in(file)?;
    let names = names_to_try(args, file, &objects);
    // Listed lazily: not needed if the controller can unseal every object.
    let namespaces = LazyCell::new(|| namespaces_to_try(args, connection, &objects));
    for mut sealed in objects.iter().cloned() {
        if sealed.metadata.namespace.is_none() {
            sealed.metadata.namespace.clone_from(&args.namespace);
        }
        check_object(&sealed, keys, connection, &namespaces, &names, findings);
        if let Some(finding) = templates::check(&sealed, keys, environment) {
            findings.add(&format!("{}, templates", sealed.qualified_name()), finding);
        }
    }
    Ok(())
}

fn check_object(
    sealed: &SealedSecret,
    keys: &KeyRing,
    connection: &Connection,
    namespaces: &LazyCell<Vec<String>, impl FnOnce() -> Vec<String>>,
    names: &[String],
    findings: &mut Findings,
) {
    let title = sealed.qualified_name();
    if let Some(finding) = missing_metadata(sealed) {
        findings.add(&title, finding);
        return;
    }
    match ask_controller(sealed, &title, connection, findings) {
        ControllerVerdict::CanUnseal => {
            findings.add(&title, Finding::good("the controller can unseal it"));
        }
        verdict if keys.is_empty() => return add_controller_findings(&title, &verdict, findings),
        verdict => {
            let mut scoped_names = likely_scoped_names(sealed, namespaces, names);
            scoped_names.truncate(MAX_SCOPED_NAMES);
            let mut reasons = examine(sealed, keys, &scoped_names);
            prefer_keys_in_use(&mut reasons, sealed, &connection.stored);
            if add_item_findings(sealed, &verdict, reasons, &connection.stored, findings).is_none()
            {
                return;
            }
        }
    }
    if let Some(finding) = in_cluster(sealed, connection) {
        findings.add(&format!("{title} in the cluster"), finding);
    }
}

/// Reports a missing name, or a missing namespace if the scope requires one.
fn missing_metadata(sealed: &SealedSecret) -> Option<Finding> {
    if sealed.name_or_empty().is_empty() {
        return Some(Finding::bad(
            "metadata.name is missing",
            "set metadata.name to the name of the Secret",
        ));
    }
    let needs_none = own_scoped_name(sealed).scope == Scope::ClusterWide;
    (sealed.namespace_or_empty().is_empty() && !needs_none).then(|| {
        Finding::bad(
            "metadata.namespace is missing, and the scope requires it",
            "pass -n NAMESPACE, or set metadata.namespace in the file",
        )
    })
}

/// For each item that a key in use unseals, replaces the reason with this key. The earlier reason may name a retired
/// key, since a v2 item may be sealed for several keys.
fn prefer_keys_in_use(
    reasons: &mut BTreeMap<String, Reason>,
    sealed: &SealedSecret,
    stored: &StoredKeys,
) {
    let in_use = examine(sealed, &stored.in_use(), &[]);
    reasons.extend(
        in_use
            .into_iter()
            .filter(|(_, reason)| key_of(reason).is_some()),
    );
}

/// Returns the key that unseals an item; `None` if no key does.
fn key_of(reason: &Reason) -> Option<UsedKey> {
    match reason {
        Reason::Opens(key) => Some(UsedKey::Rsa(key.clone())),
        Reason::OpensV2(key) => Some(UsedKey::V2(*key)),
        _ => None,
    }
}

/// Adds a finding for each item, or for several v2 items with the same problem. If the problem concerns the object as a
/// whole, adds a single finding and returns `None`.
fn add_item_findings(
    sealed: &SealedSecret,
    verdict: &ControllerVerdict,
    mut reasons: BTreeMap<String, Reason>,
    stored: &StoredKeys,
    findings: &mut Findings,
) -> Option<()> {
    let title = sealed.qualified_name();
    if reasons.is_empty() {
        let finding = Finding::bad("it has no values", "seal its Secret again");
        return findings.add(&title, finding);
    }
    let can_be_unsealed = |reason: &Reason| key_of(reason).is_some();
    if reasons.values().all(can_be_unsealed) && *verdict != ControllerVerdict::Unknown {
        let finding = Finding::bad(
            "an available key can unseal it, but the controller cannot",
            "the controller lacks the key: run `seal keys restore BACKUP`, or check in `seal keys list` whether the \
             key was retired",
        );
        return findings.add(&title, finding);
    }
    for (item, key) in verdict.unsealed() {
        reasons.insert(item.clone(), opening_reason(key));
    }
    add_shared_finding(sealed, &mut reasons, findings);
    for (item, reason) in &reasons {
        let name = format!("{title}, item {item}");
        let unused = key_of(reason).and_then(|key| item::unused_key(&key, stored));
        findings.add(
            &name,
            unused.unwrap_or_else(|| item::explain(sealed, item, reason)),
        );
    }
    Some(())
}

/// If several v2 items were refused or moved for the same reason, adds one finding for them, and removes them from
/// `reasons`.
fn add_shared_finding(
    sealed: &SealedSecret,
    reasons: &mut BTreeMap<String, Reason>,
    findings: &mut Findings,
) {
    let can_be_shared =
        |reason: &&Reason| matches!(reason, Reason::Refused(_) | Reason::MovedV2(_));
    let Some(shared) = reasons.values().find(can_be_shared).cloned() else {
        return;
    };
    let items = reasons.iter().filter(|(_, reason)| **reason == shared);
    let items: Vec<String> = items.map(|(item, _)| item.clone()).collect();
    if let [item, _, ..] = items.as_slice() {
        let name = format!("{}, {} v2 items", sealed.qualified_name(), items.len());
        findings.add(&name, item::explain(sealed, item, &shared));
        reasons.retain(|_, reason| *reason != shared);
    }
}

fn opening_reason(key: &UsedKey) -> Reason {
    match key {
        UsedKey::Rsa(fingerprint) => Reason::Opens(fingerprint.clone()),
        UsedKey::V2(id) => Reason::OpensV2(*id),
    }
}

/// Whether the controller can unseal an object.
#[derive(PartialEq, Eq)]
enum ControllerVerdict {
    /// The object can be unsealed.
    CanUnseal,
    /// The object cannot be unsealed. Contains the key that unseals each item, if any, as the TLS port reports it;
    /// empty without the TLS port.
    CannotUnseal(KeysOfItems),
    /// It is unknown whether the object can be unsealed.
    Unknown,
}

impl ControllerVerdict {
    fn items(&self) -> impl Iterator<Item = (&String, Option<&UsedKey>)> {
        let items = match self {
            Self::CannotUnseal(items) => Some(items),
            Self::CanUnseal | Self::Unknown => None,
        };
        items
            .into_iter()
            .flatten()
            .map(|(item, key)| (item, key.as_ref()))
    }

    fn unsealed(&self) -> impl Iterator<Item = (&String, &UsedKey)> {
        self.items().filter_map(|(item, key)| Some((item, key?)))
    }
}

fn ask_controller(
    sealed: &SealedSecret,
    title: &str,
    connection: &Connection,
    findings: &mut Findings,
) -> ControllerVerdict {
    let unauthenticated = |controller: &Controller| match controller.verify(&sealed.to_document()) {
        Ok(true) => Ok(ControllerVerdict::CanUnseal),
        Ok(false) => Ok(ControllerVerdict::CannotUnseal(KeysOfItems::new())),
        Err(error) => Err(error_chain(&error)),
    };
    let authorized = |controller: &Authorized| match controller.keys(sealed) {
        Ok(items) if items.values().all(Option::is_some) => Ok(ControllerVerdict::CanUnseal),
        Ok(items) => Ok(ControllerVerdict::CannotUnseal(items)),
        Err(error) => Err(error_chain(&error)),
    };
    let verdict = match (&connection.authorized, &connection.controller) {
        (Some(controller), _) => authorized(controller),
        (None, Some(controller)) => unauthenticated(controller),
        (None, None) => return ControllerVerdict::Unknown,
    };
    verdict.unwrap_or_else(|why| {
        let finding = format!("cannot ask the controller whether it can unseal the object: {why}");
        findings.add(title, Finding::skipped(finding));
        ControllerVerdict::Unknown
    })
}

/// Adds findings from the controller's response alone. Without local keys, the reason cannot be determined.
fn add_controller_findings(title: &str, verdict: &ControllerVerdict, findings: &mut Findings) {
    let remedy =
        "pass a backup with --backup, or ask an administrator who has a backup to run this command";
    if *verdict == ControllerVerdict::Unknown {
        let finding = Finding::skipped("no key available: pass a backup with --backup");
        findings.add(title, finding);
    } else if verdict.items().next().is_none() {
        let finding = "the controller cannot unseal it, and no key is available to find the reason";
        findings.add(title, Finding::bad(finding, remedy));
    }
    for (item, key) in verdict.items() {
        let finding = match key {
            Some(key) => Finding::good(format!("the controller can unseal it with {key}")),
            None => Finding::bad(
                "no key of the controller can unseal it for this object",
                remedy,
            ),
        };
        findings.add(&format!("{title}, item {item}"), finding);
    }
}

/// Returns a finding about the version of the object in the cluster: whether it exists, has the same values, and is
/// synced; `None` if the cluster was not reached, or the object has no namespace.
fn in_cluster(sealed: &SealedSecret, connection: &Connection) -> Option<Finding> {
    let objects = connection.objects.as_ref()?;
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    if namespace.is_empty() {
        return None;
    }
    let all = ApiPath::namespaced("/apis/bitnami.com/v1alpha1", namespace, "sealedsecrets");
    let response = all
        .and_then(|all| all.object(name))
        .and_then(|path| objects.get_raw(&path));
    Some(match response {
        Ok((200, body)) => compare_with_applied(sealed, &body),
        Ok((404, _)) => Finding::remark("not found in the cluster", "apply the file"),
        _ => Finding::skipped("cannot be read"),
    })
}

fn compare_with_applied(sealed: &SealedSecret, body: &[u8]) -> Finding {
    let applied: Json = parse(body).unwrap_or_default();
    let items = serde_json::to_value(&sealed.spec.encrypted_data).unwrap_or_default();
    if applied["spec"]["encryptedData"] != items {
        let finding = "its values differ from those in the file";
        return Finding::remark(finding, "apply the file");
    }
    let conditions = applied["status"]["conditions"].as_array();
    let synced = conditions.and_then(|c| c.iter().find(|c| c["type"] == "Synced"));
    match synced {
        None => Finding::bad(
            "its status reports no reconciliation",
            "check whether the controller watches the object: see the controller flags --additional-namespaces and \
             --label-selector",
        ),
        Some(synced) if synced["status"] == "True" => {
            Finding::good("its status reports that it is synced")
        }
        Some(synced) => {
            let message = synced["message"].as_str().unwrap_or("no message");
            Finding::bad(
                format!("the controller reports: {message}"),
                "fix the reported problem; the controller retries automatically",
            )
        }
    }
}

fn names_to_try(args: &Doctor, file: &Path, objects: &[SealedSecret]) -> Vec<String> {
    let mut names: BTreeSet<String> = args.try_name.iter().cloned().collect();
    for sealed in objects {
        names.extend(sealed.metadata.name.clone());
        names.extend(sealed.spec.template.metadata.name.clone());
    }
    let stem = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    names.extend(stem.split('.').next().map(str::to_owned));
    names.remove("");
    names.into_iter().collect()
}

fn namespaces_to_try(
    args: &Doctor,
    connection: &Connection,
    objects: &[SealedSecret],
) -> Vec<String> {
    let mut namespaces: BTreeSet<String> = args.try_namespace.iter().cloned().collect();
    namespaces.insert("default".into());
    for sealed in objects {
        namespaces.extend(sealed.metadata.namespace.clone());
        namespaces.extend(sealed.spec.template.metadata.namespace.clone());
    }
    namespaces.remove("");
    // Namespaces from the arguments and objects come first, because the number of combinations is limited.
    let mut candidates: Vec<String> = namespaces.into_iter().collect();
    let mut others = connection.namespaces();
    others.retain(|name| !candidates.contains(name));
    candidates.extend(others);
    candidates
}
