//! The outcome of a run, without random parts.

use std::{collections::BTreeMap, fmt};

use crate::{
    kind::{Kind, classify},
    opened::Opener,
    run::{Ending, Entry, Traces},
    usage,
};

/// The parts of a run that are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) kind: Kind,
    /// The text after `error: `, or the last line of a usage error.
    pub(crate) error: Option<String>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) changed: BTreeMap<String, Left>,
}

/// A changed entry of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    File { mode: u32, text: String },
    Link(String),
    Gone,
}

impl Outcome {
    pub(crate) fn new(traces: &Traces, opener: &Opener) -> Self {
        let folder = traces.folder.display().to_string();
        let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&folder, "${dir}");
        let stdout = without_version(&usage::summarized(&plain(&traces.stdout)));
        let stderr = plain(&traces.stderr);
        let kind = classify(traces.ending, &stderr);
        let left = |entry: &Entry| match entry {
            Entry::File { mode, content } => Left::File {
                mode: *mode,
                text: opener.open(&plain(content)),
            },
            Entry::Link(target) => Left::Link(target.display().to_string()),
            Entry::Gone => Left::Gone,
        };
        Self {
            ending: traces.ending,
            kind,
            error: error(kind, &stdout, &stderr),
            stdout: opener.open(&stdout),
            changed: traces
                .changed
                .iter()
                .map(|(name, entry)| (without_random_tail(name), left(entry)))
                .collect(),
            stderr: if kind == Kind::Crash {
                first_line(&stderr)
            } else {
                stderr
            },
        }
    }

    /// Rewrites all texts of the outcome.
    pub(crate) fn map_texts(&mut self, rewrite: impl Fn(&str) -> String) {
        self.stdout = rewrite(&self.stdout);
        for left in self.changed.values_mut() {
            if let Left::File { text, .. } = left {
                *text = rewrite(text);
            }
        }
    }
}

/// Removes the random digits at the end of the names of temporary files.
fn without_random_tail(name: &str) -> String {
    if !name.starts_with("tmp/") {
        return name.to_owned();
    }
    format!(
        "{}<random>",
        name.trim_end_matches(|c: char| c.is_ascii_digit())
    )
}

/// Removes the version, which each program reports for itself.
fn without_version(stdout: &str) -> String {
    match stdout.strip_prefix("kubeseal version: ") {
        Some(version) if version.starts_with(|c: char| c.is_ascii_digit()) => {
            "kubeseal version: <version>\n".to_owned()
        }
        _ => stdout.to_owned(),
    }
}

fn error(kind: Kind, stdout: &str, stderr: &str) -> Option<String> {
    let Some((_, text)) = stderr.split_once("error: ") else {
        // Upstream prints its usage errors below a usage page on standard output.
        return stdout
            .lines()
            .last()
            .filter(|_| kind == Kind::Usage)
            .map(str::to_owned);
    };
    Some(if kind == Kind::Decryption {
        sorted(text)
    } else {
        text.trim_end().to_owned()
    })
}

/// Sorts lines. Upstream lists failed items in the random order of a Go map. Our hints follow in the same
/// order.
fn sorted(text: &str) -> String {
    let (hints, mut lines): (Vec<String>, Vec<String>) = text
        .lines()
        .map(with_sorted_items)
        .partition(|line| line.starts_with("hint: "));
    lines.sort();
    lines.extend(hints);
    lines.join("\n")
}

fn with_sorted_items(line: &str) -> String {
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
        writeln!(f, "{:?}, kind of error: {:?}", self.ending, self.kind)?;
        block(f, "stderr", &self.stderr)?;
        block(f, "stdout", &self.stdout)?;
        for (name, left) in &self.changed {
            match left {
                Left::File { mode, text } => {
                    block(f, &format!("file {name}, mode {mode:o}"), text)?;
                }
                Left::Link(target) => writeln!(f, "file {name}: link to {target}")?,
                Left::Gone => writeln!(f, "file {name}: removed")?,
            }
        }
        Ok(())
    }
}

fn block(f: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    if text.is_empty() {
        return Ok(());
    }
    let line_end = if text.ends_with('\n') {
        ""
    } else {
        " (no line end at the end)"
    };
    writeln!(f, "{title}{line_end}:")?;
    text.lines().try_for_each(|line| writeln!(f, "  | {line}"))
}
