//! Checks the key Secrets, if the user may read them.

use kubeseal_library::cluster::{Access, Clusters};
use kubeseal_library::keys::{KeyRecord, KeyStore, record};
use shared::key::Certificate;
use shared::key_marks::KeyState;

use super::findings::{Findings, Found};

const NAME: &str = "keys";

/// Reads and checks the keys of the cluster. Without permission to read them, the step is skipped and the other steps
/// still run.
pub(super) fn check(
    (access, clusters): (&Access, &Clusters<'_>),
    again: &str,
    served: Option<&Certificate>,
    findings: &mut Findings,
) -> Vec<KeyRecord> {
    let Ok(records) = KeyStore::cluster(access, clusters).and_then(|store| store.read()) else {
        let why = format!("cannot read the Secrets in {}", access.namespace);
        findings.add(NAME, Found::skipped(why));
        return Vec::new();
    };
    let remedy = format!(
        "restore a backup: seal keys restore BACKUP{again}; a controller without a sealing key generates one when it \
         starts"
    );
    let _ = check_states(&records, served, (&remedy, again), findings);
    records
}

/// Checks that each key is usable, that a key seals, and that each key is backed up. `remedy` describes how to get
/// a key, and
/// `again` contains the flags that select the same keys in another command.
pub(super) fn check_states(
    records: &[KeyRecord],
    served: Option<&Certificate>,
    (remedy, again): (&str, &str),
    findings: &mut Findings,
) -> Option<()> {
    for record in records {
        if let Err(problem) = &record.key {
            let why = format!("{} cannot be used: {problem}", record.name());
            findings.add(NAME, Found::remark(why, remedy));
        }
    }
    let states = record::states(records, served.map(Certificate::fingerprint));
    findings.add(NAME, use_of(records, &states, served, remedy))?;
    let unsaved = unsaved(records, &states);
    if unsaved.is_empty() {
        return Some(());
    }
    let why = format!("not backed up: {}", unsaved.join(", "));
    let backup = format!("seal keys backup ARCHIVE{again}");
    findings.add(NAME, Found::remark(why, backup))
}

fn use_of(
    records: &[KeyRecord],
    states: &[KeyState],
    served: Option<&Certificate>,
    remedy: &str,
) -> Found {
    let mut each = records.iter().zip(states);
    let Some((sealing, _)) = each.find(|(_, state)| **state == KeyState::Sealing) else {
        return Found::bad("no sealing key", remedy);
    };
    if let Some(served) = served.filter(|c| Some(c.fingerprint()) != sealing.fingerprint()) {
        return Found::bad(
            format!(
                "the controller serves the certificate {}, whose key is not among the key Secrets",
                served.fingerprint()
            ),
            "check whether this is the controller of these keys; if it is, it loses the key at its next restart: \
             restore a backup",
        );
    }
    let open = states.iter().filter(|s| {
        matches!(
            s,
            KeyState::Sealing | KeyState::Opening | KeyState::Waiting | KeyState::Compromised
        )
    });
    Found::good(format!("{} usable, {} seals", open.count(), sealing.name()))
}

fn unsaved<'a>(records: &'a [KeyRecord], states: &[KeyState]) -> Vec<&'a str> {
    let each = records.iter().zip(states);
    each.filter(|(r, state)| **state != KeyState::Broken && r.facts.marks.backed_up.is_none())
        .map(|(record, _)| record.name())
        .collect()
}
