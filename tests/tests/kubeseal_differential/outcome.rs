//! A run's traces with everything taken out that differs from run to run.

use std::{collections::BTreeMap, fmt};

use crate::{
    kind::{Kind, classify},
    opened::Opener,
    run::{Ending, Entry, Traces},
};

/// What two programs are compared by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) kind: Kind,
    /// The text after `error: `, or the last line of a usage error.
    pub(crate) error: Option<String>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) changed: BTreeMap<String, Left>,
}

/// What stands in a changed place of the folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    File { mode: u32, text: String },
    Link(String),
    Gone,
}

impl Outcome {
    pub(crate) fn new(traces: &Traces, opener: &Opener) -> Self {
        let folder = traces.folder.display().to_string();
        let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&folder, "${dir}");
        let stdout = plain(&traces.stdout);
        let stderr = plain(&traces.stderr);
        let kind = classify(traces.ending, &stdout, &stderr);
        let changed = traces.changed.iter().map(|(name, entry)| {
            let left = match entry {
                Entry::File { mode, content } => Left::File {
                    mode: *mode,
                    text: opener.open(&plain(content)),
                },
                Entry::Link(target) => Left::Link(target.display().to_string()),
                Entry::Gone => Left::Gone,
            };
            (without_random_tail(name), left)
        });
        Self {
            ending: traces.ending,
            kind,
            error: error(kind, &stdout, &stderr),
            stdout: opener.open(&stdout),
            changed: changed.collect(),
            stderr,
        }
    }
}

/// Temporary files end in digits of chance.
fn without_random_tail(name: &str) -> String {
    if !name.starts_with("tmp/") {
        return name.to_owned();
    }
    format!(
        "{}<random>",
        name.trim_end_matches(|c: char| c.is_ascii_digit())
    )
}

fn error(kind: Kind, stdout: &str, stderr: &str) -> Option<String> {
    if kind == Kind::Usage {
        return stdout
            .lines()
            .chain(stderr.lines())
            .last()
            .map(str::to_owned);
    }
    stderr
        .split_once("error: ")
        .map(|(_, text)| text.trim_end().to_owned())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "ended: {:?}, kind of error: {:?}",
            self.ending, self.kind
        )?;
        block(f, "stderr", &self.stderr)?;
        block(f, "stdout", &self.stdout)?;
        for (name, left) in &self.changed {
            match left {
                Left::File { mode, text } => {
                    block(f, &format!("file {name}, mode {mode:o}"), text)?
                }
                Left::Link(target) => writeln!(f, "file {name}: link to {target}")?,
                Left::Gone => writeln!(f, "file {name}: gone")?,
            }
        }
        Ok(())
    }
}

/// Long texts (usage pages, stack traces) by their two ends.
fn block(f: &mut fmt::Formatter<'_>, title: &str, text: &str) -> fmt::Result {
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return writeln!(f, "{title}: empty");
    }
    let line_end = if text.ends_with('\n') {
        ""
    } else {
        " (no line end at the end)"
    };
    writeln!(f, "{title}{line_end}:")?;
    let shown: Vec<&str> = if lines.len() > 60 {
        [&lines[..4], &["[…]"], &lines[lines.len() - 2..]].concat()
    } else {
        lines
    };
    shown.iter().try_for_each(|line| writeln!(f, "  | {line}"))
}
