//! `seal edit FILE`: opens values in an editor and re-encrypts those that changed.

use std::io::BufRead as _;

use super::document::{self, Difference, difference};
use super::editor::Editor;
use super::guarded::GuardedDirectory;
use anyhow::{Context as _, Result};
use kubeseal_library::environment::Environment;
use kubeseal_library::rules::SealedFormat;
use shared::key_ring::KeyRing;
use shared::unseal;

use crate::command::read_keys;
use crate::failure::Failure;
use crate::report;
use crate::report::ShowPath as _;
use crate::seal::Outcome;
use crate::seal::dates;
use crate::seal::edit::Edit;
use crate::seal::in_cluster::{self, Values};
use crate::seal::session::Session;
use crate::seal::settings::{Origin, Settings};
use crate::seal::target::{self, OnConflict, Target, TargetError};
use crate::seal::v2_items::Change;

/// The hint for a cluster that does not provide the values.
const KEY_HINT: &str =
    "pass --key FILE to unseal the values locally, or --blind to edit without the values";

/// Lets the user edit the values of a SealedSecret in an editor, and seals the changed values.
///
/// # Errors
///
/// Fails if the values cannot be decrypted or read, if there is no editor or no in-memory directory, if the editor
/// fails, or if the changes are not valid or cannot be applied. In that case, the file is unchanged.
pub fn run(args: &Edit, environment: &Environment) -> Result<Outcome> {
    let mut target = Target::read(&args.file, args.name.as_deref())?;
    // Find the editor before anything is decrypted.
    let editor = Editor::find(environment)?;
    let ring = keys(args)?;
    let no_keys = KeyRing::default();
    let session = if args.blind {
        // The user enters every value that is encrypted.
        Session::new(&args.sealing, environment)
    } else {
        let keys = ring.as_ref().unwrap_or(&no_keys);
        Session::for_existing_values(&args.sealing, environment, keys)
    };
    let session = session.with_rotate_by(args.rotate_by);
    let settings = session.settings(&args.file)?;
    target::fill_namespace(&session, &settings, &mut target.found)?;
    if !args.blind {
        check_keys_of_rule(&session, &settings, &target)?;
    }
    let before = values(args, &session, &target, ring.as_ref())?;
    let text = document::write(&target::qualified_name(&target.found), &before, args.blind);
    let mut guarded = GuardedDirectory::new(environment, "values.yaml", text.as_bytes())?;
    let is_interactive = environment.stdin_is_terminal && environment.stderr_is_terminal;
    let mut is_retry = false;
    loop {
        let duration = match editor.open(&guarded) {
            Err(error) if is_retry => return Err(error).context(DISCARDED),
            took => took?,
        };
        let edited = guarded.hidden().read();
        // The text stays in memory only if a user can edit it again.
        let kept = is_interactive.then_some(guarded);
        let applied = edited
            .map_err(anyhow::Error::from)
            .and_then(|text| apply_edits(&text, &session, &target, &before));
        let error = match applied {
            Ok(is_changed) => {
                if let Some(warning) = editor
                    .no_wait_warning(duration, is_interactive)
                    .filter(|_| !is_changed)
                {
                    report::warn(&warning);
                }
                return Ok(Outcome::Done);
            }
            Err(error) => error,
        };
        guarded = match kept {
            Some(kept) if can_be_corrected(&error) && ask_to_retry(&error) => kept,
            _ => return Err(error).context(DISCARDED),
        };
        is_retry = true;
    }
}

/// Checks keys that a rule names, which may be refused, before the user starts to edit. Other keys are fetched only if
/// a value has changed.
fn check_keys_of_rule(session: &Session<'_>, settings: &Settings, target: &Target) -> Result<()> {
    let format = target.format(settings)?;
    if format == SealedFormat::V1 {
        settings.check_v1()?;
    }
    let has_recipients = settings
        .rule
        .as_ref()
        .is_some_and(|rule| !rule.recipients.is_empty());
    match format {
        SealedFormat::V2 if has_recipients => drop(session.recipients(settings)?),
        SealedFormat::V1 if settings.certificate.by == Origin::Rule => {
            session.certificate(settings)?;
        }
        _ => {}
    }
    Ok(())
}

/// Returns whether another edit could succeed. If another program has changed the object, every edit would fail.
fn can_be_corrected(error: &anyhow::Error) -> bool {
    !matches!(
        error.downcast_ref(),
        Some(TargetError::Conflict { .. } | TargetError::Busy { .. } | TargetError::Gone { .. })
    )
}

/// The context of an error after editing. Plaintext is never kept, so the error reports that it is lost.
const DISCARDED: &str =
    "nothing was changed, and the edited text was discarded, because plaintext is never kept";

/// Applies the changes in the edited text. Returns whether there are any.
fn apply_edits(
    text: &[u8],
    session: &Session<'_>,
    target: &Target,
    before: &Values,
) -> Result<bool> {
    let after = document::read(text)?;
    // An empty file means that the user canceled.
    let changes = after.as_ref().map(|after| difference(before, after));
    let Some(changes) = changes.filter(|changes| *changes != Difference::default()) else {
        report::info("nothing was changed");
        return Ok(false);
    };
    apply(session, target, changes).map(|()| true)
}

fn apply(session: &Session<'_>, target: &Target, changes: Difference) -> Result<()> {
    let Difference { set, removed } = changes;
    let change = Change {
        set: &set,
        removed: &removed,
    };
    // Change a copy: for the next attempt, `target` must stay as the user saw it.
    let new = target.clone().change(session, change, OnConflict::Refuse)?;
    let (path, object_name) = (target.path.shown(), target.found.sealed.qualified_name());
    for key in set.keys() {
        let verb = if target.has_item(key) {
            "changed"
        } else {
            "added"
        };
        report::info(&format!("{path}: {object_name}: {key} {verb}"));
    }
    for key in &removed {
        report::info(&format!("{path}: {object_name}: {key} removed"));
    }
    for notice in dates::removal_notices(&new.dates) {
        report::info(&format!("{path}: {object_name}: {notice}"));
    }
    Ok(())
}

/// Reads the private keys of `--key`; `None` if the flag is not set.
fn keys(args: &Edit) -> Result<Option<KeyRing>> {
    let has_keys = !args.key.is_empty();
    Ok(has_keys.then(|| read_keys(&args.key)).transpose()?)
}

fn values(
    args: &Edit,
    session: &Session<'_>,
    target: &Target,
    ring: Option<&KeyRing>,
) -> Result<Values> {
    if args.blind {
        return Ok(target.items().map(|key| (key.clone(), None)).collect());
    }
    let Some(ring) = ring else {
        return in_cluster::values(session, &target.path, &target.found.sealed, KEY_HINT);
    };
    let unsealed = unseal::unseal_values(&target.found.sealed, ring);
    let unsealed = unsealed.map_err(|why| {
        let object_name = target::qualified_name(&target.found);
        Failure::new(format!(
            "the values of {object_name} cannot be unsealed with the specified keys: {}",
            why.diagnosis()
        ))
        .hint("pass another key with --key, or --blind to edit without the values")
    })?;
    Ok(unsealed
        .into_iter()
        .map(|(key, value)| (key, Some(value)))
        .collect())
}

/// Asks the user whether to open the editor again with the same text.
fn ask_to_retry(error: &anyhow::Error) -> bool {
    let problem = shared::error_chain(error.as_ref());
    report::info_lines(&format!(
        "{problem}\nPress Enter to edit again, or n and Enter to give up."
    ));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.is_ok_and(|count| count > 0) && line.trim().is_empty()
}
