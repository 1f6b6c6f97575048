//! The table of intended differences: `tests/differential/DIFFERENCES.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::Deserialize;

use super::{
    cases::Case,
    outcome::{Change, Outcome},
    run::Termination,
};

/// The intended differences between this project's programs and upstream's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Differences {
    #[serde(default)]
    everywhere: Vec<GlobalDifference>,
    difference: Vec<Difference>,
}

/// A difference in many outputs: upstream's output is rewritten before the comparison.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GlobalDifference {
    #[serde(rename = "flaw")]
    _flaw: String,
    #[serde(rename = "why")]
    _why: String,
    /// Replacements in upstream's output.
    replace: Vec<Replacement>,
}

/// A regular expression for upstream's output, and its replacement, which this project's output has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    #[serde(with = "serde_regex")]
    upstream: Regex,
    ours: String,
}

/// An intended difference, and the cases that show it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    flaw: String,
    /// A description of the behavior of each program.
    #[serde(rename = "why")]
    _why: String,
    cases: Vec<String>,
    /// The programs that differ; the command-line tools by default.
    #[serde(default, rename = "of")]
    program: Program,
    upstream: ExpectedBehavior,
    ours: ExpectedBehavior,
}

/// The programs to which a difference applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Program {
    /// The command-line tools, with either controller.
    #[default]
    Kubeseal,
    /// The controllers, with either command-line tool.
    Controller,
}

/// The expected behavior of one program; only the fields that are present are checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedBehavior {
    exit: Exit,
    /// A part of the text after `error: `.
    error: Option<String>,
    /// Parts of standard error, such as a warning.
    #[serde(default)]
    stderr: Vec<String>,
    /// Parts of standard output; an empty list means no output.
    stdout: Option<Vec<String>>,
    #[serde(default)]
    not_in_stdout: Vec<String>,
    /// Parts of files that the run changes; an empty list means that the file is empty.
    #[serde(default)]
    files: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    not_in_files: BTreeMap<String, Vec<String>>,
    /// Permission bits of files that the run changes, in octal.
    #[serde(default)]
    modes: BTreeMap<String, String>,
    /// Files that the run must not change or create.
    #[serde(default)]
    untouched: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Exit {
    Code(i32),
    Keyword(Keyword),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Keyword {
    Hang,
}

impl Differences {
    /// Loads the table. Fails if it names a case that does not exist, or a case twice for the same program.
    pub(crate) fn load(path: &Path, cases: &[Case]) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let table: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        let mut unique_entries = BTreeSet::new();
        let entries = table.difference.iter();
        let entries = entries.flat_map(|d| d.cases.iter().map(|name| (name, d.program)));
        for (name, program) in entries {
            ensure!(
                names.contains(name.as_str()),
                "DIFFERENCES.toml names {name:?}, which is not a case"
            );
            ensure!(
                unique_entries.insert((name, program)),
                "DIFFERENCES.toml names {name:?} twice"
            );
        }
        Ok(table)
    }

    pub(crate) fn difference(&self, case: &str, program: Program) -> Option<&Difference> {
        let mut entries = self.difference.iter().filter(|d| d.program == program);
        entries.find(|difference| difference.cases.iter().any(|name| name == case))
    }

    /// Returns the names of all cases that show a flaw.
    pub(crate) fn cases_of(&self, flaw: &str) -> Vec<&str> {
        let differences = self
            .difference
            .iter()
            .filter(|difference| difference.flaw == flaw);
        differences
            .flat_map(|difference| &difference.cases)
            .map(String::as_str)
            .collect()
    }

    /// Returns upstream's outcome with the replacements that apply to all cases.
    pub(crate) fn rewrite(&self, upstream: &Outcome) -> Outcome {
        let mut outcome = upstream.clone();
        for Replacement { upstream, ours } in self.replacements() {
            outcome.map_texts(|text| upstream.replace_all(text, ours).into_owned());
        }
        outcome
    }

    fn replacements(&self) -> impl Iterator<Item = &Replacement> {
        self.everywhere.iter().flat_map(|rule| &rule.replace)
    }

    /// Returns patterns that match no output of upstream. They would document a difference that does not exist.
    pub(crate) fn unused_patterns<'a>(
        &'a self,
        outcomes: &'a [Outcome],
    ) -> impl Iterator<Item = &'a Regex> {
        let is_match = |outcome: &Outcome, pattern: &Regex| {
            let files = outcome.changed.values().any(|left| match left {
                Change::File { text, .. } => pattern.is_match(text),
                Change::Link(_) | Change::Removed => false,
            });
            files || pattern.is_match(&outcome.stdout)
        };
        let patterns = self.replacements().map(|replacement| &replacement.upstream);
        patterns.filter(move |pattern| !outcomes.iter().any(|outcome| is_match(outcome, pattern)))
    }
}

