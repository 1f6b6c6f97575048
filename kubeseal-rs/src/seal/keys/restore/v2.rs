//! Decides how to restore keys that are only for v2: as opening-only, unless the user selects one for sealing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use kubeseal_library::keys::restored;
use kubeseal_library::keys::store::{Change, NewKey, RestoreOutcome};
use kubeseal_library::keys::{KeyRecord, KeyStore, V2KeyRecord, v2};
use shared::key_marks::{KeyState, backed_up_text};
use shared::names;
use shared::resource::{
    BACKED_UP_ANNOTATION, COMPROMISED_ANNOTATION, KEY_ACTIVE, KEY_COMPROMISED, KEY_RETIRED,
    OPENING_ONLY_ANNOTATION, V2_KEY_LABEL,
};
use shared::secret::Secret;
use shared::v2::{AnyKeyId, KeyId, Suite, key_secret};

use super::outcome::{Outcome, Row};
use crate::failure::Failure;

/// The action for one Secret of the backup.
enum Action {
    /// Store this Secret.
    Put(Box<Secret>),
    /// Nothing: the key already exists, or this restore stores it, under this name.
    Exists(String),
    /// Remove the opening-only mark from these existing Secrets: the user selected their key. Contains the indices of
    /// the Secrets among the existing ones, and the name of the first Secret with this key.
    AllowSealing(Vec<usize>, String),
    /// Nothing: the Secret contains no usable key, for this reason.
    Broken(String),
}

/// One Secret of the backup.
struct Step {
    name: String,
    key: Option<(Suite, KeyId)>,
    action: Action,
    left_out: Vec<String>,
    state: KeyState,
}

/// The steps for all Secrets, and the resulting keys.
pub(super) struct Plan<'a> {
    steps: Vec<Step>,
    existing: &'a [V2KeyRecord],
    /// The keys after the restore.
    after: Vec<V2KeyRecord>,
    /// The names of all existing keys, including RSA keys, and of the v2 keys to restore.
    names: Vec<String>,
    now: Timestamp,
}

impl<'a> Plan<'a> {
    /// Plans a step for every Secret before the first is written. `chosen` contains the keys that the user selected for
    /// sealing.
    ///
    /// # Errors
    ///
    /// Fails if a name is not valid or cannot be made unique, or if a chosen key is not in the backup or cannot seal.
    pub(super) fn new(
        secrets: Vec<Secret>,
        existing_rsa: &[KeyRecord],
        existing: &'a [V2KeyRecord],
        chosen: &[AnyKeyId],
        now: Timestamp,
    ) -> Result<Self> {
        let rsa = existing_rsa.iter().map(KeyRecord::name);
        let names = rsa.chain(existing.iter().map(V2KeyRecord::name));
        let mut plan = Self {
            steps: Vec::new(),
            existing,
            after: existing.iter().map(copy_record).collect(),
            names: names.map(str::to_owned).collect(),
            now,
        };
        let records = with_marks_of_copies(secrets);
        let chosen = full_ids(chosen, &records)?;
        for record in records {
            let is_chosen = record.key_id().is_some_and(|id| chosen.contains(&id));
            let step = plan.step(&record, is_chosen)?;
            plan.steps.push(step);
        }
        plan.set_states();
        for id in &chosen {
            plan.check_choice(id)?;
        }
        Ok(plan)
    }

    fn step(&mut self, record: &V2KeyRecord, is_chosen: bool) -> Result<Step> {
        let mut step = Step {
            name: record.name().to_owned(),
            key: record.suite().zip(record.key_id()),
            action: Action::Broken(record.key.as_ref().err().cloned().unwrap_or_default()),
            left_out: Vec::new(),
            state: KeyState::Broken,
        };
        let Some((_, id)) = step.key else {
            return Ok(step);
        };
        let mut same = self.after.iter().filter(|key| key.key_id() == Some(id));
        if let Some(same) = same.next() {
            let name = same.name().to_owned();
            step.action = self.existing_action(id, name, is_chosen);
            return Ok(step);
        }
        if is_chosen {
            check_marks(record)?;
        }
        let name = free_name(record.name(), &id, &self.names)?;
        let secret = restored(record, &id, &name, (!is_chosen).then_some(self.now))?;
        step.left_out = restored::left_out(&record.secret, &secret);
        self.after.push(V2KeyRecord::new(secret.clone(), None));
        self.names.push(name);
        step.action = Action::Put(secret.into());
        Ok(step)
    }

