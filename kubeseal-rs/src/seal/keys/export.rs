//! `seal keys export`: prints the public keys for v2 values.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use kubeseal_library::cluster::{Clusters, Controller};
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::V2KeyRecord;
use kubeseal_library::recipients::{self, RecipientKey};
use shared::key_ring::RingV2Key;
use shared::v2::{Recipient as _, Suite};

use super::{access, info, location_flags, open_store};
use crate::failure::Failure;
use crate::seal::{Outcome, print};
use crate::seal_args::KeyLocation;

/// Arguments of `seal keys export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the key that the controller prefers for v2 values as a `seal2-recipient …` line, or its certificate if the key \
is RSA. Put the output in a file, check it with the administrator of the cluster, and list the file under `recipients` \
in .seal.yaml.\n\n\
Without a cluster, pass --directory. Then it is unknown whether the controller seals only with backed-up keys \
(--require-backup). So `seal keys list` shows the newest key of a suite and its newest backed-up key as `sealing`, \
`seal keys retire` keeps both keys, and this command prints the backed-up key or, if no key is backed up, the newest \
key.\n\n\
Both forms of the identifier in a `seal2-recipient` line are printed on stderr.

Examples:
  seal keys export --directory v2-state
  seal keys export --directory v2-state --comment 'production cluster'")]
pub struct KeysExport {
    /// Comment at the end of each line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub comment: String,
    /// The cluster or directory with the keys.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Prints the public keys that may seal v2 values now.
///
/// # Errors
///
/// Fails if the keys cannot be read, or none may seal now.
pub fn run(args: &KeysExport, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let keys = if args.location.directory.is_some() {
        in_directory(args, &clusters)?
    } else {
        vec![in_cluster(args, &clusters)?]
    };
    keys.iter().for_each(print_id);
    let lines: Vec<String> = keys
        .into_iter()
        .map(|key| line(key, &args.comment))
        .collect();
    print(lines.concat().as_bytes())
}

fn in_cluster(args: &KeysExport, clusters: &Clusters<'_>) -> Result<RecipientKey> {
    let access = access(&args.location, clusters.environment);
    let list = Controller::find(&access, clusters)?.recipients()?;
    Ok(recipients::from_list(&list, clusters.environment.now)?)
}

fn in_directory(args: &KeysExport, clusters: &Clusters<'_>) -> Result<Vec<RecipientKey>> {
    let store = open_store(&args.location, clusters)?;
    let records = store.read_v2()?;
    for record in &records {
        if let Err(problem) = &record.key {
            info(&format!("{} is broken: {problem}", record.name()));
        }
    }
    let keys = sealing_keys(&records, clusters.environment.now);
    if keys.is_empty() {
        bail!(
            Failure::new(format!("no v2 key that may seal now in {}", store.location())).hint(
                "start the controller with --sealing-suite=xw, so that it generates a v2 key; for an RSA key, list \
                 its certificate instead"
            )
        );
    }
    for (suite, key) in &keys {
        if let Some(newer) = newer_key(&records, key, clusters.environment.now) {
            info(&format!(
                "{} is the newest key of the suite {suite}, but has no backup, so {} is printed: a controller with \
                 --require-backup seals with {} until {} is backed up\n\
                 hint: run `seal keys backup ARCHIVE{}`, and export again",
                newer.name(),
                key.name(),
                key.name(),
                newer.name(),
                location_flags(&args.location)
            ));
        }
    }
    let line = |key: &RingV2Key| RecipientKey::Line(key.recipient().clone().into());
    Ok(keys.values().map(|key| line(key)).collect())
}

/// Returns the newest key of the same suite that may seal now, if it is newer than `key`.
fn newer_key<'a>(
    records: &'a [V2KeyRecord],
    key: &RingV2Key,
    now: Timestamp,
) -> Option<&'a RingV2Key> {
    let same_suite = may_seal(records, now).filter(|other| other.suite() == key.suite());
    let newest = same_suite.max_by_key(|key| key.validity().0)?;
    (newest.validity().0 > key.validity().0).then_some(newest)
}

