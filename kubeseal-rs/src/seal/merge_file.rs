//! `seal merge-file`: the merge driver that Git runs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use kubeseal_library::files;
use kubeseal_library::merge::{self, Change, Conflict, Labels, MAX_BYTES, Versions};

use super::Outcome;
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
/// version is unchanged, and Git reports a conflict.
pub fn run(args: &MergeFile) -> Result<Outcome> {
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
    for conflict in &merged.conflicts {
        report::info(&format!("{path}: {}", text(conflict, &labels)));
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

/// Describes a conflict.
fn text(conflict: &Conflict, labels: &Labels) -> String {
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
        Conflict::Lines(1) => "conflict: one place outside of items".to_owned(),
        Conflict::Lines(count) => format!("conflict: {count} places outside of items"),
        Conflict::File { reason } => format!(
            "conflict: the file contains only the version of {}, without markers: {}; repeat the change of {}",
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
        let text = text(&conflict, &Labels::default());
        assert!(
            text.starts_with(
                "conflict: the item password of shop/db is changed in ours and removed in theirs;"
            ),
            "{text}"
        );
    }
}
