//! Merges three versions of a file for Git, without a key.
//!
//! The items of a SealedSecret that is in both versions are merged one by one, by their keys; every other line is
//! merged as `git merge-file` does. Before the lines are merged, a unique token replaces the items of each object, so
//! the lines around them are compared as if the items were equal. The result is then parsed, and refused unless every
//! SealedSecret has exactly the merged items, each sealed for the place where it is: a wrong result is a conflict.
//!
//! | module | owns |
//! |---|---|
//! | `lines` | the merge of lines |
//! | `side` | the SealedSecrets and layout of one version; the same object in three versions |
//! | `items` | which items the merged object has |
//! | `entries` | the text of merged entries |
//! | `tokens` | the texts in which tokens replace entries and item annotations |
//! | `check` | whether a result without conflicts can be used |
//! | `render` | conflict markers |

mod check;
mod entries;
mod items;
mod lines;
mod render;
mod side;
#[cfg(test)]
mod tests;
mod tokens;

use side::Sides;
use tokens::Plan;

/// The largest file that is merged, in bytes. An API server refuses an object of 2 MB.
pub const MAX_BYTES: u64 = 8 << 20;

/// Three versions of a file.
#[derive(Debug, Clone, Copy)]
pub struct Versions<'a> {
    /// The common ancestor; empty if the file was added in both versions.
    pub base: &'a [u8],
    /// The version of the branch that is merged into.
    pub ours: &'a [u8],
    /// The version of the branch that is merged.
    pub theirs: &'a [u8],
}

/// How conflicts are marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The name of our version.
    pub ours: String,
    /// The name of their version.
    pub theirs: String,
    /// The number of characters of a marker.
    pub marker_len: usize,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            ours: "ours".to_owned(),
            theirs: "theirs".to_owned(),
            marker_len: 7,
        }
    }
}

/// A merged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The content of the file. Markers enclose conflicts, except those of a whole file.
    pub bytes: Vec<u8>,
    /// The conflicts; none if the file is merged.
    pub conflicts: Vec<Conflict>,
}

/// What has to be resolved manually.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// Both versions changed an item, or the comment of an item.
    Item {
        /// The namespace and name of the object.
        object: String,
        /// The key of the item.
        item: String,
        /// What our version did with the item.
        ours: Change,
        /// What their version did with the item.
        theirs: Change,
    },
    /// Markers enclose all items of an object.
    Object {
        /// The namespace and name of the object.
        object: String,
        /// Why its items cannot be merged.
        reason: String,
    },
    /// Both versions changed the same or adjacent lines.
    Lines(Vec<MarkedLines>),
    /// The result is our version of the file, without markers.
    File {
        /// Why it cannot be merged.
        reason: String,
    },
}

/// Lines of the result that a conflict takes up, including its markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedLines {
    /// The number of the first line; 1 is the first line of the file.
    pub first: usize,
    /// The number of the last line.
    pub last: usize,
}

/// What a version did with an item of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The item is new.
    Added,
    /// The item has another sealed value or comment.
    Changed,
    /// The item is gone.
    Removed,
}

/// Merges a file.
pub fn merge(versions: &Versions<'_>, labels: &Labels) -> Merge {
    if [versions.base, versions.ours, versions.theirs]
        .iter()
        .any(|bytes| is_binary(bytes))
    {
        return keep_ours(versions, "it is not a text file");
    }
    let Some(sides) = Sides::read(versions).filter(Sides::have_objects) else {
        return tokens::assemble(versions, &[], labels);
    };
    let mut plans = tokens::plan(&sides, labels);
    let merged = tokens::assemble(versions, &plans, labels);
    if !merged.conflicts.is_empty() {
        return merged;
    }
    match check::finish(&sides, &plans, &merged.bytes) {
        Ok(bytes) => Merge {
            bytes,
            conflicts: Vec::new(),
        },
        Err(problem) => mark_object(versions, &sides, &mut plans, problem, labels),
    }
}

/// Marks all items of an object as a conflict; if that is not possible, keeps our version of the file.
fn mark_object(
    versions: &Versions<'_>,
    sides: &Sides<'_>,
    plans: &mut [Plan<'_>],
    problem: check::Problem,
    labels: &Labels,
) -> Merge {
    let plan = plans
        .iter_mut()
        .find(|plan| Some(plan.object()) == problem.object.as_deref());
    if let Some(plan) = plan {
        plan.refuse(sides, &problem.reason, labels);
        let marked = tokens::assemble(versions, plans, labels);
        if !marked.conflicts.is_empty() {
            return marked;
        }
    }
    let object = problem.object.map(|object| format!("{object}: "));
    keep_ours(
        versions,
        &format!("{}{}", object.unwrap_or_default(), problem.reason),
    )
}

fn keep_ours(versions: &Versions<'_>, reason: &str) -> Merge {
    Merge {
        bytes: versions.ours.to_vec(),
        conflicts: vec![Conflict::File {
            reason: reason.to_owned(),
        }],
    }
}

/// The number of bytes in which Git looks for a zero byte.
const SAMPLE_LEN: usize = 8000;

/// Returns whether Git treats the content as binary.
fn is_binary(bytes: &[u8]) -> bool {
    memchr::memchr(0, &bytes[..bytes.len().min(SAMPLE_LEN)]).is_some()
}
