//! Decides the action for each Secret of an RSA key in a backup, from the backup and the existing keys.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use jiff::Timestamp;
use kubeseal_library::keys::KeyRecord;
use kubeseal_library::keys::restored::{KeyUse, RestoredSecret};
use shared::key::Fingerprint;
use shared::key_marks::{KeyProperties, KeyState, states};
use shared::resource::COMPROMISED_ANNOTATION;
use shared::secret::Secret;

use crate::failure::Failure;
use crate::seal::names;

/// The action for one Secret in a backup.
pub(super) enum Action<'a> {
    /// Store this Secret.
    Put(Box<Secret>),
    /// Nothing: the key already exists, or this restore stores it, under this name.
    Exists(String),
    /// Remove the opening-only mark from these existing Secrets: the user selected their key with `--seal-with`.
    AllowSealing(Vec<&'a KeyRecord>),
    /// Nothing: the Secret contains no usable key, for this reason.
    Broken(String),
}

/// One Secret in a backup.
pub(super) struct Step<'a> {
    pub(super) name: String,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) action: Action<'a>,
    /// Properties of the backup's Secret that are not restored.
    pub(super) left_out: Vec<String>,
    /// The state of the key after the restore.
    pub(super) state: KeyState,
}

impl Step<'_> {
    /// Returns the name of the Secret that contains the key after the restore.
    pub(super) fn stored_name(&self) -> Option<&str> {
        match &self.action {
            Action::Put(secret) => secret.metadata.name.as_deref(),
            Action::Exists(name) => Some(name),
            Action::AllowSealing(records) => records.first().map(|record| record.name()),
            Action::Broken(_) => None,
        }
    }
}

/// The key that seals after the restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealingKey {
    pub(super) name: String,
    pub(super) fingerprint: Fingerprint,
    created: Timestamp,
}

/// All steps, and the sealing key that results.
pub(super) struct Plan<'a> {
    pub(super) steps: Vec<Step<'a>>,
    /// The key that seals; `None` if no key may seal.
    pub(super) sealing: Option<SealingKey>,
    /// Restored opening-only keys that are newer than the sealing key, as `NAME FINGERPRINT`; empty if no key seals.
    pub(super) newer: Vec<String>,
}

/// A key in the store after the restore.
struct ResultingKey {
    name: String,
    properties: KeyProperties,
}

impl<'a> Plan<'a> {
    /// Plans a step for every Secret before the first is written.
    ///
    /// # Errors
    ///
    /// Fails if a name is not valid or cannot be made unique, or if the chosen key is not in the backup or cannot seal.
    pub(super) fn new(
        secrets: Vec<Secret>,
        existing: &'a [KeyRecord],
        chosen: Option<&Fingerprint>,
        now: Timestamp,
    ) -> Result<Self> {
        let mut records: Vec<KeyRecord> = secrets
            .into_iter()
            .map(|s| KeyRecord::new(s, None))
            .collect();
        mark_copies(&mut records);
        let mut after: Vec<ResultingKey> = existing.iter().map(ResultingKey::of).collect();
        let mut steps: Vec<Step<'a>> = Vec::new();
        for record in &records {
            let key_use = if chosen.is_some() && record.fingerprint() == chosen {
                KeyUse::Sealing
            } else {
                KeyUse::OpeningOnly(now)
            };
            steps.push(step(record, existing, &mut after, key_use)?);
        }
        let sealing = set_states(&mut steps, &after);
        if let Some(chosen) = chosen {
            check_choice(chosen, &steps, sealing.as_ref())?;
        }
        let newer = newer(&steps, &after, sealing.as_ref());
        Ok(Self {
            steps,
            sealing,
            newer,
        })
    }

    /// Returns whether a key in the backup is restored as opening-only.
    pub(super) fn restores_opening_only(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.action, Action::Put(_)) && step.state == KeyState::Opening)
    }
}

impl ResultingKey {
    fn of(record: &KeyRecord) -> Self {
        Self {
            name: record.name().to_owned(),
            properties: record.properties.clone(),
        }
    }

    fn has_key(&self, key: &Fingerprint) -> bool {
        self.properties.fingerprint.as_ref() == Some(key)
    }
}

