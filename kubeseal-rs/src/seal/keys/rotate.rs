//! `seal keys rotate`: requests new keys from the controller with annotations, and waits for them.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use kubeseal_library::certificate;
use kubeseal_library::cluster::{Clusters, Controller};
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::store::Change;
use kubeseal_library::keys::{KeyRecord, KeyStore, V2KeyRecord};
use shared::key::Fingerprint;
use shared::resource::RENEW_ANNOTATION;
use shared::secret::Secret;
use shared::v2::Suite;

use super::served::fingerprint_of;
use super::{
    access, export_step, fetch_step, info, location_flags, open_store, rotate_step,
    rotate_to_v2_step, step,
};
use crate::failure::Failure;
use crate::report;
use crate::seal::{Outcome, print};
use crate::seal_args::KeyLocation;

/// Arguments of `seal keys rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Requests a new key of each suite that the controller keeps: RSA, and the suite of --sealing-suite. With --directory, or
if the controller lists no key, requests a key of each suite that has a key.

Examples:
  seal keys rotate
  seal keys rotate --suite xw
  seal keys rotate --timeout 300")]
pub struct KeysRotate {
    /// Request a new key of this suite only: rsa, xw or p256
    #[arg(long, value_name = "SUITE")]
    pub suite: Option<Suite>,
    /// Seconds to wait for the new keys
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
/// If a new key without a backup is not served after this time, the controller is assumed to wait for the backup of
/// the key.
const SERVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The keys of a store.
struct Keys {
    rsa: Vec<KeyRecord>,
    v2: Vec<V2KeyRecord>,
}

/// A usable key that the controller loads, and that is not opening-only: the controller ignores requests on
/// opening-only keys.
struct OwnKey<'a> {
    suite: Suite,
    name: &'a str,
    /// The fingerprint of an RSA key, or the identifier of a v2 key.
    id: String,
    order_time: Option<Timestamp>,
    is_backed_up: bool,
    secret: &'a Secret,
    file: Option<&'a Path>,
}

impl Keys {
    fn read(store: &KeyStore) -> Result<Self> {
        let (rsa, v2) = (store.read()?, store.read_v2()?);
        Ok(Self { rsa, v2 })
    }

    fn own(&self) -> impl Iterator<Item = OwnKey<'_>> {
        let rsa = self.rsa.iter().filter_map(OwnKey::from_rsa);
        rsa.chain(self.v2.iter().filter_map(OwnKey::from_v2))
    }

    /// Returns the newest key of a suite, without the keys in `except`. The controller looks for a request on the
    /// Secret of the newest key.
    fn newest(&self, suite: Suite, except: &BTreeSet<String>) -> Option<OwnKey<'_>> {
        let keys = self.own().filter(|key| key.suite == suite);
        let keys = keys.filter(|key| !except.contains(&key.id));
        keys.max_by_key(|key| key.order_time)
    }

    fn contains(&self, id: &str) -> bool {
        let rsa = self.rsa.iter().filter_map(KeyRecord::fingerprint);
        let v2 = self.v2.iter().filter_map(V2KeyRecord::key_id);
        let mut ids = rsa
            .map(ToString::to_string)
            .chain(v2.map(|id| id.to_string()));
        ids.any(|existing| existing == id)
    }
}

impl<'a> OwnKey<'a> {
    fn from_rsa(record: &'a KeyRecord) -> Option<Self> {
        let is_own = record.properties.is_active && !record.properties.marks.is_opening_only;
        let id = record.fingerprint().filter(|_| is_own)?.to_string();
        Some(Self {
            suite: Suite::Rsa,
            name: record.name(),
            id,
            order_time: Some(record.properties.order_time),
            is_backed_up: record.properties.marks.backed_up.is_some(),
            secret: &record.secret,
            file: record.file.as_deref(),
        })
    }