    fn existing_action(&mut self, id: KeyId, name: String, is_chosen: bool) -> Action {
        let is_marked = |key: &V2KeyRecord| key.key_id() == Some(id) && key.marks.is_opening_only;
        let marked = self.existing.iter().enumerate();
        let marked = marked.filter(|(_, key)| is_chosen && is_marked(key));
        let marked: Vec<usize> = marked.map(|(index, _)| index).collect();
        if marked.is_empty() {
            return Action::Exists(name);
        }
        for index in &marked {
            self.after[*index].marks.is_opening_only = false;
        }
        Action::AllowSealing(marked, name)
    }

    fn set_states(&mut self) {
        let states = v2::states(&self.after, None);
        for step in &mut self.steps {
            let id = step.key.map(|(_, id)| id);
            let mut keys = self.after.iter().zip(&states);
            let own = keys.find(|(key, _)| id.is_some() && key.key_id() == id);
            step.state = own.map_or(KeyState::Broken, |(_, state)| *state);
        }
    }

    fn check_choice(&self, id: &KeyId) -> Result<()> {
        let mut steps = self.steps.iter();
        let Some(step) = steps.find(|step| step.key.is_some_and(|(_, own)| own == *id)) else {
            bail!(no_key(&AnyKeyId::Full(*id)));
        };
        let name = &step.name;
        if step.state != KeyState::Sealing && step.state != KeyState::Opening {
            let state = step.state.name();
            let message = format!(
                "{name} already exists and is {state}, so it cannot seal; nothing was changed"
            );
            bail!(Failure::new(message).hint("restore the key without --seal-with"));
        }
        let own = self.after.iter().find(|key| key.key_id() == Some(*id));
        let newer = own.and_then(|own| self.newer(own));
        let Some(newer) = newer else {
            return Ok(());
        };
        let message = format!(
            "{name} cannot be the sealing key: {} is newer, and the newest key that may seal is used; nothing was changed",
            newer.name()
        );
        bail!(
            Failure::new(message)
                .hint("omit --seal-with: the key is then restored as opening-only")
        );
    }

    /// Returns a newer key of the same suite that may seal.
    fn newer(&self, key: &V2KeyRecord) -> Option<&V2KeyRecord> {
        let suite_keys = self
            .after
            .iter()
            .filter(|other| other.suite() == key.suite());
        let mut sealing = suite_keys.filter(|other| other.can_seal());
        sealing.find(|other| other.not_before() > key.not_before())
    }

    /// Returns the newest key of each suite that may seal after the restore.
    pub(super) fn sealing(&self) -> impl Iterator<Item = &V2KeyRecord> {
        let may_seal = self.after.iter().filter(|key| key.can_seal());
        may_seal.filter(|key| self.newer(key).is_none())
    }

    /// Returns whether a key is restored as opening-only, and no key of its suite seals.
    pub(super) fn needs_sealing_key(&self) -> bool {
        let seals = |suite: Suite| {
            let mut keys = self.after.iter();
            keys.any(|key| key.suite() == Some(suite) && key.can_seal())
        };
        self.steps.iter().any(|step| {
            let is_put = matches!(step.action, Action::Put(_)) && step.state == KeyState::Opening;
            is_put && step.key.is_some_and(|(suite, _)| !seals(suite))
        })
    }