/// Marks all copies of a key as compromised if one copy is.
fn mark_copies(records: &mut [KeyRecord]) {
    let is_compromised = |record: &&KeyRecord| record.properties.marks.is_compromised;
    let compromised: BTreeSet<Fingerprint> = records
        .iter()
        .filter(is_compromised)
        .filter_map(|r| r.fingerprint().cloned())
        .collect();
    for record in records.iter_mut() {
        if record
            .fingerprint()
            .is_some_and(|key| compromised.contains(key))
            && !record.properties.marks.is_compromised
        {
            record.properties.marks.is_compromised = true;
            let annotations = record.secret.metadata.annotations.get_or_insert_default();
            annotations.insert(COMPROMISED_ANNOTATION.to_owned(), String::new());
        }
    }
}

fn step<'a>(
    record: &KeyRecord,
    existing: &'a [KeyRecord],
    after: &mut Vec<ResultingKey>,
    key_use: KeyUse,
) -> Result<Step<'a>> {
    let mut step = Step {
        name: record.name().to_owned(),
        fingerprint: record.fingerprint().cloned(),
        action: Action::Broken(record.key.as_ref().err().cloned().unwrap_or_default()),
        left_out: Vec::new(),
        state: KeyState::Broken,
    };
    let Some(key) = record.fingerprint() else {
        return Ok(step);
    };
    if let Some(same) = after.iter().find(|after| after.has_key(key)) {
        let name = same.name.clone();
        let is_opening_only =
            |r: &&KeyRecord| r.fingerprint() == Some(key) && r.properties.marks.is_opening_only;
        let opening_only: Vec<&KeyRecord> = existing.iter().filter(is_opening_only).collect();
        step.action = Action::Exists(name);
        if key_use == KeyUse::Sealing && !opening_only.is_empty() {
            for same in after.iter_mut().filter(|after| after.has_key(key)) {
                same.properties.marks.is_opening_only = false;
            }
            step.action = Action::AllowSealing(opening_only);
        }
        return Ok(step);
    }
    let name = name_for(record, key, after)?;
    if key_use == KeyUse::Sealing {
        check_marks(record)?;
    }
    let mut restored = RestoredSecret::new(record, key, key_use);
    restored.secret.metadata.name = Some(name);
    let stored = KeyRecord::new(restored.secret, None);
    after.push(ResultingKey::of(&stored));
    step.action = Action::Put(Box::new(stored.secret));
    step.left_out = restored.left_out;
    Ok(step)
}

/// Returns a free name for the key: its own name or, if another key has that name, its own name with a suffix from the
/// fingerprint. A new controller may already have generated a key with the same name as the first key in the backup.
fn name_for(record: &KeyRecord, key: &Fingerprint, after: &[ResultingKey]) -> Result<String> {
    let name = record.name();
    if name.is_empty() {
        bail!(
            Failure::new("a key Secret in the backup has no name; nothing was changed")
                .hint("add `metadata.name` to its manifest")
        );
    }
    if names::check_object(name).is_err() {
        let message = format!(
            "a key in the backup has the name {name:?}, which is not a valid Secret name; nothing was changed"
        );
        bail!(
            Failure::new(message)
                .hint(
                    "use at most 253 lowercase letters, digits, `-` and `.`, with a letter or digit at both ends of \
                     each part between dots"
                )
                .hint("rename the key in its manifest (`age -d` decrypts an archive to manifests)")
        );
    }
    let is_taken = |name: &str| after.iter().any(|other| other.name == name);
    if !is_taken(name) {
        return Ok(name.to_owned());
    }
    let fingerprint = key.to_string().replace("SHA256:", "").to_ascii_lowercase();
    let end: String = fingerprint
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect();
    let suffixed = format!("{name}-restored-{end}");
    if is_taken(&suffixed) || names::check_object(&suffixed).is_err() {
        let message = format!("another key has the name {name}; nothing was changed");
        bail!(
            Failure::new(message)
                .hint("rename one of the two keys, or restore into another namespace or directory")
        );
    }
    Ok(suffixed)
}

/// Refuses a key that must not seal, because the backup marks it as compromised or retired.
fn check_marks(record: &KeyRecord) -> Result<()> {
    let name = record.name();
    if record.properties.marks.is_compromised {
        let message =
            format!("{name} is marked as compromised and can never seal; nothing was changed");
        bail!(
            Failure::new(message)
                .hint("omit --seal-with: the key is then restored as opening-only")
        );
    }
    if !record.properties.is_active {
        let message =
            format!("{name} is retired in the backup and cannot seal; nothing was changed");
        bail!(Failure::new(message).hint("restore the key without --seal-with"));
    }
    Ok(())
}