    fn from_v2(record: &'a V2KeyRecord) -> Option<Self> {
        let is_own = record.is_active && !record.marks.is_opening_only;
        let key = record.key.as_ref().ok().filter(|_| is_own)?;
        Some(Self {
            suite: key.suite(),
            name: record.name(),
            id: key.key_id().to_string(),
            order_time: record.not_before(),
            is_backed_up: record.marks.backed_up.is_some(),
            secret: &record.secret,
            file: record.file.as_deref(),
        })
    }
}

/// Requests new keys from the controller with annotations, and waits for them.
///
/// # Errors
///
/// Fails if there is no key to annotate, or a new key is not served within the time limit.
pub fn run(args: &KeysRotate, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = open_store(&args.location, &clusters)?;
    let keys = Keys::read(&store)?;
    let preferred = preferred_suite(args, &clusters);
    let suites = requested_suites(&keys, args.suite, preferred, &store.location())?;
    let requested = suites.clone();
    for suite in &suites {
        request_key(&store, &keys, *suite)?;
    }
    let existing: BTreeSet<String> = keys.own().map(|key| key.id).collect();
    let start = Instant::now();
    let mut failure = Ok(Outcome::Done);
    for suite in suites.into_iter().rev() {
        match wait(args, &clusters, &store, (suite, start), &existing) {
            Ok(line) => drop(print(line.as_bytes())?),
            Err(error) => failure = failure.and(Err(error)),
        }
    }
    failure?;
    report::info(if can_fetch_certificate(args) {
        "the controller now seals with the new keys; older keys can still unseal. Next:"
    } else {
        "the new keys exist, and the controller seals with them (with --require-backup, once they are backed up); older \
         keys can still unseal. Next:"
    });
    for line in next_steps(args, &requested, &Keys::read(&store)?) {
        info(&line);
    }
    Ok(Outcome::Done)
}

/// Returns the suite of the first key that the controller lists; `None` if it is not known, as for a directory.
fn preferred_suite(args: &KeysRotate, clusters: &Clusters<'_>) -> Option<Suite> {
    let ids = listed_recipients(args, clusters)?;
    ids.first()?.0
}

/// Returns the suites to request a key of. A controller ignores requests for suites that it does not keep.
fn requested_suites(
    keys: &Keys,
    only: Option<Suite>,
    preferred: Option<Suite>,
    location: &str,
) -> Result<BTreeSet<Suite>> {
    let is_wanted = |suite: &Suite| match (only, preferred) {
        (Some(only), _) => *suite == only,
        (None, Some(preferred)) => [Suite::Rsa, preferred].contains(suite),
        (None, None) => true,
    };
    let suites = keys.own().map(|key| key.suite).filter(is_wanted);
    let suites: BTreeSet<Suite> = suites.collect();
    if suites.is_empty() {
        let suite_text = only.map_or_else(String::new, |suite| format!(" of the suite {suite}"));
        let flag = match only {
            Some(suite) if suite != Suite::Rsa => format!(" with --sealing-suite={suite}"),
            _ => String::new(),
        };
        bail!(
            Failure::new(format!("no key{suite_text} found in {location}")).hint(format!(
                "start the controller{flag}, so that it generates its first key"
            ))
        );
    }
    Ok(suites)
}

/// Returns the next steps for keys of these suites.
fn next_steps(args: &KeysRotate, suites: &BTreeSet<Suite>, keys: &Keys) -> Vec<String> {
    let (location, location_flags) = (&args.location, location_flags(&args.location));
    let mut steps = vec![step(
        &format!("seal keys backup ARCHIVE{location_flags}"),
        "backs up the new keys",
    )];
    if suites.contains(&Suite::Rsa) {
        steps.extend([
            step(
                &fetch_step(location, args.cert.as_deref()),
                "fetches the certificate of the new key, for files and rules that name a certificate",
            ),
            step(
                &rotate_step(location, &keys.rsa),
                "re-encrypts files for the new key",
            ),
        ]);
    }
    if suites.iter().any(|suite| *suite != Suite::Rsa) {
        steps.extend([
            step(
                &export_step(location),
                "prints the new public key, for the `recipients` of rules",
            ),
            step(
                &rotate_to_v2_step(location, &keys.rsa, &keys.v2),
                "re-encrypts files with v2 values for the new key; add --recipient for each other recipient of their \
                 rules",
            ),
        ]);
    }
    steps.push(step(
        &format!("seal keys retire KEY PATH{location_flags}"),
        "retires an older key when nothing needs it",
    ));
    steps
}

