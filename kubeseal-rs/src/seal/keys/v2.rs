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

use super::compromise::Situation;
use super::info;
use crate::failure::Failure;
use crate::report;

/// A v2 key that an argument names, and the other keys.
pub(super) struct NamedKey {
    records: Vec<V2KeyRecord>,
    index: usize,
    /// The identifier of the key.
    pub(super) id: KeyId,
}

/// Finds the v2 key with that name or identifier; `None` if an RSA key or no key has it.
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
            bail!(Failure::new(message).hint("restore it from a backup, or delete it"))
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

    fn state(&self) -> KeyState {
        v2::states(&self.records)[self.index]
    }

    /// Checks that the key may be retired.
    ///
    /// # Errors
    ///
    /// Fails if the key seals or is retired already.
    pub(super) fn check_retirable(&self, location_flags: &str) -> Result<()> {
        let name = self.name();
        match self.state() {
            KeyState::Sealing => bail!(
                Failure::new(format!("{name} is the sealing key of its suite")).hint(format!(
                    "generate a new one first: `seal keys rotate{location_flags}`; if there is one, back it up: \
                     `seal keys backup ARCHIVE{location_flags}`"
                ))
            ),
            KeyState::Retired => bail!("{name} is already retired; nothing was changed"),
            _ => Ok(()),
        }
    }

    /// Returns the items that no other loaded key of the store opens. A user who can write a file can name any key as a
    /// recipient, so the other keys have to open the items. An item that this key does not open either is not sure.
    pub(super) fn dependents(&self, sources: &Inventory, rsa: &[KeyRecord]) -> Vec<Dependent> {
        let (others, own) = (self.other_keys(rsa), self.own_key());
        let mut dependents = Vec::new();
        for Holder { sealed, origin } in &sources.holders {
            let items = v2::items_for(sealed, self.id.short());
            if items.is_empty() {
                continue;
            }
            let (others, own) = (needs(sealed, &others), needs(sealed, &own));
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
        let rsa = rsa.iter().filter(|record| record.facts.is_active);
        let rsa = rsa.filter_map(|record| record.key.as_ref().ok().cloned());
        v2::add_to_ring(KeyRing::new(rsa), others)
    }

    fn own_key(&self) -> KeyRing {
        v2::add_to_ring(KeyRing::default(), [self.record()])
    }

    /// Labels the Secret as retired.
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
                    "{count} Secrets of this key are marked and {name} is not"
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

    /// Returns what decides the next steps after a mark as compromised.
    pub(super) fn situation(&self) -> Situation {
        let is_own = |record: &V2KeyRecord| record.key_id() == Some(self.id);
        let own = self.records.iter().filter(|record| is_own(record));
        let is_retired = own.clone().all(|record| !record.is_active);
        let newest_own = own.filter_map(V2KeyRecord::not_before).max();
        let states = v2::states(&self.records).into_iter();
        let mut others = self
            .records
            .iter()
            .zip(states)
            .filter(|(record, _)| !is_own(record));
        let has_successor = others.any(|(record, state)| {
            state == KeyState::Sealing && (is_retired || record.not_before() > newest_own)
        });
        Situation {
            is_retired,
            has_successor,
        }
    }

    /// Prints that the key is retired.
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
