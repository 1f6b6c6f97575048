//! `seal keys rotate`: requests a new key from the controller with an annotation, and waits for it.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use kubeseal_library::certificate;
use kubeseal_library::cluster::{Clusters, Controller};
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::store::Change;
use kubeseal_library::keys::{KeyRecord, KeyStore};
use shared::key::Fingerprint;
use shared::resource::RENEW_ANNOTATION;

use super::{access, fetch_step, fingerprint_of, info, location_flags, rotate_step, step, store};
use crate::failure::Failure;
use crate::report;
use crate::seal::{Outcome, print};
use crate::seal_args::KeyLocation;

/// Arguments of `seal keys rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal keys rotate\n  seal keys rotate --timeout 300")]
pub struct KeysRotate {
    /// Seconds to wait for the new certificate
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,
    /// URL where a controller on a directory serves its certificate
    #[arg(long, value_name = "URL", requires = "directory")]
    pub cert: Option<String>,
    /// The cluster or directory with the keys.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// The time between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// If the certificate of a new key is not served after this time, the key is assumed to wait for its backup.
const SERVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
///
/// Fails if there is no key to annotate, or no new certificate is served within the time limit.
pub fn run(args: &KeysRotate, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = store(&args.location, &clusters)?;
    let records = store.read()?;
    let Some(newest) = newest_key(&records, &BTreeSet::new()) else {
        bail!(
            Failure::new(format!("no key found in {}", store.location()))
                .hint("start the controller, which generates its first key")
        );
    };
    request_key(&store, newest)?;
    let existing = fingerprints(&records);
    let (name, fingerprint) = wait(args, &clusters, &store, &existing)?;
    report::info(if can_fetch_certificate(args) {
        "the new key seals from now on; older keys can still unseal. Next:"
    } else {
        "the new key exists and seals from now on (with --require-backup, once it is backed up); older keys can still \
         unseal. Next:"
    });
    for line in next_steps(args, &store.read()?) {
        info(&line);
    }
    print(format!("{} {fingerprint}\n", report::shown(&name)).as_bytes())
}

fn next_steps(args: &KeysRotate, records: &[KeyRecord]) -> [String; 4] {
    let (location, location_flags) = (&args.location, location_flags(&args.location));
    [
        step(
            &format!("seal keys backup ARCHIVE{location_flags}"),
            "backs it up",
        ),
        step(
            &fetch_step(location, args.cert.as_deref()),
            "fetches its certificate, for files and rules that name a certificate",
        ),
        step(&rotate_step(location, records), "re-encrypts files for it"),
        step(
            &format!("seal keys retire KEY PATH{location_flags}"),
            "retires an older key when nothing needs it",
        ),
    ]
}

/// Requests a new key. An earlier request is not repeated, since the controller handles each only
/// once.
fn request_key(store: &KeyStore, newest: &KeyRecord) -> Result<()> {
    let annotations = newest.secret.metadata.annotations.as_ref();
    let request = annotations.and_then(|a| a.get(RENEW_ANNOTATION));
    if request.is_some_and(|value| value == "true") {
        info(&format!(
            "a new key was already requested (annotation on {})",
            newest.name()
        ));
        return Ok(());
    }
    store.change(
        newest,
        &Change::annotation(RENEW_ANNOTATION, "true".to_owned()),
    )
}

fn wait(
    args: &KeysRotate,
    clusters: &Clusters<'_>,
    store: &KeyStore,
    existing: &BTreeSet<Fingerprint>,
) -> Result<(String, Fingerprint)> {
    let location_flags = location_flags(&args.location);
    let start = Instant::now();
    let mut new_key: Option<(Instant, String)> = None;
    let mut served = None;
    while start.elapsed() < args.timeout {
        let records = store.read()?;
        if let Some((record, fingerprint)) =
            newest_key(&records, existing).and_then(|r| Some((r, r.fingerprint()?.clone())))
        {
            let name = record.name().to_owned();
            served = served_key(args, clusters, &fingerprint);
            if served.as_ref() == Some(&fingerprint) {
                return Ok((name, fingerprint));
            }
            let (since, _) = new_key.get_or_insert((Instant::now(), name.clone()));
            if since.elapsed() > SERVE_TIMEOUT && record.facts.marks.backed_up.is_none() {
                let foreign = foreign_key(served, &records);
                bail!(unserved(&name, None, (false, foreign), &location_flags));
            }
        }
        sleep(POLL_INTERVAL);
    }
    let seconds = args.timeout.as_secs();
    let Some((_, name)) = new_key else {
        let message = format!("no new key appeared within {seconds} s; the request stays pending");
        bail!(Failure::new(message).hint(format!(
            "check that a controller runs in {} and may create Secrets: `seal doctor{location_flags}` finds the reason",
            store.location()
        )))
    };
    let records = store.read()?;
    let record = records.iter().find(|record| record.name() == name);
    let is_backed_up = record.is_some_and(|r| r.facts.marks.backed_up.is_some());
    let reasons = (is_backed_up, foreign_key(served, &records));
    bail!(unserved(&name, Some(seconds), reasons, &location_flags))
}

/// Returns the served key if none of these Secrets contains it.
fn foreign_key(served: Option<Fingerprint>, records: &[KeyRecord]) -> Option<Fingerprint> {
    served.filter(|served| {
        records
            .iter()
            .all(|record| record.fingerprint() != Some(served))
    })
}

/// Explains why a new key might not be served yet, and what to do: whether it is backed up, and the served key if it
/// is unknown.
fn unserved(
    name: &str,
    seconds: Option<u64>,
    (is_backed_up, foreign): (bool, Option<Fingerprint>),
    location_flags: &str,
) -> Failure {
    let within = seconds.map_or_else(String::new, |seconds| format!(" within {seconds} s"));
    let failure = Failure::new(format!(
        "the new key {name} exists, but the controller does not serve its certificate{within}"
    ));
    if let Some(foreign) = foreign {
        return failure.hint(format!(
            "the served certificate is for {foreign}, which is in no key Secret: check which server answers with \
             `seal doctor{location_flags}`"
        ));
    }
    failure.hint(if is_backed_up {
        format!("`seal doctor{location_flags}` finds the reason")
    } else {
        format!(
            "with --require-backup a key seals only after it is backed up, and this one has no backup: run \
             `seal keys backup ARCHIVE{location_flags}`"
        )
    })
}

/// Returns whether the controller's certificate can be fetched. For a controller on a directory, that
/// needs its address.
fn can_fetch_certificate(args: &KeysRotate) -> bool {
    args.location.directory.is_none() || args.cert.is_some()
}

/// Returns the key whose certificate the controller serves. If it cannot be fetched, the existence of the new key is
/// enough.
fn served_key(
    args: &KeysRotate,
    clusters: &Clusters<'_>,
    new: &Fingerprint,
) -> Option<Fingerprint> {
    if !can_fetch_certificate(args) {
        return Some(new.clone());
    }
    let pem = match (&args.location.directory, &args.cert) {
        (Some(_), None) => None,
        (Some(_), Some(url)) => certificate::read(url.as_ref()).ok(),
        (None, _) => Controller::find(&access(&args.location, clusters.environment), clusters)
            .and_then(|controller| controller.certificate())
            .ok(),
    };
    pem.and_then(|pem| fingerprint_of(&pem))
}

/// Returns the newest key in use that is not in `existing`. Opening-only keys do not count,
/// since the controller ignores requests on them.
fn newest_key<'a>(
    records: &'a [KeyRecord],
    existing: &BTreeSet<Fingerprint>,
) -> Option<&'a KeyRecord> {
    let is_new = |record: &&KeyRecord| {
        let is_counted = record.facts.is_active && !record.facts.marks.is_opening_only;
        is_counted
            && record
                .fingerprint()
                .is_some_and(|key| !existing.contains(key))
    };
    let candidates = records.iter().filter(is_new);
    candidates.max_by_key(|record| record.facts.order_time)
}

