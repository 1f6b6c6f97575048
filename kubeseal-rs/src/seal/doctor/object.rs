//! Checks whether each SealedSecret of a file can be unsealed.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use kubeseal_library::cluster::{Authorised, Controller, KeysOfItems, parse};
use kubeseal_library::environment::Environment;
use kubeseal_library::walk::sealed_in;
use serde_json::Value as Json;
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::needs::{Reason, examine, likely_places, own_place};
use shared::resource::SealedSecret;
use shared::scope::Scope;

use super::findings::{Findings, Found};
use super::item;
use super::templates;
use super::way::Way;
use crate::seal_args::Doctor;

/// The maximum number of places to try. Each costs a private-key operation per item and key.
const MOST_PLACES: usize = 2000;

/// Checks every SealedSecret of a file.
///
/// # Errors
///
/// The file cannot be read, or contains no SealedSecret.
pub(super) fn look(
    args: &Doctor,
    file: &Path,
    keys: &KeyRing,
    way: &Way,
    environment: &Environment,
    findings: &mut Findings,
) -> Result<()> {
    let objects = sealed_in(file)?;
    let names = names(args, file, &objects);
    // Listed lazily: not needed if the controller opens every object.
    let namespaces = LazyCell::new(|| namespaces(args, way, &objects));
    for mut sealed in objects.iter().cloned() {
        if sealed.metadata.namespace.is_none() {
            sealed.metadata.namespace.clone_from(&args.namespace);
        }
        one(&sealed, keys, way, &namespaces, &names, findings);
        if let Some(found) = templates::check(&sealed, keys, environment) {
            findings.add(&format!("{}, templates", sealed.place()), found);
        }
    }
    Ok(())
}

fn one(
    sealed: &SealedSecret,
    keys: &KeyRing,
    way: &Way,
    namespaces: &LazyCell<Vec<String>, impl FnOnce() -> Vec<String>>,
    names: &[String],
    findings: &mut Findings,
) {
    let title = sealed.place();
    if let Some(found) = incomplete(sealed) {
        findings.add(&title, found);
        return;
    }
    match ask(sealed, &title, way, findings) {
        Said::Opens => {
            findings.add(&title, Found::good("opens in the controller"));
        }
        said if keys.is_empty() => return without_keys(&title, &said, findings),
        said => {
            let mut places = likely_places(sealed, namespaces, names);
            places.truncate(MOST_PLACES);
            let reasons = examine(sealed, keys, &places);
            if with_keys(sealed, &said, reasons, findings).is_none() {
                return;
            }
        }
    }
    if let Some(found) = in_cluster(sealed, way) {
        findings.add(&format!("{title} in the cluster"), found);
    }
}

/// Reports a missing name or namespace, if the scope needs it.
fn incomplete(sealed: &SealedSecret) -> Option<Found> {
    if sealed.name_or_empty().is_empty() {
        return Some(Found::bad(
            "it has no name",
            "a SealedSecret has the name of its Secret in metadata.name",
        ));
    }
    let needs_none = own_place(sealed).scope == Scope::ClusterWide;
    (sealed.namespace_or_empty().is_empty() && !needs_none).then(|| {
        Found::bad(
            "it names no namespace, and in this scope that decides whether it opens",
            "say where it is applied: -n NAMESPACE, or metadata.namespace in the file",
        )
    })
}

/// Adds a finding for each item. Returns `None` if the problem concerns the object as a whole.
fn with_keys(
    sealed: &SealedSecret,
    said: &Said,
    mut reasons: BTreeMap<String, Reason>,
    findings: &mut Findings,
) -> Option<()> {
    let title = sealed.place();
    if reasons.is_empty() {
        let found = Found::bad("it has no values", "seal its Secret again");
        return findings.add(&title, found);
    }
    let opens = |reason: &Reason| matches!(reason, Reason::Opens(_));
    if reasons.values().all(opens) && *said != Said::Nothing {
        let found = Found::bad(
            "it opens with a key that is here, and not in the controller",
            "the controller lacks the key: seal keys restore BACKUP, or see in `seal keys list` whether it was retired",
        );
        return findings.add(&title, found);
    }
    for (item, key) in said.opened() {
        reasons.insert(item.clone(), Reason::Opens(key.clone()));
    }
    for (item, reason) in &reasons {
        let name = format!("{title}, item {item}");
        findings.add(&name, item::explain(sealed, item, reason));
    }
    Some(())
}

/// The answer of the controller about an object.
#[derive(PartialEq, Eq)]
enum Said {
    /// The object can be unsealed.
    Opens,
    /// The object cannot be unsealed. A caller that may verify it also gets the key of each item.
    Closed(KeysOfItems),
    /// There is no answer.
    Nothing,
}

