//! Retires and marks keys that are only for v2. Which values are sealed for them is visible without any key.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::store::Change;
use kubeseal_library::keys::survey::Dependent;
use kubeseal_library::keys::{
    Holder, Inventory, KeyRecord, KeyStore, V2KeyRecord, compromised, v2,
};
use shared::error_chain;
use shared::key_marks::KeyState;
use shared::key_ring::KeyRing;
use shared::needs::{Need, needs};
use shared::resource::{COMPROMISED_ANNOTATION, KEY_COMPROMISED, KEY_RETIRED, V2_KEY_LABEL};
use shared::v2::KeyId;

use super::compromise::{Situation, Successor};
use super::info;
use super::served::Served;
use crate::failure::Failure;
use crate::report;

/// The v2 keys of a store, and the position of the one that an argument names.
pub(super) struct NamedKey {
    records: Vec<V2KeyRecord>,
    index: usize,
    pub(super) id: KeyId,
}

/// Finds the v2 key with that name or identifier; `None` if no v2 key has it.
///
/// # Errors
///
/// Fails if the keys cannot be read, the key is unusable, or the name is ambiguous.
pub(super) fn find(store: &KeyStore, rsa: &[KeyRecord], arg: &str) -> Result<Option<NamedKey>> {
    let records = store.read_v2()?;
    let Some(index) = records.iter().position(|record| record.is_named(arg)) else {
        return Ok(None);
    };
    let record = &records[index];
    if rsa.iter().any(|other| other.name() == arg) {
        bail!(
            Failure::new(format!("several keys have the name {arg:?}"))
                .hint("pass a fingerprint or identifier from `seal keys list`")
        );
    }
    let id = match &record.key {
        Ok(key) => key.key_id(),
        Err(problem) => {
            let message = format!("the Secret {arg} contains no usable key: {problem}");
            bail!(Failure::new(message).hint("restore the Secret from a backup, or delete it"))
        }
    };
    Ok(Some(NamedKey { records, index, id }))
}

impl NamedKey {
    pub(super) fn name(&self) -> &str {
        self.record().name()
    }

    fn record(&self) -> &V2KeyRecord {
        &self.records[self.index]
    }

    /// Returns the v2 keys of the store.
    pub(super) fn records(&self) -> &[V2KeyRecord] {
        &self.records
    }

    fn state(&self, preferred: Option<KeyId>) -> KeyState {
        v2::states(&self.records, preferred)[self.index]
    }

    /// Checks that the key does not seal and is not already retired. `is_former_suite` is whether the user states that
    /// the controller has a different `--sealing-suite` now, so that the newest key of the former suite does not seal.
    pub(super) fn check_retirable(
        &self,
        served: &Served,
        is_former_suite: bool,
        location_flags: &str,
    ) -> Result<()> {
        let name = self.name();
        let new_key = format!(
            "generate a new key first: `seal keys rotate{location_flags}`; if a newer key exists, back it up: \
             `seal keys backup ARCHIVE{location_flags}`"
        );
        if self.state(None) == KeyState::Retired {
            bail!("{name} is already retired; nothing was changed");
        }
        let own_suite = self.record().suite();
        let preferred = served.preferred.map(|(suite, _)| suite);
        let is_preferred = served.preferred_id() == Some(self.id);
        let has_preferred_suite = preferred.is_some() && preferred == own_suite;
        if self.state(None) != KeyState::Sealing && !is_preferred {
            return Ok(());
        }
        if is_preferred || (has_preferred_suite && is_former_suite) {
            let what = if is_preferred {
                "this key"
            } else {
                "its suite"
            };
            let message =
                format!("cannot retire {name}: the controller prefers {what} for v2 values");
            bail!(Failure::new(message).hint(new_key));
        }
        if is_former_suite {
            return Ok(());
        }
        let failure = Failure::new(format!(
            "cannot retire {name}: it is the sealing key of its suite"
        ))
        .hint(new_key);
        bail!(match preferred {
            Some(suite) if !has_preferred_suite => failure.hint(format!(
                "the controller prefers the suite {suite}; if it will keep this preference, pass --former-suite"
            )),
            None => failure
                .hint("if the controller has a different --sealing-suite now, pass --former-suite"),
            Some(_) => failure,
        })
    }

    /// Returns the items that are or may be sealed for this key, and that no other loaded key of the store opens. A
    /// user who can write a file can name any key as a recipient, so another key counts only if it really opens the
    /// item. An item is not sure to need this key if this key does not open it either, or if its object has a malformed
    /// entry, which can hide the key.
    pub(super) fn dependents(&self, sources: &Inventory, rsa: &[KeyRecord]) -> Vec<Dependent> {
        let (others, own) = (self.other_keys(rsa), self.own_key());
        let mut dependents = Vec::new();
        for Holder { sealed, origin } in &sources.holders {
            let own = needs(sealed, &own);
            let mut items = v2::items_for(sealed, self.id.short());
            let malformed = own.iter().filter(|(_, need)| **need == Need::AnyKey);
            items.extend(malformed.map(|(item, _)| item.clone()));
            if items.is_empty() {
                continue;
            }
            let others = needs(sealed, &others);
            let items = items.into_iter().filter(|item| !is_opened(&others, item));
            dependents.extend(items.map(|item| Dependent {
                origin: origin.clone(),
                is_sure: is_opened(&own, &item),
                item,
            }));
        }
        dependents
    }

