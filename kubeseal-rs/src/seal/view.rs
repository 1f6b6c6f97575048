//! `seal view`: what stands in sealed files, without its values or, with a key, with them.

use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use shared::key_ring::KeyRing;
use shared::plain::Plain;
use shared::{base64, unseal};
use zeroize::Zeroizing;

use super::object::{Form, Item, Object};
use super::walk::{self, Kind};
use super::{Outcome, write};
use crate::command::read_keys;
use crate::seal_args::View;
use crate::surroundings::Surroundings;
use crate::{git, report};

/// There is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// No object.
    #[error("no SealedSecret found; name sealed files, or a folder to find them in")]
    NothingFound,
}

/// An object with its file.
struct Seen {
    file: String,
    object: Object,
    /// Age of each item, in days.
    ages: Vec<Option<i64>>,
    /// Values, in the order of the items; empty if they are not asked for.
    values: Vec<Plain>,
}

/// Runs the command.
///
/// # Errors
///
/// A file cannot be read, or a value not be opened.
pub fn run(words: &View, surroundings: &Surroundings) -> Result<Outcome> {
    let ring = words.reveal.then(|| read_keys(&words.key)).transpose()?;
    let mut seen = Vec::new();
    for candidate in walk::candidates(&words.paths)? {
        let Some(file) = walk::read(&candidate, Kind::SealedSecret)? else {
            continue;
        };
        let times = git::line_times(&candidate.path);
        for node in file.of_kind(Kind::SealedSecret) {
            let shown = candidate.path.display().to_string();
            let object = Object::read(node).with_context(|| shown.clone())?;
            let ages = object
                .items
                .iter()
                .map(|item| age(&times, item, surroundings.now));
            let values = match &ring {
                Some(ring) => open(&object, ring).with_context(|| shown.clone())?,
                None => Vec::new(),
            };
            seen.push(Seen {
                file: shown,
                ages: ages.collect(),
                values,
                object,
            });
        }
    }
    if seen.is_empty() {
        return Err(ViewError::NothingFound.into());
    }
    let text = if let Some(format) = words.output {
        write(&seen.iter().map(facts).collect::<Vec<_>>(), format)
    } else {
        let texts: Vec<_> = seen.iter().map(text).collect();
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        Zeroizing::new(texts.concat())
    };
    report::print(&text).map_err(crate::command::CommandError::Stdout)?;
    Ok(Outcome::Done)
}

fn age(times: &[Option<Timestamp>], item: &Item, now: Timestamp) -> Option<i64> {
    let committed = times.get(item.line.checked_sub(1)?).copied().flatten()?;
    Some((now.as_second() - committed.as_second()) / (24 * 60 * 60))
}

/// Values by item; templates are not rendered.
fn open(object: &Object, ring: &KeyRing) -> Result<Vec<Plain>> {
    let mut opened = unseal::open_values(&object.sealed, ring)
        .with_context(|| format!("{} does not open with these keys", object.place()))?;
    let values = object.items.iter();
    Ok(values
        .map(|item| opened.remove(&item.key).unwrap_or_default())
        .collect())
}

fn text(seen: &Seen) -> Zeroizing<String> {
    let object = &seen.object;
    let type_ = object
        .sealed
        .spec
        .template
        .type_
        .as_deref()
        .unwrap_or("Opaque");
    let mut text = Zeroizing::new(format!(
        "{}:{}: {} ({}, {type_})\n",
        seen.file,
        object.line,
        object.place(),
        object.scope
    ));
    let width = object
        .items
        .iter()
        .map(|item| item.key.len())
        .max()
        .unwrap_or(0);
    for (i, item) in object.items.iter().enumerate() {
        let facts = [
            Some(form(item.form)),
            item.hint.as_ref().map(|hint| format!("sealed for {hint}")),
            seen.ages.get(i).copied().flatten().map(in_days),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        text.extend([format!("  {:<width$}  {}\n", item.key, facts.join(", "))]);
        if let Some(value) = seen.values.get(i) {
            for line in shown(value).lines() {
                text.push_str("    ");
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    for key in object.templates() {
        text.extend([format!("  {key:<width$}  template\n")]);
    }
    text
}

fn form(form: Form) -> String {
    match form {
        Form::Bits(bits) => format!("{bits} bits"),
        Form::NoText => "malformed: no text".into(),
        Form::Empty => "malformed: empty".into(),
        Form::NoBase64 => "malformed: no base64".into(),
        Form::Truncated => "malformed: cut short".into(),
    }
}

fn in_days(days: i64) -> String {
    match days {
        0 => "committed today".into(),
        1 => "committed yesterday".into(),
        _ => format!("committed {days} days ago"),
    }
}

/// Text as it is, without control characters that would steer the terminal; other bytes in base64.
fn shown(value: &Plain) -> Zeroizing<String> {
    let is_text = |text: &&str| {
        !text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
    };
    match std::str::from_utf8(value.expose()).ok().filter(is_text) {
        Some(text) => Zeroizing::new(text.to_owned()),
        None => Zeroizing::new(format!("base64:{}", base64::encode(value.expose()))),
    }
}

fn facts(seen: &Seen) -> Json {
    let object = &seen.object;
    let item = |(i, item): (usize, &Item)| {
        let mut json = json!({"key": item.key, "line": item.line});
        match item.form {
            Form::Bits(bits) => json["bits"] = bits.into(),
            other => json["problem"] = form(other).into(),
        }
        if let Some(hint) = &item.hint {
            json["sealedFor"] = hint.to_string().into();
        }
        if let Some(days) = seen.ages.get(i).copied().flatten() {
            json["days"] = days.into();
        }
        if let Some(value) = seen.values.get(i) {
            json["value"] = base64::encode(value.expose()).into();
        }
        json
    };
    json!({
        "file": Path::new(&seen.file).display().to_string(),
        "line": object.line,
        "namespace": object.sealed.namespace_or_empty(),
        "name": object.sealed.name_or_empty(),
        "scope": object.scope.to_string(),
        "type": object.sealed.spec.template.type_.as_deref().unwrap_or("Opaque"),
        "items": object.items.iter().enumerate().map(item).collect::<Json>(),
        "templates": object.templates().collect::<Vec<_>>(),
    })
}