/// Requests a new key of a suite, unless a request is pending or the store has no key of the suite.
fn request_key(store: &KeyStore, keys: &Keys, suite: Suite) -> Result<()> {
    let Some(newest) = keys.newest(suite, &BTreeSet::new()) else {
        return Ok(());
    };
    let annotations = newest.secret.metadata.annotations.as_ref();
    let request = annotations.and_then(|a| a.get(RENEW_ANNOTATION));
    if request.is_some_and(|value| value == "true") {
        let name = newest.name;
        info(&format!(
            "a new key was already requested (annotation on {name})"
        ));
        return Ok(());
    }
    let change = Change::annotation(RENEW_ANNOTATION, "true".to_owned());
    store.change_secret(newest.secret, newest.file, &change)
}

/// Waits until a new key of a suite is served. Returns a line with its name and its fingerprint or identifier.
fn wait(
    args: &KeysRotate,
    clusters: &Clusters<'_>,
    store: &KeyStore,
    (suite, start): (Suite, Instant),
    existing: &BTreeSet<String>,
) -> Result<String> {
    let location_flags = location_flags(&args.location);
    let mut first_seen: Option<Instant> = None;
    let mut last = None;
    loop {
        let keys = Keys::read(store)?;
        if let Some(key) = keys.newest(suite, existing) {
            let served = served_keys(args, clusters, &key);
            if served.contains(&key.id) {
                return Ok(format!("{} {}\n", report::shown(key.name), key.id));
            }
            let reasons = (key.is_backed_up, unknown_served_key(served, &keys));
            let since = first_seen.get_or_insert_with(Instant::now);
            if since.elapsed() > SERVE_TIMEOUT && !key.is_backed_up {
                bail!(unserved(key.name, None, reasons, &location_flags));
            }
            last = Some((key.name.to_owned(), reasons));
        }
        if start.elapsed() >= args.timeout {
            break;
        }
        sleep(POLL_INTERVAL);
    }
    let seconds = args.timeout.as_secs();
    match last {
        Some((name, reasons)) => bail!(unserved(&name, Some(seconds), reasons, &location_flags)),
        None => bail!(not_generated(
            suite,
            seconds,
            &store.location(),
            &location_flags
        )),
    }
}

fn not_generated(suite: Suite, seconds: u64, location: &str, location_flags: &str) -> Failure {
    let check = format!(
        "check that a controller is running in {location} and may create Secrets: `seal doctor{location_flags}` \
         finds the reason"
    );
    if suite == Suite::Rsa {
        let message = format!("no new key appeared within {seconds} s; the request stays pending");
        return Failure::new(message).hint(check);
    }
    let message = format!(
        "no new key of the suite {suite} appeared within {seconds} s; the request stays pending"
    );
    Failure::new(message).hint(format!(
        "only a controller with --sealing-suite={suite} generates a key of this suite; to request a key of another suite \
         only, pass --suite; otherwise, {check}"
    ))
}

/// Returns the first served key, if no key Secret contains it.
fn unknown_served_key(served: Vec<String>, keys: &Keys) -> Option<String> {
    let first = served.into_iter().next();
    first.filter(|served| !keys.contains(served))
}

