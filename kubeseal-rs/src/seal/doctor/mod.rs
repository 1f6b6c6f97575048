//! `seal doctor`: the whole way, step by step, up to the first that is broken.
//!
//! | module | looks at |
//! |---|---|
//! | [`way`] | kubeconfig, API server, Service, controller, certificate; or the folder |
//! | [`object`] | a file: why it does not open |
//!
//! It asks nobody more than he would tell anybody. The controller gets to see the file as it is: an
//! answer to changed copies would tell whoever may ask for which place a value was sealed. Other places
//! are tried here, with keys that the caller holds. Which items open it tells those alone who may
//! verify the object.

pub mod object;
pub mod way;

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use super::keys::authorised;
use super::{Outcome, opening, print};
use crate::keys::{KeyRecord, record};
use crate::seal_args::{Doctor, Form};
use crate::surroundings::Surroundings;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, and deserves a look.
    Remark,
    /// Could not be looked at.
    Skipped,
    /// Broken.
    Bad,
}

/// A step that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What to do.
    pub remedy: Option<String>,
}

/// Steps in the order in which they were looked at.
#[derive(Debug, Default)]
pub struct Findings {
    /// They.
    pub steps: Vec<Step>,
}

impl Findings {
    fn push(&mut self, name: &str, verdict: Verdict, finding: &str, remedy: Option<String>) {
        self.steps.push(Step {
            name: name.to_owned(),
            verdict,
            // A step is one line.
            finding: finding.lines().collect::<Vec<_>>().join(" "),
            remedy,
        });
    }

    /// As it should be.
    pub fn good(&mut self, name: &str, finding: impl Into<String>) {
        self.push(name, Verdict::Good, &finding.into(), None);
    }

    /// Could not be looked at.
    pub fn skipped(&mut self, name: &str, finding: impl Into<String>) {
        self.push(name, Verdict::Skipped, &finding.into(), None);
    }

    /// Deserves a look.
    pub fn remark(&mut self, name: &str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.push(name, Verdict::Remark, &finding.into(), Some(remedy.into()));
    }

    /// Broken.
    pub fn bad(&mut self, name: &str, finding: impl Into<String>, remedy: impl Into<String>) {
        self.push(name, Verdict::Bad, &finding.into(), Some(remedy.into()));
    }

    /// Is a step broken?
    pub fn is_bad(&self) -> bool {
        self.steps.iter().any(|step| step.verdict == Verdict::Bad)
    }
}

/// Runs the command: findings if a step is broken.
///
/// # Errors
///
/// A file that was named cannot be read.
pub fn run(words: &Doctor, surroundings: &Surroundings) -> Result<Outcome> {
    let mut findings = Findings::default();
    findings.good("seal", format!("version {}", env!("CARGO_PKG_VERSION")));
    let mut way = way::Way::default();
    if !words.offline {
        way = way::look(words, surroundings, &mut findings);
    }
    if let Some(file) = &words.file {
        way.authorised = authorised(&words.asking, &words.place, surroundings)?;
        let keys = keys(words, surroundings, &way.records)?;
        object::look(words, file, &keys, &way, &mut findings)?;
    }
    match words.output {
        Form::Text => print(text(&findings).as_bytes())?,
        Form::Json => print(&as_json(&findings)?)?,
    };
    Ok(if findings.is_bad() {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

fn keys(
    words: &Doctor,
    surroundings: &Surroundings,
    records: &[KeyRecord],
) -> Result<shared::key_ring::KeyRing> {
    if words.backups.is_empty() {
        return Ok(record::ring(records));
    }
    opening::ring(records, &words.backups, &words.opening, surroundings)
}

fn text(findings: &Findings) -> String {
    let mut text = String::new();
    for step in &findings.steps {
        let mark = match step.verdict {
            Verdict::Good => "ok     ",
            Verdict::Remark => "remark ",
            Verdict::Skipped => "skipped",
            Verdict::Bad => "BROKEN ",
        };
        let _ = writeln!(text, "{mark}  {}: {}", step.name, step.finding);
        if let Some(remedy) = &step.remedy {
            let _ = writeln!(text, "         → {remedy}");
        }
    }
    text
}

fn as_json(findings: &Findings) -> Result<Vec<u8>> {
    let step = |step: &Step| {
        let verdict = match step.verdict {
            Verdict::Good => "ok",
            Verdict::Remark => "remark",
            Verdict::Skipped => "skipped",
            Verdict::Bad => "broken",
        };
        json!({"step": step.name, "verdict": verdict, "finding": step.finding, "remedy": step.remedy})
    };
    let steps: Vec<_> = findings.steps.iter().map(step).collect();
    let mut bytes = serde_json::to_vec_pretty(&json!({ "steps": steps }))?;
    bytes.push(b'\n');
    Ok(bytes)
}