/// Sets the state of each step's key, and returns the key that seals.
fn set_states(steps: &mut [Step<'_>], after: &[ResultingKey]) -> Option<SealingKey> {
    let properties: Vec<KeyProperties> =
        after.iter().map(|after| after.properties.clone()).collect();
    let states = states(&properties, None);
    for step in steps.iter_mut() {
        let is_own = |(after, _): &(&ResultingKey, &KeyState)| {
            step.fingerprint
                .as_ref()
                .is_some_and(|key| after.has_key(key))
        };
        if let Some((_, state)) = after.iter().zip(&states).find(is_own) {
            step.state = *state;
        }
    }
    let (sealing, _) = after
        .iter()
        .zip(&states)
        .find(|(_, state)| **state == KeyState::Sealing)?;
    Some(SealingKey {
        name: sealing.name.clone(),
        fingerprint: sealing.properties.fingerprint.clone()?,
        created: sealing.properties.order_time,
    })
}

fn check_choice(
    chosen: &Fingerprint,
    steps: &[Step<'_>],
    sealing: Option<&SealingKey>,
) -> Result<()> {
    let Some(step) = steps
        .iter()
        .find(|step| step.fingerprint.as_ref() == Some(chosen))
    else {
        let message = format!("the backup contains no key {chosen}; nothing was changed");
        bail!(Failure::new(message).hint("list the keys of the backup with `--dry-run`"));
    };
    match (sealing, step.state) {
        (_, KeyState::Sealing) => Ok(()),
        (Some(sealing), KeyState::Opening | KeyState::Waiting) => {
            let message = format!(
                "{} cannot be the sealing key: {} {} is newer, and the newest key that may seal is used; nothing was \
                 changed",
                step.name, sealing.name, sealing.fingerprint
            );
            bail!(
                Failure::new(message)
                    .hint("omit --seal-with: the key is then restored as opening-only")
            )
        }
        (_, state) => {
            let message = format!(
                "{} already exists and is {}, so it cannot seal; nothing was changed",
                step.name,
                state.name()
            );
            bail!(Failure::new(message).hint("restore the key without --seal-with"))
        }
    }
}

fn newer(steps: &[Step<'_>], after: &[ResultingKey], sealing: Option<&SealingKey>) -> Vec<String> {
    let Some(sealing) = sealing else {
        return Vec::new();
    };
    let is_restored_opening_only = |after: &&ResultingKey| {
        let is_own = |step: &&Step<'_>| step.fingerprint == after.properties.fingerprint;
        let step = steps.iter().find(is_own);
        step.is_some_and(|step| {
            matches!(step.action, Action::Put(_)) && step.state == KeyState::Opening
        })
    };
    let is_newer = |after: &&ResultingKey| after.properties.order_time > sealing.created;
    let newer = after
        .iter()
        .filter(is_restored_opening_only)
        .filter(is_newer);
    let fingerprint = |after: &ResultingKey| {
        after
            .properties
            .fingerprint
            .as_ref()
            .map(ToString::to_string)
    };
    newer
        .map(|after| format!("{} {}", after.name, fingerprint(after).unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::resource::{BACKED_UP_ANNOTATION, KEY_LABEL, OPENING_ONLY_ANNOTATION};

    use super::*;
    use kubeseal_library::keys::directory;

    /// Returns the key of 2024 or 2025, with this name and this value of [`KEY_LABEL`]. The key of 2025 is newer.
    fn key(year: &str, name: &str, label: &str) -> Secret {
        let directory =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seal/key-fixtures/state/keys");
        let text = std::fs::read(directory.join(format!("key-{year}.yaml"))).unwrap();
        let mut secret = directory::secrets(&text).unwrap().remove(0);
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.labels = Some([(KEY_LABEL.to_owned(), label.to_owned())].into());
        secret
    }

    fn annotated(mut secret: Secret, name: &str) -> Secret {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(name.to_owned(), String::new());
        secret
    }

    fn fingerprint(year: &str) -> Fingerprint {
        KeyRecord::new(key(year, "k", "active"), None)
            .fingerprint()
            .unwrap()
            .clone()
    }

    fn records(secrets: Vec<Secret>) -> Vec<KeyRecord> {
        secrets
            .into_iter()
            .map(|secret| KeyRecord::new(secret, None))
            .collect()
    }

    /// Returns each key in the backup with its action and state, and the name of the key that
    /// seals.
    fn plan_steps(
        backup: Vec<Secret>,
        existing: &[KeyRecord],
        chosen: Option<&str>,
    ) -> Result<(Vec<String>, String)> {
        let chosen = chosen.map(fingerprint);
        let plan = Plan::new(backup, existing, chosen.as_ref(), Timestamp::UNIX_EPOCH)?;
        let describe = |step: &Step| {
            let outcome = match &step.action {
                Action::Put(_) => "put",
                Action::Exists(_) => "existing",
                Action::AllowSealing(_) => "allowed",
                Action::Broken(_) => "broken",
            };
            format!("{} {outcome} {}", step.name, step.state.name())
        };
        let sealing = plan.sealing.as_ref().map(|sealing| sealing.name.clone());
        Ok((
            plan.steps.iter().map(describe).collect(),
            sealing.unwrap_or_default(),
        ))
    }

    /// Attack: an attacker adds a key to a backup, in a state and with marks of their choice, so that the controller
    /// seals with it.
    #[test]
    fn no_key_in_a_backup_seals_unless_it_is_chosen() {
        let new = |label| key("2025", "planted", label);
        let own = || records(vec![key("2024", "own", "active")]);
        for (why, backup, existing, want, sealing) in [
            (
                "a key newer than the sealing key",
                vec![new("active")],
                own(),
                "planted put opening",
                "own",
            ),
            (
                "without an existing key",
                vec![new("active")],
                vec![],
                "planted put opening",
                "",
            ),
            (
                "claims to be backed up",
                vec![annotated(new("active"), BACKED_UP_ANNOTATION)],
                own(),
                "planted put opening",
                "own",
            ),
            (
                "compromised",
                vec![new("compromised")],
                own(),
                "planted put retired",
                "own",
            ),
            (
                "retired",
                vec![new("retired")],
                own(),
                "planted put retired",
                "own",
            ),
            (
                "an unknown label",
                vec![new("Active")],
                own(),
                "planted put retired",
                "own",
            ),
            (
                "the legacy name, which needs no label",
                vec![key("2025", "sealed-secrets-key", "")],
                own(),
                "sealed-secrets-key put opening",
                "own",
            ),
            (
                "two copies",
                vec![new("active"), key("2025", "copy", "active")],
                own(),
                "planted put opening,copy existing opening",
                "own",
            ),
            (
                "restored before",
                vec![new("active")],
                records(vec![annotated(new("active"), OPENING_ONLY_ANNOTATION)]),
                "planted existing opening",
                "",
            ),
            (
                "the administrator's own key stays unchanged",
                vec![key("2024", "other-name", "compromised")],
                own(),
                "other-name existing sealing",
                "own",
            ),
        ] {
            let (steps, sealing_name) = plan_steps(backup, &existing, None).unwrap();
            assert_eq!(
                (steps.join(","), sealing_name.as_str()),
                (want.to_owned(), sealing),
                "{why}"
            );
        }
    }

    /// Controllers load the Secret `sealed-secrets-key` regardless of its label.
    #[test]
    fn restores_the_legacy_key_as_a_loaded_key() {
        let legacy = |label| vec![key("2025", "sealed-secrets-key", label)];
        let own = || records(vec![key("2024", "own", "active")]);
        let same_name = || records(vec![key("2024", "sealed-secrets-key", "active")]);
        for (label, existing, want) in [
            ("active", own(), "opening"),
            ("retired", own(), "opening"),
            ("anything", own(), "opening"),
            ("compromised", own(), "compromised"),
            ("retired", same_name(), "opening"),
            ("compromised", same_name(), "compromised"),
        ] {
            let (steps, _) = plan_steps(legacy(label), &existing, None).unwrap();
            let want = format!("sealed-secrets-key put {want}");
            assert_eq!(steps, [want], "{label}");
        }
    }

    #[test]
    fn the_chosen_key_seals_or_the_restore_fails() {
        let both = || vec![key("2024", "old", "active"), key("2025", "new", "active")];
        let marked = |year, name| annotated(key(year, name, "active"), OPENING_ONLY_ANNOTATION);
        for (why, backup, existing, chosen, want) in [
            (
                "the newest",
                both(),
                vec![],
                "2025",
                Ok("old put opening,new put sealing"),
            ),
            (
                "an older key",
                both(),
                vec![],
                "2024",
                Ok("old put sealing,new put opening"),
            ),
            (
                "restored before",
                both(),
                vec![marked("2025", "new")],
                "2025",
                Ok("old put opening,new allowed sealing"),
            ),
            (
                "it already seals",
                both(),
                vec![key("2025", "new", "active")],
                "2025",
                Ok("old put opening,new existing sealing"),
            ),
            (
                "a newer key seals",
                both(),
                vec![key("2025", "own", "active")],
                "2024",
                Err("old cannot be the sealing key: own SHA256:"),
            ),
            (
                "compromised in the backup",
                vec![key("2025", "new", "compromised")],
                vec![],
                "2025",
                Err("new is marked as compromised"),
            ),
            (
                "compromised in one of its copies",
                vec![
                    key("2025", "new", "active"),
                    key("2025", "copy", "compromised"),
                ],
                vec![],
                "2025",
                Err("new is marked as compromised"),
            ),
            (
                "retired in the backup",
                vec![key("2025", "new", "retired")],
                vec![],
                "2025",
                Err("new is retired in the backup"),
            ),
            (
                "compromised in the store",
                both(),
                vec![annotated(
                    key("2025", "new", "active"),
                    COMPROMISED_ANNOTATION,
                )],
                "2025",
                Err("new already exists and is compromised"),
            ),
            (
                "retired in the store",
                both(),
                vec![key("2025", "new", "retired")],
                "2025",
                Err("new already exists and is retired"),
            ),
            (
                "not in the backup",
                vec![key("2024", "old", "active")],
                vec![],
                "2025",
                Err("the backup contains no key SHA256:"),
            ),
        ] {
            let planned = plan_steps(backup, &records(existing), Some(chosen));
            match (planned, want) {
                (Ok((steps, _)), Ok(want)) => assert_eq!(steps.join(","), want, "{why}"),
                (Err(error), Err(want)) => {
                    assert!(error.to_string().starts_with(want), "{why}: {error}");
                }
                (planned, _) => unreachable!("{why}: {planned:?}"),
            }
        }
    }

    /// Attack: an attacker gives a key in a backup a name that leads out of the directory, is hidden, or contains
    /// terminal escapes.
    #[test]
    fn refuses_names_that_an_api_server_would_refuse() {
        for name in [
            "../key",
            ".hidden",
            "a/b",
            "Key",
            "a_b",
            "a b",
            "\u{1b}[2J",
            "a\nb",
            "ä",
            &"a".repeat(254),
        ] {
            let error = plan_steps(vec![key("2025", name, "active")], &[], None)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("not a valid Secret name"),
                "{name:?}: {error}"
            );
            let hint = error.find("\nhint: ").expect("a hint");
            assert!(!error[..hint].contains(['\u{1b}', '\n']), "{error:?}");
        }
        let error = plan_steps(vec![key("2025", "", "active")], &[], None).unwrap_err();
        assert!(error.to_string().contains("has no name"), "{error}");
    }

    #[test]
    fn a_taken_name_gets_a_suffix() {
        let stored = |existing: &[KeyRecord]| {
            let backup = vec![key("2025", "sealed-secrets-key-first", "active")];
            let plan = Plan::new(backup, existing, None, Timestamp::UNIX_EPOCH)?;
            let name = plan.steps[0].stored_name().unwrap_or_default().to_owned();
            anyhow::Ok(name)
        };
        let first = key("2024", "sealed-secrets-key-first", "active");
        assert_eq!(stored(&[]).unwrap(), "sealed-secrets-key-first");
        let other = stored(&records(vec![first.clone()])).unwrap();
        assert_eq!(other, "sealed-secrets-key-first-restored-7xku5xrs");
        let third = key("2024", &other, "active");
        let error = stored(&records(vec![first, third])).unwrap_err();
        assert!(
            error.to_string().contains("another key has the name"),
            "{error}"
        );
    }

    #[test]
    fn reports_keys_newer_than_the_sealing_key() {
        let existing = records(vec![key("2024", "own", "active")]);
        let newer = |year: &str, existing: &[KeyRecord]| {
            let plan = Plan::new(
                vec![key(year, "k", "active")],
                existing,
                None,
                Timestamp::UNIX_EPOCH,
            );
            plan.unwrap().newer.len()
        };
        assert_eq!(newer("2025", &existing), 1);
        assert_eq!(newer("2025", &[]), 0);
        let existing = records(vec![key("2025", "own", "active")]);
        assert_eq!(newer("2024", &existing), 0);
    }
}