/// Returns the error for a new key that is not served, with the likely reason. The arguments include whether the key
/// is backed up, and the served key if no key Secret contains it.
fn unserved(
    name: &str,
    seconds: Option<u64>,
    (is_backed_up, unknown_key): (bool, Option<String>),
    location_flags: &str,
) -> Failure {
    let within = seconds.map_or_else(String::new, |seconds| format!(" within {seconds} s"));
    let failure = Failure::new(format!(
        "the new key {name} exists, but the controller does not serve it{within}"
    ));
    if let Some(unknown_key) = unknown_key {
        return failure.hint(format!(
            "the served key is {unknown_key}, which is in no key Secret: check which server responds with \
             `seal doctor{location_flags}`"
        ));
    }
    failure.hint(if is_backed_up {
        format!("find the reason with `seal doctor{location_flags}`")
    } else {
        format!(
            "with --require-backup a key seals only after it is backed up, and this key has no backup: run \
             `seal keys backup ARCHIVE{location_flags}`"
        )
    })
}

/// Returns whether the controller's certificate can be fetched. For a controller on a directory, this requires
/// `--cert`.
fn can_fetch_certificate(args: &KeysRotate) -> bool {
    args.location.directory.is_none() || args.cert.is_some()
}

/// Returns the served keys of the new key's suite. For a controller on a directory, a new v2 key counts as served as
/// soon as it exists. A new RSA key does so only if the controller's certificate cannot be fetched.
fn served_keys(args: &KeysRotate, clusters: &Clusters<'_>, new: &OwnKey<'_>) -> Vec<String> {
    let is_rsa = new.suite == Suite::Rsa;
    match &args.location.directory {
        None if is_rsa => served_certificate(args, clusters),
        None => {
            let listed = listed_recipients(args, clusters).unwrap_or_default();
            let listed = listed.into_iter();
            let suite_keys = listed.filter(|(suite, _)| *suite == Some(new.suite));
            suite_keys.map(|(_, id)| id).collect()
        }
        Some(_) if is_rsa && can_fetch_certificate(args) => served_certificate(args, clusters),
        Some(_) => vec![new.id.clone()],
    }
}

fn served_certificate(args: &KeysRotate, clusters: &Clusters<'_>) -> Vec<String> {
    let pem = match &args.cert {
        Some(url) => certificate::read(url.as_ref()).ok(),
        None => Controller::find(&access(&args.location, clusters.environment), clusters)
            .and_then(|controller| controller.certificate())
            .ok(),
    };
    let served: Option<Fingerprint> = pem.and_then(|pem| fingerprint_of(&pem));
    served.iter().map(ToString::to_string).collect()
}

