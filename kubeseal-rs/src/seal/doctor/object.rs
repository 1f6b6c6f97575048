//! Why a file does not open.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::Value as Json;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::needs::{Place, Reason, examine, likely_places, own_place};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::{error_chain, hints};

use super::Findings;
use super::way::Way;
use crate::cluster::{Authorised, Controller, KeysOfItems};
use crate::seal::walk::sealed_in;
use crate::seal_args::Doctor;

/// More places than this are not tried: each costs a private-key operation for each item and key.
const MOST_PLACES: usize = 2000;

/// Looks at every SealedSecret of a file.
///
/// # Errors
///
/// The file cannot be read, or holds none.
pub fn look(
    words: &Doctor,
    file: &Path,
    keys: &KeyRing,
    way: &Way,
    findings: &mut Findings,
) -> Result<()> {
    let objects = sealed_in(file)?;
    let names = names(words, file, &objects);
    let namespaces = namespaces(words, way, &objects);
    for mut sealed in objects {
        if sealed.metadata.namespace.is_none() {
            sealed.metadata.namespace.clone_from(&words.namespace);
        }
        one(&sealed, keys, way, &namespaces, &names, findings);
    }
    Ok(())
}

fn one(
    sealed: &SealedSecret,
    keys: &KeyRing,
    way: &Way,
    namespaces: &[String],
    names: &[String],
    findings: &mut Findings,
) {
    let title = sealed.place();
    let own = own_place(sealed);
    if sealed.name_or_empty().is_empty() {
        findings.bad(
            &title,
            "it has no name",
            "a SealedSecret has the name of its Secret in metadata.name",
        );
        return;
    }
    if sealed.namespace_or_empty().is_empty() && own.scope != Scope::ClusterWide {
        let remedy = "say where it is applied: -n NAMESPACE, or metadata.namespace in the file";
        findings.bad(
            &title,
            "it names no namespace, and in this scope that decides whether it opens",
            remedy,
        );
        return;
    }
    let said = ask(sealed, &title, way, findings);
    if said == Said::Opens {
        findings.good(&title, "opens in the controller");
        in_cluster(sealed, &title, way, findings);
        return;
    }
    if keys.is_empty() {
        without_keys(&title, &said, findings);
        return;
    }
    let mut places = likely_places(sealed, namespaces, names);
    places.truncate(MOST_PLACES);
    let mut reasons = examine(sealed, keys, &places);
    if reasons.is_empty() {
        findings.bad(&title, "it holds no value at all", "seal its Secret again");
    }
    let all_open = reasons
        .values()
        .all(|reason| matches!(reason, Reason::Opens(_)));
    if all_open && said != Said::Nothing {
        let remedy = "the controller lacks the key: seal keys restore BACKUP, or see in `seal keys list` whether it was \
                      retired";
        findings.bad(
            &title,
            "it opens with a key that is here, and not in the controller",
            remedy,
        );
        return;
    }
    for (item, key) in said.opened() {
        reasons.insert(item.clone(), Reason::Opens(key.clone()));
    }
    for (item, reason) in &reasons {
        tell(sealed, &title, item, reason, &own, findings);
    }
    in_cluster(sealed, &title, way, findings);
}

/// What the controller says of an object.
#[derive(PartialEq, Eq)]
enum Said {
    /// It opens.
    Opens,
    /// It does not; and to one who may verify it, which items do.
    Closed(KeysOfItems),
    /// Nothing: it cannot be asked.
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
        findings.skipped(title, finding);
        Said::Nothing
    })
}

/// No more than the controller says.
fn without_keys(title: &str, said: &Said, findings: &mut Findings) {
    let remedy = "name a backup with --backup, or ask somebody who has one to run this";
    if *said == Said::Nothing {
        findings.skipped(title, "there is no key to look with: --backup names one");
    } else if said.items().next().is_none() {
        let finding = "it does not open, and there is no key to look closer with";
        findings.bad(title, finding, remedy);
    }
    for (item, key) in said.items() {
        let name = format!("{title}, item {item}");
        match key {
            Some(key) => findings.good(&name, format!("opens in the controller with {key}")),
            None => findings.bad(&name, "no key of the controller opens it here", remedy),
        }
    }
}