    /// Checks, as far as possible in advance, whether every key can be stored under its name.
    pub(super) fn check_new_key_names(&self, store: &KeyStore) -> Result<()> {
        for step in &self.steps {
            if let (Action::Put(secret), Some((_, id))) = (&step.action, step.key) {
                let name = secret.metadata.name.as_deref().unwrap_or_default();
                store.check_new_key_name(name, NewKey::V2(id))?;
            }
        }
        Ok(())
    }

    /// Stores the keys, and removes the opening-only marks of existing keys that the user selected.
    pub(super) fn execute(&self, store: &KeyStore) -> Result<()> {
        for step in &self.steps {
            let name = &step.name;
            let failure = Failure::new(format!(
                "cannot restore {name}; the keys before it were restored"
            ));
            self.execute_step(step, store)
                .context(failure.hint("run the command again"))?;
        }
        Ok(())
    }

    fn execute_step(&self, step: &Step, store: &KeyStore) -> Result<()> {
        match &step.action {
            Action::Put(secret) if store.put(secret)? == RestoreOutcome::Existed => bail!(
                Failure::new(format!("{} was created during this run", step.name))
                    .hint("run the command again")
            ),
            Action::AllowSealing(indices, _) => {
                let change = Change {
                    annotations: vec![(OPENING_ONLY_ANNOTATION, None)],
                    ..Change::default()
                };
                for record in indices.iter().filter_map(|index| self.existing.get(*index)) {
                    store.change_secret(&record.secret, record.file.as_deref(), &change)?;
                }
                Ok(())
            }
            Action::Put(_) | Action::Exists(_) | Action::Broken(_) => Ok(()),
        }
    }

    /// Returns the outcome for each Secret.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.steps.iter().map(Step::row)
    }
}

impl Step {
    fn row(&self) -> Row<'_> {
        let (outcome, stored_as) = match &self.action {
            Action::Put(secret) => (Outcome::Restored, secret.metadata.name.as_deref()),
            Action::Exists(name) => (Outcome::Exists, Some(name.as_str())),
            Action::AllowSealing(_, name) => (Outcome::SealingAllowed, Some(name.as_str())),
            Action::Broken(problem) => (Outcome::Broken(problem), None),
        };
        Row {
            name: &self.name,
            fingerprint: None,
            v2: self.key,
            outcome,
            state: self.state,
            stored_as,
            left_out: &self.left_out,
        }
    }
}

fn no_key(id: &AnyKeyId) -> Failure {
    let message = format!("the backup contains no key {id}; nothing was changed");
    Failure::new(message).hint("list the keys of the backup with `--dry-run`")
}

/// Returns the full identifiers of the chosen keys. Refuses a short identifier that two keys share, because the author
/// of a backup can generate such keys.
fn full_ids(chosen: &[AnyKeyId], records: &[V2KeyRecord]) -> Result<Vec<KeyId>> {
    let full_id = |id: &AnyKeyId| {
        let ids = records.iter().filter_map(V2KeyRecord::key_id);
        let ids: BTreeSet<KeyId> = ids.filter(|own| id.is_of(own)).collect();
        match Vec::from_iter(ids)[..] {
            [] => bail!(no_key(id)),
            [id] => Ok(id),
            _ => bail!(
                Failure::new(format!(
                    "several keys of the backup have the identifier {id}"
                ))
                .hint("pass all 43 characters of the identifier, which `--dry-run` lists")
            ),
        }
    };
    chosen.iter().map(full_id).collect()
}

fn copy_record(record: &V2KeyRecord) -> V2KeyRecord {
    V2KeyRecord::new(record.secret.clone(), record.file.clone())
}

/// Parses the Secrets. Marks all copies of a key as compromised if one copy is.
fn with_marks_of_copies(secrets: Vec<Secret>) -> Vec<V2KeyRecord> {
    let records = secrets.into_iter();
    let mut records: Vec<V2KeyRecord> = records.map(|s| V2KeyRecord::new(s, None)).collect();
    let compromised = records.iter().filter(|key| key.marks.is_compromised);
    let compromised: BTreeSet<KeyId> = compromised.filter_map(V2KeyRecord::key_id).collect();
    for record in &mut records {
        let id = record.key_id();
        record.marks.is_compromised |= id.is_some_and(|id| compromised.contains(&id));
    }
    records
}

