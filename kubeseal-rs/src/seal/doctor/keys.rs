//! Checks the key Secrets, if the user may read them.

use anyhow::Result;
use kubeseal_library::cluster::{Access, Clusters};
use kubeseal_library::keys::{KeyRecord, KeyStore, V2KeyRecord, record, v2};
use shared::key::Certificate;
use shared::key_marks::KeyState;
use shared::key_ring::KeyRing;

use super::findings::{Finding, Findings};

/// The names of the steps.
const STEP: &str = "keys";
const V2_STEP: &str = "v2 keys";

/// The key Secrets of a cluster or directory.
#[derive(Default)]
pub(super) struct StoredKeys {
    pub(super) rsa: Vec<KeyRecord>,
    pub(super) v2: Vec<V2KeyRecord>,
}

impl StoredKeys {
    /// Reads all key Secrets.
    pub(super) fn read(store: &KeyStore) -> Result<Self> {
        let (rsa, v2) = (store.read()?, store.read_v2()?);
        Ok(Self { rsa, v2 })
    }

    /// Returns whether no key Secret was read.
    pub(super) fn is_empty(&self) -> bool {
        self.rsa.is_empty() && self.v2.is_empty()
    }

    /// Returns the usable keys that are not retired.
    pub(super) fn in_use(&self) -> KeyRing {
        let rsa = self.rsa.iter().filter(|record| record.properties.is_active);
        let rsa = rsa.filter_map(|record| record.key.as_ref().ok().cloned());
        let v2 = self.v2.iter().filter(|record| record.is_active);
        v2::add_to_ring(KeyRing::new(rsa), v2)
    }
}

/// Reads and checks the keys in the cluster. If they cannot be read, the step is skipped.
pub(super) fn check(
    (access, clusters): (&Access, &Clusters<'_>),
    location_flags: &str,
    served: Option<&Certificate>,
    findings: &mut Findings,
) -> StoredKeys {
    let stored = KeyStore::cluster(access, clusters).and_then(|store| StoredKeys::read(&store));
    let Ok(stored) = stored else {
        let why = format!("cannot read the Secrets in {}", access.namespace);
        findings.add(STEP, Finding::skipped(why));
        return StoredKeys::default();
    };
    let remedy = restore_step(location_flags);
    let _ = check_states(&stored, served, (&remedy, location_flags), findings);
    stored
}

/// Returns the remedy for a missing or unusable key. `location_flags` contains the flags that select the same keys in
/// another command.
pub(super) fn restore_step(location_flags: &str) -> String {
    format!(
        "restore a backup: seal keys restore BACKUP{location_flags}; a controller without a sealing key generates one when it \
         starts"
    )
}

/// Checks that each key is usable, that there is a sealing key, and that each key is backed up. `remedy` describes how
/// to get a key, and `location_flags` contains the flags that select the same keys in another command. Returns `None`
/// if there is no sealing key, or if the controller serves the certificate of another key.
pub(super) fn check_states(
    stored: &StoredKeys,
    served: Option<&Certificate>,
    (remedy, location_flags): (&str, &str),
    findings: &mut Findings,
) -> Option<()> {
    let records = &stored.rsa;
    check_v2(&stored.v2, remedy, findings);
    for record in records {
        if let Err(problem) = &record.key {
            let why = format!("{} cannot be used: {problem}", record.name());
            findings.add(STEP, Finding::remark(why, remedy));
        }
    }
    let states = record::states(records, served.map(Certificate::fingerprint));
    findings.add(STEP, sealing_key_finding(records, &states, served, remedy))?;
    let mut without_backup = keys_without_backup(records, &states);
    let v2 = stored.v2.iter();
    let v2 = v2.filter(|key| key.key.is_ok() && key.marks.backed_up.is_none());
    without_backup.extend(v2.map(V2KeyRecord::name));
    if without_backup.is_empty() {
        return Some(());
    }
    let why = format!("not backed up: {}", without_backup.join(", "));
    let backup = format!("back up the keys: seal keys backup ARCHIVE{location_flags}");
    findings.add(STEP, Finding::remark(why, backup))
}

/// Reports the keys that are only for v2, if there are any.
fn check_v2(records: &[V2KeyRecord], remedy: &str, findings: &mut Findings) {
    for record in records {
        if let Err(problem) = &record.key {
            let why = format!("{} cannot be used: {problem}", record.name());
            findings.add(V2_STEP, Finding::remark(why, remedy));
        }
    }
    let states = v2::states(records, None);
    let keys = || records.iter().zip(&states);
    let usable = keys().filter(|(key, _)| key.is_active && key.key.is_ok());
    let (usable, sealing) = (
        usable.count(),
        keys().filter(|(_, s)| **s == KeyState::Sealing),
    );
    let sealing = sealing.filter_map(|(key, _)| Some(format!("{} ({})", key.name(), key.suite()?)));
    let sealing: Vec<String> = sealing.collect();
    let seals = match sealing.as_slice() {
        [] => "none seals".to_owned(),
        [key] => format!("{key} seals"),
        keys => format!("{} may seal", keys.join(", ")),
    };
    if usable > 0 {
        findings.add(V2_STEP, Finding::good(format!("{usable} usable, {seals}")));
    }
}

fn sealing_key_finding(
    records: &[KeyRecord],
    states: &[KeyState],
    served: Option<&Certificate>,
    remedy: &str,
) -> Finding {
    let mut keys = records.iter().zip(states);
    let Some((sealing, _)) = keys.find(|(_, state)| **state == KeyState::Sealing) else {
        return Finding::bad("no sealing key", remedy);
    };
    if let Some(served) = served.filter(|c| Some(c.fingerprint()) != sealing.fingerprint()) {
        return Finding::bad(
            format!(
                "the controller serves the certificate {}, whose key is not among the key Secrets",
                served.fingerprint()
            ),
            "check that these key Secrets belong to this controller; if they do, restore the missing key from a \
             backup before the controller restarts and loses it",
        );
    }
    let usable = states.iter().filter(|s| {
        matches!(
            s,
            KeyState::Sealing | KeyState::Opening | KeyState::Waiting | KeyState::Compromised
        )
    });
    Finding::good(format!(
        "{} usable, {} seals",
        usable.count(),
        sealing.name()
    ))
}

fn keys_without_backup<'a>(records: &'a [KeyRecord], states: &[KeyState]) -> Vec<&'a str> {
    let keys = records.iter().zip(states);
    keys.filter(|(r, state)| **state != KeyState::Broken && r.properties.marks.backed_up.is_none())
        .map(|(record, _)| record.name())
        .collect()
}