fn fingerprints(records: &[KeyRecord]) -> BTreeSet<Fingerprint> {
    let fingerprints = records.iter().filter_map(|record| record.fingerprint());
    fingerprints.cloned().collect()
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text
        .parse()
        .map_err(|_| "expected a whole number of seconds".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_waits_for_its_backup_is_reported_regardless_of_the_wait() {
        for seconds in [None, Some(5), Some(60)] {
            let message = unserved("key-2", seconds, (false, None), " --context prod").to_string();
            for part in [
                "key-2",
                "no backup",
                "seal keys backup ARCHIVE --context prod",
            ] {
                assert!(message.contains(part), "{message}");
            }
            assert!(
                !unserved("key-2", seconds, (true, None), "")
                    .to_string()
                    .contains("no backup")
            );
        }
    }

    /// Attack: a man in the middle serves its own certificate while the user waits for that of the new key.
    #[test]
    fn a_certificate_of_an_unknown_key_is_named() {
        let foreign: Fingerprint = format!("SHA256:{}", "a".repeat(42) + "A").parse().unwrap();
        let message = unserved("key-2", None, (false, Some(foreign.clone())), "").to_string();
        assert!(message.contains(&foreign.to_string()), "{message}");
        assert!(!message.contains("no backup"), "{message}");
        assert_eq!(foreign_key(Some(foreign.clone()), &[]), Some(foreign));
    }
}