impl Difference {
    /// Returns the deviations from the table, one sentence each.
    pub(crate) fn complaints(&self, upstream: &Outcome, own: &Outcome) -> Vec<String> {
        let mut complaints = self.upstream.complaints("upstream", upstream);
        complaints.extend(self.ours.complaints("this project", own));
        if upstream == own {
            complaints.push("the programs do not differ".to_owned());
        }
        self.by_flaw(&complaints)
    }

    pub(crate) fn upstream_complaints(&self, upstream: &Outcome) -> Vec<String> {
        self.by_flaw(&self.upstream.complaints("upstream", upstream))
    }

    fn by_flaw(&self, complaints: &[String]) -> Vec<String> {
        complaints
            .iter()
            .map(|text| format!("{} of DIFFERENCES.toml: {text}", self.flaw))
            .collect()
    }
}

impl ExpectedBehavior {
    fn complaints(&self, program: &str, outcome: &Outcome) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut check = |is_fulfilled: bool, complaint: String| {
            if !is_fulfilled {
                complaints.push(format!("{program}: {complaint}"));
            }
        };
        let termination = match self.exit {
            Exit::Code(code) => Termination::Exit(code),
            Exit::Keyword(Keyword::Hang) => Termination::Hang,
        };
        check(
            outcome.termination == termination,
            format!("ended with {:?}, not {termination:?}", outcome.termination),
        );
        if let Some(error) = &self.error {
            let actual = outcome.error.as_deref().unwrap_or_default();
            check(
                actual.contains(error),
                format!("the error {actual:?} does not contain {error:?}"),
            );
        }
        for part in &self.stderr {
            check(
                outcome.stderr.contains(part),
                format!("stderr does not contain {part:?}"),
            );
        }
        if let Some(parts) = &self.stdout {
            check(
                contains_all(&outcome.stdout, parts),
                format!("stdout is not {parts:?}"),
            );
        }
        for part in &self.not_in_stdout {
            check(
                !outcome.stdout.contains(part),
                format!("stdout contains {part:?}"),
            );
        }
        for (name, parts) in &self.files {
            let text = outcome.text_of(name);
            check(
                text.is_some_and(|text| contains_all(text, parts)),
                format!("file {name} is not {parts:?}"),
            );
        }
        for (name, parts) in &self.not_in_files {
            let text = outcome.text_of(name).unwrap_or_default();
            let actual = parts.iter().find(|part| text.contains(part.as_str()));
            check(actual.is_none(), format!("file {name} contains {actual:?}"));
        }
        for (name, mode) in &self.modes {
            let actual = outcome.mode_of(name).map(|mode| format!("{mode:o}"));
            check(
                actual.as_ref() == Some(mode),
                format!("file {name} has mode {actual:?}, not {mode}"),
            );
        }
        for name in &self.untouched {
            check(
                !outcome.changed.contains_key(name),
                format!("file {name} was changed"),
            );
        }
        complaints
    }
}

/// Returns whether the string contains all parts, or is empty if the list is empty.
fn contains_all(text: &str, parts: &[String]) -> bool {
    if parts.is_empty() {
        text.is_empty()
    } else {
        parts.iter().all(|part| text.contains(part.as_str()))
    }
}

impl Outcome {
    fn text_of(&self, name: &str) -> Option<&str> {
        match self.changed.get(name)? {
            Change::File { text, .. } => Some(text),
            Change::Link(_) | Change::Removed => None,
        }
    }

    fn mode_of(&self, name: &str) -> Option<u32> {
        match self.changed.get(name)? {
            Change::File { mode, .. } => Some(*mode),
            Change::Link(_) | Change::Removed => None,
        }
    }
}

mod serde_regex {
    use regex::Regex;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Regex, D::Error> {
        Regex::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
