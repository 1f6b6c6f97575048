//! `seal keys restore`: keys of a backup into a cluster or folder.

use anyhow::{Context as _, Result, bail};
use shared::secret::Secret;

use super::store;
use crate::keys::store::Put;
use crate::keys::{KeyRecord, KeyStore};
use crate::report;
use crate::seal::{Outcome, opening};
use crate::seal_args::KeysRestore;
use crate::surroundings::Surroundings;

/// What is to be done with one Secret of a backup.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Put it there.
    Put,
    /// The same key is there under this name.
    IsThere(String),
    /// It holds no key that can be used.
    Broken(String),
}

/// Runs the command. What is there is never changed.
///
/// # Errors
///
/// The backup does not open or holds no key, or something else has the name or the place of one: then nothing was
/// done. Where storing fails half way, the error says so; the command can be run again.
pub fn run(words: &KeysRestore, surroundings: &Surroundings) -> Result<Outcome> {
    if words.backup.is_dir() {
        bail!(
            "{} is a folder, and a backup is a file: name those in it, one at a time, or copy them into the keys \
             of the other controller",
            words.backup.display()
        );
    }
    let mut unlock = opening::read(&words.opening, surroundings)?;
    let backup = opening::backup(&words.backup, &mut unlock)?;
    if !backup.bare.is_empty() {
        bail!(
            "{} holds keys in PEM without their certificates, so no key Secret can be made of them; \
             `kubeseal --recovery-unseal` opens files with them",
            words.backup.display()
        );
    }
    let store = store(&words.place, surroundings)?;
    let there = store.read()?;
    let steps = plan(backup.secrets, &there)?;
    for (secret, _) in steps.iter().filter(|(_, step)| *step == Step::Put) {
        store.check_place(secret.metadata.name.as_deref().unwrap_or_default())?;
    }
    for (secret, step) in &steps {
        say(secret, step, words.dry_run);
    }
    if !words.dry_run {
        put(&store, &steps)?;
    }
    let count = steps.iter().filter(|(_, step)| *step == Step::Put).count();
    let done = if words.dry_run {
        "would be restored"
    } else {
        "restored"
    };
    report::say(&format!(
        "{count} of {} keys {done} in {}",
        steps.len(),
        store.place()
    ));
    Ok(Outcome::Done)
}

/// Decides about every Secret before the first is written.
fn plan(secrets: Vec<Secret>, there: &[KeyRecord]) -> Result<Vec<(Secret, Step)>> {
    let mut steps: Vec<(Secret, Step)> = Vec::new();
    for secret in secrets {
        let record = KeyRecord::new(secret, None);
        let step = match (&record.key, record.fingerprint()) {
            (Ok(_), Some(fingerprint)) => {
                let same = there.iter().find(|r| r.fingerprint() == Some(fingerprint));
                let name = record.name();
                let taken = there.iter().map(KeyRecord::name);
                let mut taken = taken.chain(steps.iter().filter_map(|(s, step)| {
                    let name = s.metadata.name.as_deref();
                    name.filter(|_| *step == Step::Put)
                }));
                match same {
                    Some(same) => Step::IsThere(same.name().to_owned()),
                    None if name.is_empty() => bail!("a key Secret of the backup has no name"),
                    None if taken.any(|other| other == name) => bail!(
                        "another key has the name {name}; nothing was changed. Rename one of the two, or \
                         restore into another namespace or folder"
                    ),
                    None => Step::Put,
                }
            }
            (Err(problem), _) => Step::Broken(problem.clone()),
            (Ok(_), None) => Step::Broken("it has no fingerprint".to_owned()),
        };
        steps.push((record.secret, step));
    }
    Ok(steps)
}

fn say(secret: &Secret, step: &Step, dry_run: bool) {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    match step {
        Step::Put if dry_run => report::say(&format!("{name}: would be restored")),
        Step::Put => {}
        Step::IsThere(as_name) if as_name == name => report::say(&format!("{name}: is there")),
        Step::IsThere(as_name) => report::say(&format!("{name}: is there as {as_name}")),
        Step::Broken(problem) => report::warn(&format!("{name} is not restored: {problem}")),
    }
}

fn put(store: &KeyStore, steps: &[(Secret, Step)]) -> Result<()> {
    for (secret, _) in steps.iter().filter(|(_, step)| *step == Step::Put) {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let context =
            || format!("{name}; those before it are restored, and the command can be run again");
        match store.put(secret).with_context(context)? {
            Put::Restored => report::say(&format!("{name}: restored")),
            Put::WasThere => bail!("{name} came to be while this ran; run the command again"),
        }
    }
    Ok(())
}
