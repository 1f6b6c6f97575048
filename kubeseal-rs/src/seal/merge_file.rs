//! `seal merge-file`: the merge driver that Git runs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use kubeseal_library::files;
use kubeseal_library::merge::{self, Change, Conflict, Labels, MAX_BYTES, MarkedLines, Versions};

use super::Outcome;
use crate::failure::Failure;
use crate::report::{self, ShowPath as _, shown};

/// Arguments of `seal merge-file`.
#[derive(Debug, Args)]
#[command(after_help = "\
Git runs this command after `seal hook install --merge`. Exit code 1 means conflicts, as in a driver of Git.

Examples:
  seal merge-file base.yaml ours.yaml theirs.yaml")]
pub struct MergeFile {
    /// The common ancestor
    pub base: PathBuf,
    /// Our version; replaced by the result
    pub ours: PathBuf,
    /// Their version
    pub theirs: PathBuf,
    /// Path of the file in the repository, for messages
    #[arg(long, value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// Number of characters of a conflict marker
    #[arg(long, value_name = "NUMBER", default_value_t = 7)]
    pub marker_size: usize,
    /// Name of our version
    #[arg(long, value_name = "NAME")]
    pub ours_label: Option<String>,
    /// Name of their version
    #[arg(long, value_name = "NAME")]
    pub theirs_label: Option<String>,
}

/// The longest marker: an attribute of the repository sets the number of characters.
const MAX_MARKER_LEN: usize = 100;