/// Returns the suites and identifiers of the keys for v2 that the controller lists, the preferred key first; `None` for
/// a directory, or if the controller cannot be asked.
fn listed_recipients(
    args: &KeysRotate,
    clusters: &Clusters<'_>,
) -> Option<Vec<(Option<Suite>, String)>> {
    if args.location.directory.is_some() {
        return None;
    }
    let access = access(&args.location, clusters.environment);
    let list = Controller::find(&access, clusters)
        .and_then(|controller| controller.recipients())
        .ok()?;
    let keys = list.recipients.into_iter();
    Some(
        keys.map(|key| (key.suite.parse().ok(), key.key_id))
            .collect(),
    )
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text
        .parse()
        .map_err(|_| "expected a whole number of seconds".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use shared::resource::COMPROMISED_ANNOTATION;
    use shared::v2::SecretKey;
    use shared::v2::key_secret::{self, StoredKey};

    use super::*;

    fn write_key(directory: &Path, suite: Suite, byte: u8, marks: &[&str]) {
        let stored = StoredKey {
            key: SecretKey::from_bytes(suite, &[byte; 32]).unwrap(),
            not_before: Timestamp::from_second(byte.into()).unwrap(),
            not_after: Timestamp::MAX,
        };
        let name = format!("key-{byte}");
        let marks = marks.iter().map(|mark| ((*mark).to_owned(), "true".into()));
        let secret = key_secret::build(&name, "ops", &stored, [].into(), marks.collect());
        let file = directory.join(format!("{name}.json"));
        std::fs::write(file, secret.to_document().to_string()).unwrap();
    }

    /// Attack: the only key of a suite is stolen. A request on the RSA key would leave the suite without a key that
    /// seals.
    #[test]
    fn requests_a_key_of_each_suite_even_if_all_keys_are_compromised() {
        let directory = tempfile::tempdir().unwrap();
        write_key(directory.path(), Suite::XWing, 1, &[COMPROMISED_ANNOTATION]);
        write_key(directory.path(), Suite::XWing, 2, &[COMPROMISED_ANNOTATION]);
        write_key(directory.path(), Suite::P256, 3, &[]);
        let store = KeyStore::directory(directory.path()).unwrap();
        let keys = Keys::read(&store).unwrap();
        let suites =
            |only, preferred| requested_suites(&keys, only, preferred, "here").map(Vec::from_iter);
        let xw = Some(Suite::XWing);
        assert_eq!(suites(None, None).unwrap(), [Suite::XWing, Suite::P256]);
        assert_eq!(suites(None, xw).unwrap(), [Suite::XWing]);
        assert_eq!(suites(Some(Suite::P256), xw).unwrap(), [Suite::P256]);
        let error = suites(Some(Suite::Rsa), None).unwrap_err().to_string();
        assert!(error.contains("of the suite rsa found in here"), "{error}");

        request_key(&store, &keys, Suite::XWing).unwrap();
        let requested = store.read_v2().unwrap().into_iter().filter(|record| {
            let annotations = record.secret.metadata.annotations.as_ref();
            annotations.is_some_and(|all| all.contains_key(RENEW_ANNOTATION))
        });
        let requested: Vec<String> = requested.map(|key| key.name().to_owned()).collect();
        assert_eq!(requested, ["key-2"]);
    }

    /// Fault: the printed steps name only RSA keys, with which v2 values cannot be re-encrypted.
    #[test]
    fn the_next_steps_name_the_keys_of_each_suite() {
        let directory = tempfile::tempdir().unwrap();
        write_key(directory.path(), Suite::XWing, 1, &[]);
        let store = KeyStore::directory(directory.path()).unwrap();
        let args = KeysRotate {
            suite: None,
            timeout: Duration::ZERO,
            cert: None,
            location: KeyLocation {
                directory: Some(directory.path().to_owned()),
                ..KeyLocation::default()
            },
        };
        let steps = |suites: &[Suite]| {
            let suites = suites.iter().copied().collect();
            next_steps(&args, &suites, &Keys::read(&store).unwrap()).join("\n")
        };
        let v2 = steps(&[Suite::XWing]);
        for want in [
            "seal keys export --directory",
            "seal rotate --to v2 PATH --recipient",
            "/key-1.json",
        ] {
            assert!(v2.contains(want), "{v2}");
        }
        assert!(!v2.contains("--cert"), "{v2}");
        let rsa = steps(&[Suite::Rsa]);
        assert!(rsa.contains("--cert") && !rsa.contains("--to v2"), "{rsa}");
        let both = steps(&[Suite::Rsa, Suite::XWing]);
        assert!(
            both.contains("--cert") && both.contains("--to v2"),
            "{both}"
        );
    }

    #[test]
    fn the_error_names_a_suite_that_no_controller_keeps() {
        let message = not_generated(Suite::P256, 9, "here", "").to_string();
        for part in ["suite p256", "--sealing-suite=p256", "--suite"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_key_that_waits_for_its_backup_is_reported_for_any_timeout() {
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

    /// Attack: a man in the middle serves its own certificate while the user waits for the certificate of the new key.
    #[test]
    fn the_error_names_the_served_key_if_it_is_unknown() {
        let unknown_key = format!("SHA256:{}", "a".repeat(42) + "A");
        let message = unserved("key-2", None, (false, Some(unknown_key.clone())), "").to_string();
        assert!(message.contains(&unknown_key), "{message}");
        assert!(!message.contains("no backup"), "{message}");
        let (rsa, v2) = (Vec::new(), Vec::new());
        assert_eq!(
            unknown_served_key(vec![unknown_key.clone()], &Keys { rsa, v2 }),
            Some(unknown_key)
        );
    }
}