fn tell(
    sealed: &SealedSecret,
    title: &str,
    item: &str,
    reason: &Reason,
    own: &Place,
    findings: &mut Findings,
) {
    let name = format!("{title}, item {item}");
    match reason {
        Reason::Opens(key) => findings.good(&name, format!("opens with {key}")),
        Reason::Elsewhere(place, _) => {
            let (finding, remedy) = elsewhere(place, own);
            findings.bad(&name, finding, remedy);
        }
        Reason::Damaged(key) => findings.bad(
            &name,
            format!("it was sealed for {key} and this very place, and was changed or cut since"),
            "take it from an earlier commit, or seal the value again",
        ),
        Reason::Malformed => findings.bad(
            &name,
            "it is no sealed value: not base64, or too short",
            "was a line lost, or a plain value put there? Seal the value again",
        ),
        Reason::NoKeyOfSize(bits) => findings.bad(
            &name,
            format!("it was sealed for a key of {bits} bits, and there is none of that size"),
            "it was sealed for another cluster, or its beginning was cut: seal it with the certificate of this one",
        ),
        Reason::Unknown => {
            let hints = hints::read(sealed.metadata.annotations.as_ref());
            let hint = hints.get(item).map(|key| format!("; its hint names {key}"));
            findings.bad(
                &name,
                format!("no key that was tried opens it, here or in a likely other place{}", hint.unwrap_or_default()),
                "it was sealed for another cluster or a key that is gone: seal it with the certificate of this one, or \
                 name more keys with --backup. Or for another place: --try-namespace and --try-name",
            );
        }
    }
}

/// What is different, and how to get it back.
fn elsewhere(place: &Place, own: &Place) -> (String, String) {
    let remedy = |what: &str| format!("{what}, or seal the value again for where it is now");
    if place.scope != own.scope {
        let annotation = match place.scope.annotation() {
            Some(name) => format!("give the SealedSecret back its annotation {name}: \"true\""),
            None => "take the annotation of its scope out of the SealedSecret".to_owned(),
        };
        let mut finding = format!(
            "it was sealed in the scope {}, and the object says {}",
            place.scope, own.scope
        );
        if place.scope == Scope::Strict
            && (place.name != own.name || place.namespace != own.namespace)
        {
            let _ = write!(finding, ", for {}/{}", place.namespace, place.name);
        } else if place.scope == Scope::NamespaceWide && place.namespace != own.namespace {
            let _ = write!(finding, ", for the namespace {}", place.namespace);
        }
        return (finding, remedy(&annotation));
    }
    let (mut parts, mut back) = (Vec::new(), Vec::new());
    if place.namespace != own.namespace {
        parts.push(format!("the namespace {}", place.namespace));
        back.push(format!(
            "put it back into the namespace {}",
            place.namespace
        ));
    }
    if place.scope == Scope::Strict && place.name != own.name {
        parts.push(format!("the name {}", place.name));
        back.push(format!("call it {} again", place.name));
    }
    (
        format!("it was sealed for {}", parts.join(" and ")),
        remedy(&back.join(" and ")),
    )
}

/// What became of it in the cluster, if we may see it.
fn in_cluster(sealed: &SealedSecret, title: &str, way: &Way, findings: &mut Findings) {
    let Some(objects) = &way.objects else { return };
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    if namespace.is_empty() {
        return;
    }
    let path = format!("/apis/bitnami.com/v1alpha1/namespaces/{namespace}/sealedsecrets/{name}");
    let step = format!("{title} in the cluster");
    let body = match objects.look(&path) {
        Ok((200, body)) => body,
        Ok((404, _)) => {
            findings.remark(&step, "it is not there", "apply the file");
            return;
        }
        _ => {
            findings.skipped(&step, "may not be seen");
            return;
        }
    };
    let there: Json = serde_json::from_slice(&body).unwrap_or_default();
    let items = serde_json::to_value(&sealed.spec.encrypted_data).unwrap_or_default();
    if there["spec"]["encryptedData"] != items {
        findings.remark(
            &step,
            "its values are others than those of the file",
            "apply the file",
        );
        return;
    }
    let status = &there["status"];
    let synced = status["conditions"]
        .as_array()
        .and_then(|c| c.iter().find(|c| c["type"] == "Synced"));
    let Some(synced) = synced else {
        let remedy = "does the controller work in this namespace? See its flags --additional-namespaces and --label-selector";
        findings.bad(&step, "no controller has looked at it", remedy);
        return;
    };
    if synced["status"] == "True" {
        return findings.good(&step, "its Secret is as it should be");
    }
    let said = synced["message"].as_str().unwrap_or("it says no more");
    findings.bad(
        &step,
        format!("the controller says: {said}"),
        "do what it says; it is tried again by itself",
    );
}

fn names(words: &Doctor, file: &Path, objects: &[SealedSecret]) -> Vec<String> {
    let mut names: BTreeSet<String> = words.try_name.iter().cloned().collect();
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

fn namespaces(words: &Doctor, way: &Way, objects: &[SealedSecret]) -> Vec<String> {
    let mut namespaces: BTreeSet<String> = words.try_namespace.iter().cloned().collect();
    namespaces.insert("default".into());
    for sealed in objects {
        namespaces.extend(sealed.metadata.namespace.clone());
        namespaces.extend(sealed.spec.template.metadata.namespace.clone());
    }
    namespaces.remove("");
    // What was named comes before what merely is there.
    let mut all: Vec<String> = namespaces.into_iter().collect();
    all.extend(
        way.namespaces
            .iter()
            .filter(|name| !all.contains(name))
            .cloned()
            .collect::<Vec<_>>(),
    );
    all
}
