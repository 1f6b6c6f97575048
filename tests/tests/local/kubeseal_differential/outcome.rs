//! The outcome of a run, without random parts.

use std::{collections::BTreeMap, fmt};

use super::{
    kind::{Kind, classify},
    opener::Opener,
    run::{Entry, RunOutput, Termination},
    usage,
};

/// The parts of a run that are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) termination: Termination,
    pub(crate) kind: Kind,
    /// The text after `error: `, or the last line of a usage error.
    pub(crate) error: Option<String>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) changed: BTreeMap<String, Change>,
}

/// A changed entry in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    File { mode: u32, text: String },
    Link(String),
    Removed,
}

impl Outcome {
    pub(crate) fn new(output: &RunOutput, opener: &Opener) -> Self {
        let directory = output.directory.display().to_string();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&directory, "${dir}");
        let stdout = without_version(&usage::summarize_page(&text(&output.stdout)));
        let stderr = text(&output.stderr);
        let kind = classify(output.termination, &stderr);
        let change = |entry: &Entry| match entry {
            Entry::File { mode, content } => Change::File {
                mode: *mode,
                text: opener.open(&text(content)),
            },
            Entry::Link(target) => Change::Link(target.display().to_string()),
            Entry::Removed => Change::Removed,
        };
        Self {
            termination: output.termination,
            kind,
            error: error_text(kind, &stdout, &stderr),
            stdout: opener.open(&stdout),
            changed: output
                .changed
                .iter()
                .map(|(name, entry)| (without_random_suffix(name), change(entry)))
                .collect(),
            stderr: if kind == Kind::Crash {
                first_line(&stderr)
            } else {
                stderr
            },
        }
    }

    /// Rewrites standard output and the content of changed files.
    pub(crate) fn map_texts(&mut self, rewrite: impl Fn(&str) -> String) {
        self.stdout = rewrite(&self.stdout);
        for change in self.changed.values_mut() {
            if let Change::File { text, .. } = change {
                *text = rewrite(text);
            }
        }
    }
}

/// Removes the random digits at the end of the names of temporary files.
fn without_random_suffix(name: &str) -> String {
    if !name.starts_with("tmp/") {
        return name.to_owned();
    }
    format!(
        "{}<random>",
        name.trim_end_matches(|c: char| c.is_ascii_digit())
    )
}

/// Removes the version, which differs between the programs.
fn without_version(stdout: &str) -> String {
    match stdout.strip_prefix("kubeseal version: ") {
        Some(version) if version.starts_with(|c: char| c.is_ascii_digit()) => {
            "kubeseal version: <version>\n".to_owned()
        }
        _ => stdout.to_owned(),
    }
}

fn error_text(kind: Kind, stdout: &str, stderr: &str) -> Option<String> {
    let Some((_, text)) = stderr.split_once("error: ") else {
        // Upstream prints its usage errors below a usage page on standard output.
        return stdout
            .lines()
            .last()
            .filter(|_| kind == Kind::Usage)
            .map(str::to_owned);
    };
    Some(if kind == Kind::Decryption {
        sort_lines(text)
    } else {
        text.trim_end().to_owned()
    })
}

/// Sorts the lines, and the items in each, because upstream lists failed items in the random order of a Go map. Moves
/// the hints to the end, in their order.
fn sort_lines(text: &str) -> String {
    let (hints, mut lines): (Vec<String>, Vec<String>) = text
        .lines()
        .map(sort_items)
        .partition(|line| line.starts_with("hint: "));
    lines.sort();
    lines.extend(hints);
    lines.join("\n")
}

fn sort_items(line: &str) -> String {
    let items = line
        .strip_suffix(')')
        .and_then(|line| line.rsplit_once('('));
    let Some((message, items)) = items else {
        return line.to_owned();
    };
    let mut items: Vec<&str> = items.split(", ").collect();
    items.sort_unstable();
    format!("{message}({})", items.join(", "))
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .map(|line| format!("{line}\n"))
        .unwrap_or_default()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}, kind of error: {:?}", self.termination, self.kind)?;
        write_block(f, "stderr", &self.stderr)?;
        write_block(f, "stdout", &self.stdout)?;
        for (name, change) in &self.changed {
            match change {
                Change::File { mode, text } => {
                    write_block(f, &format!("file {name}, mode {mode:o}"), text)?;
                }
                Change::Link(target) => writeln!(f, "file {name}: link to {target}")?,
                Change::Removed => writeln!(f, "file {name}: removed")?,
            }
        }
        Ok(())
    }
}

fn write_block(f: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    if text.is_empty() {
        return Ok(());
    }
    let line_end = if text.ends_with('\n') {
        ""
    } else {
        " (no final newline)"
    };
    writeln!(f, "{title}{line_end}:")?;
    text.lines().try_for_each(|line| writeln!(f, "  | {line}"))
}