/// Refuses a key that must not seal, because the backup marks it as compromised or retired.
fn check_marks(record: &V2KeyRecord) -> Result<()> {
    let name = record.name();
    if record.marks.is_compromised {
        let message =
            format!("{name} is marked as compromised and can never seal; nothing was changed");
        bail!(
            Failure::new(message)
                .hint("omit --seal-with: the key is then restored as opening-only")
        );
    }
    if !record.is_active {
        let message =
            format!("{name} is retired in the backup and cannot seal; nothing was changed");
        bail!(Failure::new(message).hint("restore the key without --seal-with"));
    }
    Ok(())
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
        bail!(Failure::new(message).hint("rename one of the two keys"));
    }
    Ok(suffixed)
}

/// Builds the Secret from the key and its marks. Other metadata is dropped, because a backup is untrusted, as for RSA
/// keys. With `opening_only`, the key gets the opening-only mark with this time.
fn restored(
    record: &V2KeyRecord,
    id: &KeyId,
    name: &str,
    opening_only: Option<Timestamp>,
) -> Result<Secret> {
    let stored = key_secret::parse(&record.secret)?;
    let mark = opening_only.map(|now| (OPENING_ONLY_ANNOTATION.to_owned(), now.to_string()));
    let mut annotations: BTreeMap<_, _> = mark.into_iter().collect();
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

#[cfg(test)]
mod tests {
    use shared::v2::SecretKey;
    use shared::v2::key_secret::StoredKey;

    use super::*;

    /// Returns the Secret of a key that is generated from `byte`. The key is valid from the Unix time `byte` on.
    fn key(byte: u8, name: &str, label: &str, mark: Option<&str>) -> Secret {
        let stored = StoredKey {
            key: SecretKey::from_bytes(Suite::XWing, &[byte; 32]).unwrap(),
            not_before: Timestamp::from_second(byte.into()).unwrap(),
            not_after: Timestamp::MAX,
        };
        let mark = mark.map(|mark| (mark.to_owned(), String::new()));
        let mut secret =
            key_secret::build(name, "ops", &stored, [].into(), mark.into_iter().collect());
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.insert(V2_KEY_LABEL.to_owned(), label.to_owned());
        secret
    }

    fn id(byte: u8) -> KeyId {
        let record = V2KeyRecord::new(key(byte, "k", "active", None), None);
        record.key_id().unwrap()
    }

    /// Returns the stored name, the outcome and the state of each key of the backup.
    fn plan(backup: Vec<Secret>, existing: Vec<Secret>, chosen: &[u8]) -> Result<Vec<String>> {
        let existing = existing.into_iter();
        let existing: Vec<_> = existing.map(|s| V2KeyRecord::new(s, None)).collect();
        let chosen: Vec<AnyKeyId> = chosen.iter().map(|byte| id(*byte).into()).collect();
        let plan = Plan::new(backup, &[], &existing, &chosen, Timestamp::UNIX_EPOCH)?;
        let text = |row: Row<'_>| {
            let (name, outcome) = (row.stored_as.unwrap_or_default(), row.outcome.name());
            format!("{name} {outcome} {}", row.state.name())
        };
        Ok(plan.rows().map(text).collect())
    }

    /// Attack: an attacker adds a key to a backup, in a state and with marks of their choice, so that the controller
    /// seals with it.
    #[test]
    fn only_chosen_keys_seal() {
        let own = || vec![key(1, "own", "active", None)];
        let marked = || vec![key(2, "new", "active", Some(OPENING_ONLY_ANNOTATION))];
        let new = |label| vec![key(2, "new", label, None)];
        for (why, backup, existing, chosen, want) in [
            (
                "a key newer than the sealing key",
                new("active"),
                own(),
                &[][..],
                Ok("new restored opening"),
            ),
            (
                "without an existing key",
                new("active"),
                vec![],
                &[],
                Ok("new restored opening"),
            ),
            (
                "retired",
                new("retired"),
                own(),
                &[],
                Ok("new restored retired"),
            ),
            (
                "unknown label",
                new("x"),
                own(),
                &[],
                Ok("new restored retired"),
            ),
            (
                "chosen",
                new("active"),
                own(),
                &[2],
                Ok("new restored sealing"),
            ),
            (
                "restored before",
                new("active"),
                marked(),
                &[],
                Ok("new exists opening"),
            ),
            (
                "restored before and chosen",
                new("active"),
                marked(),
                &[2],
                Ok("new sealingAllowed sealing"),
            ),
            (
                "the name is taken",
                vec![key(2, "own", "active", None)],
                own(),
                &[],
                Ok("own-restored-PREFIX restored opening"),
            ),
            (
                "a newer key seals",
                own(),
                new("active"),
                &[1],
                Err("own cannot be the sealing key: new is newer"),
            ),
            (
                "compromised in a copy",
                [new("active"), vec![key(2, "copy", "compromised", None)]].concat(),
                own(),
                &[2],
                Err("new is marked as compromised"),
            ),
            (
                "retired in the backup",
                new("retired"),
                own(),
                &[2],
                Err("new is retired in the backup"),
            ),
            (
                "retired in the store",
                new("active"),
                new("retired"),
                &[2],
                Err("new already exists and is retired"),
            ),
            (
                "not in the backup",
                new("active"),
                own(),
                &[3],
                Err("the backup contains no key "),
            ),
        ] {
            assert_planned(why, plan(backup, existing, chosen), want);
        }
    }

    /// Attack: an attacker gives a key of a backup a name that leads to another path, or that controls the terminal.
    #[test]
    fn refuses_v2_keys_with_names_that_an_api_server_would_refuse() {
        for name in ["../key", "a/b", "\u{1b}[2J", ""] {
            let planned = plan(vec![key(2, name, "active", None)], vec![], &[]);
            let error = planned.unwrap_err().to_string();
            assert!(error.contains("not a valid Secret name"), "{error:?}");
            assert!(!error.contains('\u{1b}'), "{error:?}");
        }
    }

    fn assert_planned(why: &str, planned: Result<Vec<String>>, want: Result<&str, &str>) {
        match (planned, want) {
            (Ok(rows), Ok(want)) => {
                let prefix = id(2).to_string().to_ascii_lowercase();
                let prefix = prefix.chars().filter(char::is_ascii_alphanumeric);
                let want = want.replace("PREFIX", &prefix.take(8).collect::<String>());
                assert_eq!(rows.join(","), want, "{why}");
            }
            (Err(error), Err(want)) => {
                assert!(error.to_string().starts_with(want), "{why}: {error}");
            }
            (planned, _) => unreachable!("{why}: {planned:?}"),
        }
    }

    /// Attack: an attacker adds labels, annotations and items that trigger other programs to a key of a backup.
    #[test]
    fn lists_the_properties_that_are_not_restored() {
        let mut secret = key(1, "k", "active", Some("reflector/auto"));
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.insert("team".to_owned(), "shop".to_owned());
        secret.metadata.finalizers = Some(vec!["a/b".to_owned()]);
        secret
            .data
            .insert("token".to_owned(), "x".to_owned().into());
        let plan = Plan::new(vec![secret], &[], &[], &[], Timestamp::UNIX_EPOCH).unwrap();
        let row = plan.rows().next().unwrap();
        let want = [
            "label team",
            "annotation reflector/auto",
            "finalizers",
            "item token",
        ];
        assert_eq!(row.left_out, want);
        let Action::Put(secret) = &plan.steps[0].action else {
            unreachable!("it is restored");
        };
        let annotations = secret.metadata.annotations.as_ref().unwrap().keys();
        assert!(annotations.eq([OPENING_ONLY_ANNOTATION]));
        assert_eq!(secret.data.len(), 4);
        assert_eq!(secret.metadata.finalizers, None);
    }
}
