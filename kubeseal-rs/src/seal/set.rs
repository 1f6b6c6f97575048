//! `seal set FILE KEY`: one item gets a value.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use rand::RngExt as _;
use shared::plain::Plain;
use shared::sealed_file::Changes;
use zeroize::Zeroizing;

use super::Outcome;
use super::session::Session;
use super::target::{Target, TargetError, hint_rule, is_item_key};
use crate::seal_args::Set;
use crate::surroundings::Surroundings;
use crate::{files, report};

/// There is no value to seal.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// Two different lines were typed.
    #[error("the two values differ; nothing was changed")]
    Differ,
    /// No terminal after all.
    #[error("the value cannot be read from the terminal")]
    Prompt(#[source] std::io::Error),
    /// A random value that long is a mistake.
    #[error("--generate takes a length from 1 to 100000")]
    Length,
}

/// Runs the command.
///
/// # Errors
///
/// The file or value cannot be read, the value not be sealed, or the file not be edited safely.
pub fn run(words: &Set, surroundings: &Surroundings) -> Result<Outcome> {
    if !is_item_key(&words.key) {
        return Err(TargetError::Key(words.key.clone()).into());
    }
    let mut target = Target::read(&words.file, words.name.as_deref())?;
    let session = Session::new(&words.sealing, surroundings);
    let values = BTreeMap::from([(words.key.clone(), value(words, surroundings)?)]);
    let (texts, certificate) = target.seal(&session, &values)?;
    let items = &target.found.sealed.spec.encrypted_data;
    let verb = if items.contains_key(&words.key) {
        "changed"
    } else {
        "added"
    };
    target.write(&Changes {
        texts,
        removed: Vec::new(),
        data: None,
        hints: hint_rule(&session, &certificate),
    })?;
    report::say(&format!(
        "{}: {}: {} {verb} ({}, for {})",
        words.file.display(),
        target.found.place(),
        words.key,
        target.scope(),
        certificate.fingerprint()
    ));
    Ok(Outcome::Done)
}

fn value(words: &Set, surroundings: &Surroundings) -> Result<Plain> {
    if let Some(length) = words.generate {
        return generate(length);
    }
    let bytes = match &words.from_file {
        Some(path) => files::read(path)?,
        None if surroundings.stdin_is_terminal => return prompt(&words.key),
        None => files::read_stdin()?,
    };
    if words.from_file.is_none() && bytes.ends_with(b"\n") {
        report::warn(
            "the value ends with a line break, which is sealed with it; `printf %s` writes none",
        );
    }
    Ok(Plain::from(bytes.to_vec()))
}

/// Twice, since nothing is shown.
fn prompt(key: &str) -> Result<Plain> {
    let ask = |text: String| -> Result<Zeroizing<String>> {
        let line = rpassword::prompt_password(text).map_err(ValueError::Prompt)?;
        Ok(Zeroizing::new(line))
    };
    let first = ask(format!("Value of {key} (not shown): "))?;
    let second = ask("Once more: ".to_owned())?;
    if *first != *second {
        return Err(ValueError::Differ.into());
    }
    Ok(Plain::from(first.as_bytes().to_vec()))
}

fn generate(length: usize) -> Result<Plain> {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    if !(1..=100_000).contains(&length) {
        return Err(ValueError::Length).context("nothing was changed");
    }
    let mut rng = rand::rng();
    let letter = |_| LETTERS[rng.random_range(0..LETTERS.len())];
    Ok(Plain::from((0..length).map(letter).collect::<Vec<u8>>()))
}