impl Said {
    fn items(&self) -> impl Iterator<Item = (&String, Option<&Fingerprint>)> {
        let items = match self {
            Self::Closed(items) => Some(items),
            Self::Opens | Self::Nothing => None,
        };
        items
            .into_iter()
            .flatten()
            .map(|(item, key)| (item, key.as_ref()))
    }

    fn opened(&self) -> impl Iterator<Item = (&String, &Fingerprint)> {
        self.items().filter_map(|(item, key)| Some((item, key?)))
    }
}

fn ask(sealed: &SealedSecret, title: &str, way: &Way, findings: &mut Findings) -> Said {
    let plain = |controller: &Controller| match controller.verify(&sealed.to_document()) {
        Ok(true) => Ok(Said::Opens),
        Ok(false) => Ok(Said::Closed(KeysOfItems::new())),
        Err(error) => Err(error_chain(&error)),
    };
    let authorised = |controller: &Authorised| match controller.keys(sealed) {
        Ok(items) if items.values().all(Option::is_some) => Ok(Said::Opens),
        Ok(items) => Ok(Said::Closed(items)),
        Err(error) => Err(error_chain(&error)),
    };
    let said = match (&way.authorised, &way.controller) {
        (Some(controller), _) => authorised(controller),
        (None, Some(controller)) => plain(controller),
        (None, None) => return Said::Nothing,
    };
    said.unwrap_or_else(|why| {
        let finding = format!("the controller does not say whether it opens: {why}");
        findings.add(title, Found::skipped(finding));
        Said::Nothing
    })
}

/// Adds the answer of the controller alone, without keys to find the reason.
fn without_keys(title: &str, said: &Said, findings: &mut Findings) {
    let remedy = "name a backup with --backup, or ask someone who has one to run this command";
    if *said == Said::Nothing {
        let found = Found::skipped("no key to check with: name a backup with --backup");
        findings.add(title, found);
    } else if said.items().next().is_none() {
        let finding = "it does not decrypt, and there is no key here to find out why";
        findings.add(title, Found::bad(finding, remedy));
    }
    for (item, key) in said.items() {
        let found = match key {
            Some(key) => Found::good(format!("opens in the controller with {key}")),
            None => Found::bad("no key of the controller opens it here", remedy),
        };
        findings.add(&format!("{title}, item {item}"), found);
    }
}

/// Checks the status of the object in the cluster, if the user may read it.
fn in_cluster(sealed: &SealedSecret, way: &Way) -> Option<Found> {
    let objects = way.objects.as_ref()?;
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    if namespace.is_empty() {
        return None;
    }
    let path = format!("/apis/bitnami.com/v1alpha1/namespaces/{namespace}/sealedsecrets/{name}");
    Some(match objects.look(&path) {
        Ok((200, body)) => as_applied(sealed, &body),
        Ok((404, _)) => Found::remark("it is not there", "apply the file"),
        _ => Found::skipped("may not be seen"),
    })
}

fn as_applied(sealed: &SealedSecret, body: &[u8]) -> Found {
    let there: Json = parse(body).unwrap_or_default();
    let items = serde_json::to_value(&sealed.spec.encrypted_data).unwrap_or_default();
    if there["spec"]["encryptedData"] != items {
        let finding = "its values are others than those of the file";
        return Found::remark(finding, "apply the file");
    }
    let conditions = there["status"]["conditions"].as_array();
    let synced = conditions.and_then(|c| c.iter().find(|c| c["type"] == "Synced"));
    match synced {
        None => Found::bad(
            "no controller has looked at it",
            "does the controller work in this namespace? See its flags --additional-namespaces and --label-selector",
        ),
        Some(synced) if synced["status"] == "True" => Found::good("its Secret is as it should be"),
        Some(synced) => {
            let said = synced["message"].as_str().unwrap_or("it says no more");
            Found::bad(
                format!("the controller says: {said}"),
                "do what it says; it is tried again by itself",
            )
        }
    }
}

fn names(args: &Doctor, file: &Path, objects: &[SealedSecret]) -> Vec<String> {
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

fn namespaces(args: &Doctor, way: &Way, objects: &[SealedSecret]) -> Vec<String> {
    let mut namespaces: BTreeSet<String> = args.try_namespace.iter().cloned().collect();
    namespaces.insert("default".into());
    for sealed in objects {
        namespaces.extend(sealed.metadata.namespace.clone());
        namespaces.extend(sealed.spec.template.metadata.namespace.clone());
    }
    namespaces.remove("");
    // Named namespaces come first, because the number of places is limited.
    let mut all: Vec<String> = namespaces.into_iter().collect();
    let mut others = way.namespaces();
    others.retain(|name| !all.contains(name));
    all.extend(others);
    all
}