/// Returns the sealing key of each suite: the newest valid key that has a backup or, if none has a backup, the newest
/// valid key. A controller with --require-backup seals only with keys that have a backup, and it is unknown whether the
/// controller has this flag.
fn sealing_keys(records: &[V2KeyRecord], now: Timestamp) -> BTreeMap<Suite, &RingV2Key> {
    let mut keys: Vec<&RingV2Key> = may_seal(records, now).collect();
    keys.sort_by_key(|key| (key.marks().backed_up.is_some(), key.validity().0));
    keys.into_iter().map(|key| (key.suite(), key)).collect()
}

/// Returns the usable keys that are valid at this time, are not retired, and have no mark that forbids sealing.
fn may_seal(records: &[V2KeyRecord], now: Timestamp) -> impl Iterator<Item = &RingV2Key> {
    let loaded = records.iter().filter(|record| record.is_active);
    let keys = loaded.filter_map(|record| record.key.as_deref().ok());
    keys.filter(move |key| key.is_valid(now) && !key.marks().is_sealing_forbidden())
}

/// Prints both forms of the identifier of a v2 key, because the short form in the line is not a prefix of the full
/// form: the last character can differ.
fn print_id(key: &RecipientKey) {
    if let RecipientKey::Line(line) = key {
        let (suite, id) = (line.suite(), line.key_id());
        info(&format!("{suite} {}, in full {id}", id.short()));
    }
}

fn line(key: RecipientKey, comment: &str) -> String {
    match key {
        RecipientKey::Certificate(certificate) => certificate.to_pem(),
        RecipientKey::Line(mut line) => {
            comment.clone_into(&mut line.comment);
            format!("{line}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::key_marks::backed_up_text;
    use shared::resource::{BACKED_UP_ANNOTATION, COMPROMISED_ANNOTATION};
    use shared::v2::SecretKey;
    use shared::v2::key_secret::{self, StoredKey};

    use super::*;

    /// Returns the record of a key that is generated from `byte`. The key is valid from the Unix time `byte` to
    /// `until`.
    fn record(byte: u8, until: i64, is_backed_up: bool, mark: Option<&str>) -> V2KeyRecord {
        let stored = StoredKey {
            key: SecretKey::from_bytes(Suite::XWing, &[byte; 32]).unwrap(),
            not_before: Timestamp::from_second(byte.into()).unwrap(),
            not_after: Timestamp::from_second(until).unwrap(),
        };
        let backup = backed_up_text(&stored.key.recipient().key_id(), Timestamp::UNIX_EPOCH);
        let backup = is_backed_up.then(|| (BACKED_UP_ANNOTATION.to_owned(), backup));
        let mark = mark.map(|mark| (mark.to_owned(), "true".to_owned()));
        let annotations = backup.into_iter().chain(mark).collect();
        let name = format!("key-{byte}");
        let secret = key_secret::build(&name, "ops", &stored, [].into(), annotations);
        V2KeyRecord::new(secret, None)
    }

    /// Attack: values are sealed for a key that is lost with its disk, since there is no backup, or that was stolen.
    #[test]
    fn prints_only_keys_that_may_seal() {
        let now = Timestamp::from_second(50).unwrap();
        let stolen = Some(COMPROMISED_ANNOTATION);
        for (why, records, want) in [
            (
                "the newest key has no backup",
                vec![(1, 99, true, None), (2, 99, false, None)],
                Some("key-1"),
            ),
            (
                "no key has a backup",
                vec![(1, 99, false, None), (2, 99, false, None)],
                Some("key-2"),
            ),
            (
                "expired",
                vec![(1, 99, true, None), (2, 49, true, None)],
                Some("key-1"),
            ),
            (
                "not valid yet",
                vec![(1, 99, true, None), (51, 99, true, None)],
                Some("key-1"),
            ),
            (
                "compromised",
                vec![(1, 99, false, None), (2, 99, true, stolen)],
                Some("key-1"),
            ),
            ("no key may seal", vec![(2, 99, true, stolen)], None),
        ] {
            let records = records.into_iter();
            let records =
                records.map(|(byte, until, backup, mark)| record(byte, until, backup, mark));
            let records: Vec<V2KeyRecord> = records.collect();
            let keys = sealing_keys(&records, now);
            let key = keys.get(&Suite::XWing);
            assert_eq!(key.map(|key| key.name()), want, "{why}");
            let newer = key.and_then(|key| newer_key(&records, key, now));
            let want = (why == "the newest key has no backup").then_some("key-2");
            assert_eq!(newer.map(RingV2Key::name), want, "{why}");
        }
    }
}