    fn other_keys(&self, rsa: &[KeyRecord]) -> KeyRing {
        let others = self.records.iter().filter(|record| record.is_active);
        let others = others.filter(|record| record.key_id() != Some(self.id));
        let rsa = rsa.iter().filter(|record| record.properties.is_active);
        let rsa = rsa.filter_map(|record| record.key.as_ref().ok().cloned());
        v2::add_to_ring(KeyRing::new(rsa), others)
    }

    fn own_key(&self) -> KeyRing {
        v2::add_to_ring(KeyRing::default(), [self.record()])
    }

    /// Labels the Secret as retired or, if the key is marked as compromised, as compromised.
    ///
    /// # Errors
    ///
    /// Fails if the Secret cannot be written.
    pub(super) fn retire(&self, store: &KeyStore) -> Result<()> {
        let record = self.record();
        let label = if record.marks.is_compromised {
            KEY_COMPROMISED
        } else {
            KEY_RETIRED
        };
        let change = Change::label(V2_KEY_LABEL, label);
        store.change_secret(&record.secret, record.file.as_deref(), &change)
    }

    /// Returns the time of an earlier mark as compromised.
    pub(super) fn earlier_mark(&self) -> Option<String> {
        let annotations = self.record().secret.metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get(COMPROMISED_ANNOTATION))
            .cloned()
    }

    /// Marks every Secret with this key as compromised, and records the key on this machine.
    ///
    /// # Errors
    ///
    /// Fails if a Secret cannot be written.
    pub(super) fn mark(
        &self,
        store: &KeyStore,
        environment: &Environment,
        since: &str,
    ) -> Result<()> {
        let own = self
            .records
            .iter()
            .filter(|record| record.key_id() == Some(self.id));
        let mark = Change::annotation(COMPROMISED_ANNOTATION, since.to_owned());
        for (count, record) in own.enumerate() {
            let marked = store.change_secret(&record.secret, record.file.as_deref(), &mark);
            marked.with_context(|| {
                let name = record.name();
                Failure::new(format!(
                    "cannot mark the key Secret {name} as compromised (other Secrets of this key already marked: \
                     {count})"
                ))
                .hint("run the command again")
            })?;
        }
        if let Err(error) = compromised::remember_v2(environment, &self.id, since) {
            report::warn(&format!(
                "cannot record the mark locally, so `seal` refuses this key as a recipient only where `retired` in \
                 .seal.yaml lists its identifier: {}",
                error_chain(&error)
            ));
        }
        Ok(())
    }

    /// Returns what determines the next steps after the key was marked as compromised.
    pub(super) fn situation(&self, served: &Served, rsa: &[KeyRecord]) -> Situation {
        let mut own = self.records.iter().filter(|record| self.is_own(record));
        Situation {
            is_retired: own.all(|record| !record.is_active),
            successor: self
                .served_successor(served, rsa)
                .or_else(|| self.dated_successor()),
            is_v2: true,
        }
    }

    fn is_own(&self, record: &V2KeyRecord) -> bool {
        record.key_id() == Some(self.id)
    }

    /// Returns the key that the controller prefers, if it is not this key.
    fn served_successor(&self, served: &Served, rsa: &[KeyRecord]) -> Option<Successor> {
        let preferred = served.preferred_id().filter(|id| *id != self.id)?;
        let v2 = self.records.iter();
        let v2 = v2.filter(|record| record.key_id() == Some(preferred));
        let is_preferred = |record: &&KeyRecord| {
            let key = record.key.as_ref().ok();
            key.is_some_and(|key| key.key_id() == preferred)
        };
        let rsa = rsa.iter().filter(is_preferred).map(KeyRecord::name);
        let name = v2.map(V2KeyRecord::name).chain(rsa).next()?;
        Some(Successor::served(name))
    }

    /// Returns the sealing key of the suite according to the times in the Secrets, if it is newer than this key or this
    /// key is retired.
    fn dated_successor(&self) -> Option<Successor> {
        let own = self.records.iter().filter(|record| self.is_own(record));
        let is_retired = own.clone().all(|record| !record.is_active);
        let newest_own = own.filter_map(V2KeyRecord::not_before).max();
        let states = v2::states(&self.records, None).into_iter();
        let mut others = self.records.iter().zip(states);
        let (successor, _) = others.find(|(record, state)| {
            *state == KeyState::Sealing
                && !self.is_own(record)
                && record.suite() == self.record().suite()
                && (is_retired || record.not_before() > newest_own)
        })?;
        Some(Successor::dated(successor.name(), successor.file.as_ref()))
    }

    pub(super) fn print_retired(&self, searched: usize, unsearched: &str) {
        info(&format!(
            "{} is retired: none of {searched} SealedSecrets needs it{unsearched}; it cannot unseal until the label \
             {V2_KEY_LABEL}=active is restored",
            self.name()
        ));
    }
}

fn is_opened(needs: &BTreeMap<String, Need>, item: &str) -> bool {
    matches!(needs.get(item), Some(Need::Key(_) | Need::V2Key(_)))
}
