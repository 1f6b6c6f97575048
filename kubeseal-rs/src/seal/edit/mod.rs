//! `seal edit FILE`: values in an editor, and only what changed is sealed anew.

mod document;
mod editor;
mod hidden;

use std::io::BufRead as _;

use anyhow::{Context as _, Result};
use shared::base64;
use shared::plain::Plain;
use shared::sealed_file::Changes;
use shared::unseal;

use super::Outcome;
use super::session::Session;
use super::target::{self, Target, TargetError, hint_rule};
use crate::cluster::{self, ClusterError};
use crate::command::read_keys;
use crate::report;
use crate::seal_args::Edit;
use crate::surroundings::Surroundings;
use document::{Difference, Values, difference};
use editor::Editor;
use hidden::Hidden;

/// The values cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ValuesError {
    /// The cluster does not give them.
    #[error(
        "the values of {place} cannot be had from the cluster; --key FILE opens them here, and --blind does \
         without them"
    )]
    Cluster {
        /// The object.
        place: String,
        /// Why.
        source: Box<ClusterError>,
    },
    /// No key opens them.
    #[error("the values of {0} do not open with the keys given")]
    Closed(String, #[source] unseal::UnsealError),
}

/// Runs the command.
///
/// # Errors
///
/// The values cannot be had, there is no editor or no memory to edit in, what was edited is malformed,
/// or the file cannot be edited safely. Nothing is changed then.
pub fn run(words: &Edit, surroundings: &Surroundings) -> Result<Outcome> {
    let mut target = Target::read(&words.file, words.name.as_deref())?;
    let session = Session::new(&words.sealing, surroundings);
    // Before anything is decrypted.
    let editor = Editor::find(surroundings)?;
    let settings = session.settings(&words.file)?;
    target::fill_namespace(&session, &settings, &mut target.found)?;
    let before = values(words, &session, &target)?;
    let Some(after) = edited(&editor, surroundings, words, &target, &before)? else {
        report::say("nothing was changed");
        return Ok(Outcome::Done);
    };
    let changes = difference(&before, &after);
    if changes == Difference::default() {
        report::say("nothing was changed");
        return Ok(Outcome::Done);
    }
    apply(&session, &mut target, changes)
}

fn apply(session: &Session<'_>, target: &mut Target, changes: Difference) -> Result<Outcome> {
    let Difference { set, removed } = changes;
    let (texts, certificate) = target.seal(session, &set)?;
    target.write(&Changes {
        texts,
        removed: removed.clone(),
        data: None,
        hints: hint_rule(session, &certificate),
    })?;
    let (path, place) = (target.path.display(), target.found.place());
    let items = &target.found.sealed.spec.encrypted_data;
    for key in set.keys() {
        let verb = if items.contains_key(key) {
            "changed"
        } else {
            "added"
        };
        report::say(&format!("{path}: {place}: {key} {verb}"));
    }
    for key in &removed {
        report::say(&format!("{path}: {place}: {key} removed"));
    }
    Ok(Outcome::Done)
}

fn values(words: &Edit, session: &Session<'_>, target: &Target) -> Result<Values> {
    let items = &target.found.sealed.spec.encrypted_data;
    if words.blind {
        return Ok(items.keys().map(|key| (key.clone(), None)).collect());
    }
    if words.key.is_empty() {
        return from_cluster(session, target);
    }
    let ring = read_keys(&words.key)?;
    let opened = unseal::open_values(&target.found.sealed, &ring);
    let opened = opened.map_err(|error| ValuesError::Closed(target.found.place(), error))?;
    Ok(opened
        .into_iter()
        .map(|(key, value)| (key, Some(value)))
        .collect())
}

/// The Secret as it is now. Where a template makes a key, the item behind it is not known.
fn from_cluster(session: &Session<'_>, target: &Target) -> Result<Values> {
    let sealed = &target.found.sealed;
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    if namespace.is_empty() {
        return Err(TargetError::NoNamespace(target.found.place()).into());
    }
    let settings = session.settings(&target.path)?;
    let access = session.access(&settings.certificate.value);
    let secret =
        cluster::secret(&access, namespace, name).map_err(|error| ValuesError::Cluster {
            place: target.found.place(),
            source: Box::new(error),
        })?;
    let templates = sealed.spec.template.data.as_ref();
    let value = |key: &String| {
        let made = templates.is_some_and(|templates| templates.contains_key(key));
        let text = secret["data"][key].as_str().filter(|_| !made)?;
        base64::decode(text.as_bytes()).ok().map(Plain::from)
    };
    let keys = sealed.spec.encrypted_data.keys();
    Ok(keys.map(|key| (key.clone(), value(key))).collect())
}

/// Shows the values until they can be read again, or the user gives up.
fn edited(
    editor: &Editor,
    surroundings: &Surroundings,
    words: &Edit,
    target: &Target,
    before: &Values,
) -> Result<Option<Values>> {
    let text = document::write(&target.found.place(), before, words.blind);
    let mut hidden = Hidden::new(surroundings, "values.yaml", text.as_bytes())?;
    loop {
        hidden = editor.open(hidden)?;
        let error = match document::read(&hidden.read()?) {
            Ok(values) => return Ok(values),
            Err(error) => error,
        };
        let is_person = surroundings.stdin_is_terminal && surroundings.stderr_is_terminal;
        if !is_person || !wants_another_try(&shared::error_chain(&error)) {
            return Err(error).context("nothing was changed");
        }
    }
}

fn wants_another_try(problem: &str) -> bool {
    report::say(&format!(
        "{problem}\nEnter edits again, n and Enter gives up."
    ));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.is_ok_and(|count| count > 0) && line.trim().is_empty()
}