/// Merges three versions of a file, and writes the result to our version.
///
/// # Errors
///
/// Fails if a version cannot be read or is above the size limit, or the result cannot be written. In that case, our
/// version is unchanged; the command that `seal hook install` configures then merges the lines, and reports a conflict.
pub fn run(args: &MergeFile) -> Result<Outcome> {
    if args.ours.is_symlink() {
        // Git passes temporary files.
        let message = format!(
            "{} is a symbolic link, which is not followed",
            args.ours.shown()
        );
        bail!(Failure::new(message).hint("pass the file itself"));
    }
    let [base, ours, theirs] =
        [&args.base, &args.ours, &args.theirs].map(|path| files::read_regular(path, MAX_BYTES));
    let (base, ours, theirs) = (base?, ours?, theirs?);
    let versions = Versions {
        base: &base,
        ours: &ours,
        theirs: &theirs,
    };
    let labels = labels(args);
    let merged = merge::merge(&versions, &labels);
    if merged.bytes != *ours {
        // Git chose the path, and replaces the file of the user with the result.
        files::replace_regular(&args.ours, &merged.bytes)?;
    }
    let path = args.path.as_ref().unwrap_or(&args.ours).shown();
    let theirs = theirs_command(args);
    for conflict in &merged.conflicts {
        report::info(&format!("{path}: {}", text(conflict, &labels, &theirs)));
    }
    Ok(if merged.conflicts.is_empty() {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

/// Returns the labels of the markers. Git before 2.44 passes the placeholders of names unchanged.
fn labels(args: &MergeFile) -> Labels {
    let default = Labels::default();
    let label = |label: &Option<String>, default: String| {
        let label = label
            .as_ref()
            .filter(|label| !label.is_empty() && !label.starts_with('%'));
        label.map_or(default, |label| shown(label).into_owned())
    };
    Labels {
        ours: label(&args.ours_label, default.ours),
        theirs: label(&args.theirs_label, default.theirs),
        marker_len: args.marker_size.clamp(1, MAX_MARKER_LEN),
    }
}

/// Returns a command that prints their version: from the index, in which Git keeps it until the conflict is resolved, in
/// a merge, rebase, cherry-pick, revert or stash.
fn theirs_command(args: &MergeFile) -> String {
    let words = match &args.path {
        Some(path) => ["git", "show", &format!(":3:{}", path.shown())]
            .map(str::to_owned)
            .to_vec(),
        None => vec!["cat".to_owned(), args.theirs.shown()],
    };
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| "git diff".to_owned())
}

/// The maximum number of line ranges that a message names.
const MAX_NAMED_RANGES: usize = 5;

/// Describes the lines with markers of the result.
fn lines_text(lines: &[MarkedLines]) -> String {
    let named = lines.iter().take(MAX_NAMED_RANGES);
    let named: Vec<String> = named
        .map(|lines| format!("{} to {}", lines.first, lines.last))
        .collect();
    let further = match lines.len().saturating_sub(MAX_NAMED_RANGES) {
        0 => String::new(),
        count => format!(", and in {count} more places"),
    };
    let named = named.join(", ");
    format!("conflict in lines {named} of the merged file{further}")
}

/// Describes a conflict. `theirs_command` prints their version.
fn text(conflict: &Conflict, labels: &Labels, theirs_command: &str) -> String {
    match conflict {
        Conflict::Item {
            object,
            item,
            ours,
            theirs,
        } => format!(
            "conflict: the item {} of {} is {} in {} and {} in {}; keep one of the two values and remove the markers; \
             if neither is right, set the item again with `seal set` afterwards",
            shown(item),
            shown(object),
            change(*ours),
            labels.ours,
            change(*theirs),
            labels.theirs
        ),
        Conflict::Object { object, reason } => format!(
            "conflict: all items of {}: {}; keep those of one version, and repeat the change of the other",
            shown(object),
            shown(reason)
        ),
        Conflict::Lines(lines) => lines_text(lines),
        Conflict::File { reason } => format!(
            "conflict: the file contains only the version of {}, without markers: {}; `git add` now would lose the \
             version of {}, which `{theirs_command}` prints: repeat its change",
            labels.ours,
            shown(reason),
            labels.theirs
        ),
    }
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Changed => "changed",
        Change::Removed => "removed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(label: &str, marker_size: usize) -> MergeFile {
        let path = PathBuf::new;
        MergeFile {
            base: path(),
            ours: path(),
            theirs: path(),
            path: None,
            marker_size,
            ours_label: Some(label.to_owned()),
            theirs_label: None,
        }
    }

    /// Attack: a committer sets the attribute `conflict-marker-size` to a huge number, or names a branch such that a
    /// label begins a line or controls the terminal.
    #[test]
    fn labels_and_markers_are_bounded() {
        let labels = |label, size| labels(&args(label, size));
        assert_eq!(labels("main", 7).ours, "main");
        assert_eq!(labels("%X", 7).ours, "ours");
        assert_eq!(labels("a\n\u{1b}", 7).ours, "a\\n\\u{1b}");
        assert_eq!(labels("a", usize::MAX).marker_len, MAX_MARKER_LEN);
        assert_eq!(labels("a", 0).marker_len, 1);
    }

    #[test]
    fn names_the_item_and_both_versions() {
        let conflict = Conflict::Item {
            object: "shop/db".to_owned(),
            item: "password".to_owned(),
            ours: Change::Changed,
            theirs: Change::Removed,
        };
        let text = text(&conflict, &Labels::default(), "");
        assert!(
            text.starts_with(
                "conflict: the item password of shop/db is changed in ours and removed in theirs;"
            ),
            "{text}"
        );
    }

    #[test]
    fn names_the_marked_lines_and_limits_their_number() {
        let lines = |count| {
            let lines = (0..count).map(|i| MarkedLines {
                first: 10 * i + 4,
                last: 10 * i + 9,
            });
            lines_text(&lines.collect::<Vec<_>>())
        };
        assert_eq!(lines(1), "conflict in lines 4 to 9 of the merged file");
        assert_eq!(
            lines(2),
            "conflict in lines 4 to 9, 14 to 19 of the merged file"
        );
        assert!(lines(9).ends_with(" 44 to 49 of the merged file, and in 4 more places"));
    }

    #[test]
    fn names_a_command_that_prints_the_other_version() {
        let mut args = args("main", 7);
        args.theirs = PathBuf::from("theirs.yaml");
        assert_eq!(theirs_command(&args), "cat theirs.yaml");
        args.path = Some(PathBuf::from("a b/db.yaml"));
        let command = theirs_command(&args);
        assert_eq!(
            shlex::split(&command).unwrap(),
            ["git", "show", ":3:a b/db.yaml"]
        );
        let conflict = Conflict::File {
            reason: "it is not a text file".to_owned(),
        };
        let text = text(&conflict, &Labels::default(), &command);
        assert!(
            text.contains("`git add` now would lose the version of theirs"),
            "{text}"
        );
    }
}
