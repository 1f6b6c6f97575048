//! `seal doctor`: the whole way, step by step, up to the first that is broken.
//!
//! | module | looks at |
//! |---|---|
//! | [`way`] | kubeconfig, API server, Service; or the folder |
//! | [`controller`] | what answers behind the Service, and its certificate |
//! | [`keys`] | key Secrets, if we may read them |
//! | [`object`] | a file: does it open? |
//! | [`item`] | an item: why it does not open |
//! | [`findings`] | nothing; it shows what the others found |
//!
//! It asks nobody more than he would tell anybody. The controller gets to see the file as it is: an
//! answer to changed copies would tell whoever may ask for which place a value was sealed. Other places
//! are tried here, with keys that the caller holds. Which items open it tells those alone who may
//! verify the object.

mod controller;
mod findings;
mod item;
mod keys;
mod object;
mod templates;
mod way;

use anyhow::Result;
use shared::key_ring::KeyRing;

use super::keys::authorised;
use super::{Outcome, opening, print};
use crate::keys::{KeyRecord, record};
use crate::seal_args::{Doctor, Form};
use crate::surroundings::Surroundings;
use findings::{Findings, Found};

/// Runs the command: findings if a step is broken.
///
/// # Errors
///
/// A file that was named cannot be read.
pub fn run(words: &Doctor, surroundings: &Surroundings) -> Result<Outcome> {
    let mut findings = Findings::default();
    let version = format!("version {}", env!("CARGO_PKG_VERSION"));
    findings.add("seal", Found::good(version));
    let mut way = way::Way::default();
    if !words.offline {
        way = way::look(words, surroundings, &mut findings);
    }
    if let Some(file) = &words.file {
        way.authorised = authorised(&words.asking, &words.place, surroundings)?;
        let keys = key_ring(words, surroundings, &way.records)?;
        object::look(words, file, &keys, &way, surroundings, &mut findings)?;
    }
    match words.output {
        Form::Text => print(findings.text().as_bytes())?,
        Form::Json => print(&findings.json()?)?,
    };
    Ok(if findings.is_bad() {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

fn key_ring(words: &Doctor, surroundings: &Surroundings, records: &[KeyRecord]) -> Result<KeyRing> {
    if words.backups.is_empty() {
        return Ok(record::ring(records));
    }
    opening::ring(records, &words.backups, &words.opening, surroundings)
}
