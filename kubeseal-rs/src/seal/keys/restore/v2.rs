//! Decides how to restore keys that are only for v2. They are restored as opening-only.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use kubeseal_library::keys::store::RestoreOutcome;
use kubeseal_library::keys::{KeyRecord, KeyStore, V2KeyRecord};
use shared::key_marks::backed_up_text;
use shared::names;
use shared::resource::{
    BACKED_UP_ANNOTATION, COMPROMISED_ANNOTATION, KEY_ACTIVE, KEY_COMPROMISED, KEY_RETIRED,
    OPENING_ONLY_ANNOTATION, V2_KEY_LABEL,
};
use shared::secret::Secret;
use shared::v2::{KeyId, key_secret};

use crate::failure::Failure;

/// What happens to one Secret of the backup.
enum Step {
    /// It is stored under this name.
    Put(Box<Secret>, KeyId),
    /// The key exists under this name.
    Exists(String),
    /// The Secret contains no usable key.
    Broken(String, String),
}

/// All steps.
pub(super) struct Plan(Vec<Step>);

impl Plan {
    /// Decides about every Secret before the first is written.
    ///
    /// # Errors
    ///
    /// Fails if a name is not valid or cannot be made unique.
    pub(super) fn new(
        secrets: Vec<Secret>,
        existing: &[KeyRecord],
        existing_v2: &[V2KeyRecord],
        now: Timestamp,
    ) -> Result<Self> {
        let mut names: Vec<String> = existing.iter().map(|key| key.name().to_owned()).collect();
        names.extend(existing_v2.iter().map(|key| key.name().to_owned()));
        let ids = existing_v2.iter();
        let ids = ids.filter_map(|key| Some((key.key_id()?, key.name().to_owned())));
        let mut ids: BTreeMap<KeyId, String> = ids.collect();
        let mut steps = Vec::new();
        for secret in secrets {
            let record = V2KeyRecord::new(secret, None);
            let Some(id) = record.key_id() else {
                let problem = record.key.as_ref().err().cloned().unwrap_or_default();
                steps.push(Step::Broken(record.name().to_owned(), problem));
                continue;
            };
            if let Some(name) = ids.get(&id) {
                steps.push(Step::Exists(name.clone()));
                continue;
            }
            let name = free_name(record.name(), &id, &names)?;
            names.push(name.clone());
            ids.insert(id, name.clone());
            steps.push(Step::Put(restored(&record, &id, &name, now)?.into(), id));
        }
        Ok(Self(steps))
    }

    /// Checks whether every key can be stored.
    ///
    /// # Errors
    ///
    /// Fails if a file of its name exists.
    pub(super) fn check_places(&self, store: &KeyStore) -> Result<()> {
        for step in &self.0 {
            if let Step::Put(secret, _) = step {
                store.check_place(secret.metadata.name.as_deref().unwrap_or_default(), None)?;
            }
        }
        Ok(())
    }

    /// Stores the keys.
    ///
    /// # Errors
    ///
    /// Fails if a key cannot be stored.
    pub(super) fn carry_out(&self, store: &KeyStore) -> Result<()> {
        for step in &self.0 {
            let Step::Put(secret, _) = step else {
                continue;
            };
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            let failure = Failure::new(format!(
                "cannot restore {name}; the keys before it were restored"
            ));
            let stored = store.put(secret);
            if stored.context(failure.hint("run the command again"))? == RestoreOutcome::Existed {
                bail!(
                    Failure::new(format!("{name} was created during this run"))
                        .hint("run the command again")
                );
            }
        }
        Ok(())
    }

    /// Returns a line for each Secret.
    pub(super) fn lines(&self, is_dry_run: bool) -> Vec<String> {
        let verb = if is_dry_run { "would be" } else { "is" };
        let line = |step: &Step| match step {
            Step::Put(secret, id) => {
                let name = secret.metadata.name.as_deref().unwrap_or_default();
                format!("{name} {verb} restored, opening-only: the v2 key {id}")
            }
            Step::Exists(name) => format!("{name} exists already: a v2 key"),
            Step::Broken(name, problem) => format!("{name} cannot be restored: {problem}"),
        };
        self.0.iter().map(line).collect()
    }

    pub(super) fn has_broken(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Broken(..)))
    }
}

fn free_name(name: &str, id: &KeyId, taken: &[String]) -> Result<String> {
    names::check_object(name)?;
    if taken.iter().all(|other| other != name) {
        return Ok(name.to_owned());
    }
    let id = id.to_string().to_ascii_lowercase();
    let end: String = id
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(8)
        .collect();
    let suffixed = format!("{name}-restored-{end}");
    if names::check_object(&suffixed).is_err() || taken.contains(&suffixed) {
        let message = format!("another key has the name {name}; nothing was changed");
        bail!(Failure::new(message).hint("rename one of the two"));
    }
    Ok(suffixed)
}

/// Builds the Secret: the key, and of the metadata only the marks. A backup is untrusted, as for RSA keys.
fn restored(record: &V2KeyRecord, id: &KeyId, name: &str, now: Timestamp) -> Result<Secret> {
    let stored = key_secret::parse(&record.secret)?;
    let mut annotations = BTreeMap::from([(OPENING_ONLY_ANNOTATION.to_owned(), now.to_string())]);
    if let Some(time) = record.marks.backed_up {
        annotations.insert(BACKED_UP_ANNOTATION.to_owned(), backed_up_text(id, time));
    }
    if record.marks.is_compromised {
        annotations.insert(COMPROMISED_ANNOTATION.to_owned(), String::new());
    }
    let labels = record.secret.metadata.labels.as_ref();
    let state = match labels.and_then(|labels| labels.get(V2_KEY_LABEL)) {
        Some(state) if state == KEY_ACTIVE => KEY_ACTIVE,
        Some(state) if state == KEY_COMPROMISED => KEY_COMPROMISED,
        _ => KEY_RETIRED,
    };
    let mut secret = key_secret::build(name, "", &stored, BTreeMap::new(), annotations);
    secret.metadata.namespace = None;
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.insert(V2_KEY_LABEL.to_owned(), state.to_owned());
    Ok(secret)
}
