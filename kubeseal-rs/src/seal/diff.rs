//! `seal diff`: the changes of sealed items between two states of a Git tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use gix::ObjectId;
use kubeseal_library::environment::Environment;
use kubeseal_library::format::write;
use kubeseal_library::git::{self, GitError, Repository};
use kubeseal_library::walk::{self, Kind, ManifestFile, PassedOver, WalkError};
use serde_json::{Value as Json, json};
use shared::resource::SecretTemplate;
use shared::scope::Scope;
use zeroize::Zeroizing;

use super::object::Object;
use super::{Outcome, print};
use crate::report::{self, Paint, ShowPath as _, path_text, shown};
use crate::seal_args::Diff;

/// An argument or a work tree that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The current folder is not in a Git work tree.
    #[error("not a Git work tree; diff compares with a commit")]
    NoTree,
    /// The repository has no commit yet.
    #[error("no commit yet to compare with")]
    NoCommit,
    /// An argument that is neither a revision nor a file.
    #[error("{0:?} is neither a revision nor a file")]
    NoSuchWord(PathBuf),
    /// A path in another repository, such as a submodule, with the root of that repository.
    #[error(
        "{} lies in another repository, {}; run `seal diff` there",
        .0.shown(), .1.shown()
    )]
    OtherRepository(PathBuf, PathBuf),
}

/// A change of an item, or of the object itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The name of the item, or `None` for a change of the object.
    pub item: Option<String>,
    /// The kind of change.
    pub what: What,
}

/// The kind of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The item or object is new.
    Added,
    /// The item or object was removed.
    Removed,
    /// The item was re-encrypted, possibly with another value.
    Changed,
    /// The item was re-encrypted for another key, according to its hints: old and new fingerprint.
    Rekeyed(String, String),
    /// The scope changed: old and new scope.
    Rescoped(String, String),
    /// The template changed.
    Template,
    /// The file cannot be read, with the reason.
    Unreadable(String),
}

/// Runs the command.
///
/// # Errors
///
/// The current folder is not in a work tree, or an argument is neither a revision nor a file.
pub fn run(args: &Diff, environment: &Environment) -> Result<Outcome> {
    let here = std::env::current_dir()?.canonicalize()?;
    let repository = match Repository::around(&here) {
        Err(GitError::NoRepository(_)) => return Err(DiffError::NoTree.into()),
        repository => repository?,
    };
    let root = repository.root();
    let Compared { from, to, paths } = compared(args, &here, &repository)?;
    let mut changes: Vec<(String, String, Vec<Change>)> = Vec::new();
    for file in changed_files(&repository, from, to, &paths)? {
        let old = repository.file_at(from, &file)?;
        let new = match to {
            Some(to) => repository.file_at(to, &file)?,
            None => repository.in_work_tree(&file),
        };
        let path = path_from(root, &here, &file);
        changes.extend(
            compare_files(old, new)
                .into_iter()
                .map(|(place, found)| (path.clone(), place, found)),
        );
    }
    let text = match args.output {
        Some(format) => write(&[facts(&changes)], format),
        None => Zeroizing::new(text(&changes, Paint::for_stdout(environment)).into_bytes()),
    };
    print(&text)?;
    let unread = changes.iter().flat_map(|(_, _, changes)| changes);
    PassedOver::check(unread.filter(|change| change.what.is_unreadable()).count())?;
    if changes.is_empty() {
        report::say("no sealed item differs");
        return Ok(Outcome::Done);
    }
    Ok(if args.exit_code {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

/// The two states and the paths to compare.
struct Compared {
    from: ObjectId,
    /// `None` for the work tree.
    to: Option<ObjectId>,
    /// Absolute paths; all files if empty.
    paths: Vec<PathBuf>,
}

fn compared(args: &Diff, here: &Path, repository: &Repository) -> Result<Compared> {
    let mut paths: Vec<PathBuf> = args.args.iter().map(PathBuf::from).collect();
    let mut revision = None;
    // A revision is valid UTF-8; a path may not be.
    if let Some(first) = args.args.first().and_then(|first| first.to_str()) {
        let is_file = here.join(first).exists();
        if (!is_file || args.paths.is_empty() && first.contains(".."))
            && let Some(ends) = ends(repository, first)
        {
            revision = Some(ends);
            paths.remove(0);
        }
    }
    let head = || ends(repository, "HEAD");
    let (from, to) = revision.or_else(head).ok_or(DiffError::NoCommit)?;
    for path in &paths {
        let whole = here.join(path);
        // A removed file may still exist in a commit.
        if !whole.exists() && !repository.knew(&whole)? {
            return Err(DiffError::NoSuchWord(path.clone()).into());
        }
    }
    paths.extend(args.paths.iter().cloned());
    let paths: Vec<PathBuf> = paths.iter().map(|path| here.join(path)).collect();
    for path in &paths {
        refuse_other_repository(path, repository.root())?;
    }
    Ok(Compared { from, to, paths })
}

/// Rejects a path in another repository, such as a submodule. This repository does not track its files, and would
/// report no difference.
fn refuse_other_repository(path: &Path, root: &Path) -> Result<(), DiffError> {
    let there = path.ancestors().find(|above| above.is_dir());
    let there = there.and_then(|folder| folder.canonicalize().ok());
    match there.as_deref().and_then(git::work_tree) {
        Some(other) if other != root => Err(DiffError::OtherRepository(path.to_owned(), other)),
        _ => Ok(()),
    }
}

/// Returns both commits of `A..B`, or the commit of a single revision.
fn ends(repository: &Repository, revision: &str) -> Option<(ObjectId, Option<ObjectId>)> {
    let commit = |name: &str| repository.commit(if name.is_empty() { "HEAD" } else { name });
    match revision.split_once("..") {
        Some((from, to)) => Some((commit(from)?, Some(commit(to)?))),
        None => Some((commit(revision)?, None)),
    }
}

/// Returns the paths of the changed files, relative to the root of the work tree.
fn changed_files(
    repository: &Repository,
    from: ObjectId,
    to: Option<ObjectId>,
    paths: &[PathBuf],
) -> Result<BTreeSet<PathBuf>, GitError> {
    let mut changed = match to {
        Some(to) => repository.differing(from, to)?,
        None => repository.differing_from_work_tree(from)?,
    };
    if !paths.is_empty() {
        let inside = paths.iter().map(|path| repository.inside_work_tree(path));
        let wanted: Vec<PathBuf> = inside.flatten().collect();
        changed.retain(|file| wanted.iter().any(|path| file.starts_with(path)));
    }
    Ok(changed)
}

fn path_from(root: &Path, here: &Path, file: &Path) -> String {
    let whole = root.join(file);
    let path = whole.strip_prefix(here).unwrap_or(file);
    path_text(path.as_os_str()).into_owned()
}

/// Returns the changes of each object that differs, with its namespace and name.
fn compare_files(
    old: Option<Zeroizing<Vec<u8>>>,
    new: Option<Zeroizing<Vec<u8>>>,
) -> Vec<(String, Vec<Change>)> {
    let (old, new) = match (objects(old), objects(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (_, Err(why)) => return unreadable(why),
        (Err(why), _) => return unreadable(format!("in the older state: {why}")),
    };
    let places: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes = places
        .into_iter()
        .map(|place| (place.clone(), compare(old.get(place), new.get(place))));
    changes.filter(|(_, changes)| !changes.is_empty()).collect()
}

fn unreadable(why: String) -> Vec<(String, Vec<Change>)> {
    let what = What::Unreadable(why);
    vec![(String::new(), vec![Change { item: None, what }])]
}

/// Returns the objects of a file by namespace and name, or the reason why they cannot be read. A file that cannot
/// contain a SealedSecret has no objects, even if it is malformed.
fn objects(bytes: Option<Zeroizing<Vec<u8>>>) -> Result<BTreeMap<String, Object>, String> {
    let Some(bytes) = bytes else {
        return Ok(BTreeMap::new());
    };
    let is_mentioned = walk::mentions(&bytes, Kind::SealedSecret);
    if !is_mentioned && !walk::may_hide_kind(&bytes) {
        return Ok(BTreeMap::new());
    }
    let doubtful = (!is_mentioned).then(|| bytes.clone());
    let may_hold = || doubtful.is_none_or(|bytes| walk::hides(&bytes, Kind::SealedSecret));
    let file = match ManifestFile::parse(Path::new(""), bytes) {
        Ok(file) => file,
        Err(WalkError::Malformed { source, .. }) if may_hold() => return Err(source.to_string()),
        Err(_) => return Ok(BTreeMap::new()),
    };
    let read = |node| Object::read(node).map_err(|error| shared::error_chain(error.as_ref()));
    let objects = file.of_kind(Kind::SealedSecret).map(read);
    objects
        .map(|object| object.map(|object| (object.sealed.place(), object)))
        .collect()
}

/// Returns the changes between two versions of an object.
pub fn compare(old: Option<&Object>, new: Option<&Object>) -> Vec<Change> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(_)) => {
            return vec![Change {
                item: None,
                what: What::Added,
            }];
        }
        (Some(_), None) => {
            return vec![Change {
                item: None,
                what: What::Removed,
            }];
        }
        (None, None) => return Vec::new(),
    };
    let mut changes = Vec::new();
    if old.scope != new.scope {
        let what = What::Rescoped(old.scope.to_string(), new.scope.to_string());
        changes.push(Change { item: None, what });
    }
    let keys: BTreeSet<&String> = old.texts().keys().chain(new.texts().keys()).collect();
    for key in keys {
        let what = match (old.texts().get(key), new.texts().get(key)) {
            (None, _) => What::Added,
            (_, None) => What::Removed,
            (Some(old_text), Some(new_text)) if old_text != new_text => {
                match (old.hints.get(key), new.hints.get(key)) {
                    (Some(from), Some(to)) if from != to => {
                        What::Rekeyed(from.to_string(), to.to_string())
                    }
                    _ => What::Changed,
                }
            }
            _ => continue,
        };
        changes.push(Change {
            item: Some(key.clone()),
            what,
        });
    }
    if template(old) != template(new) {
        changes.push(Change {
            item: None,
            what: What::Template,
        });
    }
    changes
}

/// Returns the template without its copy of the scope, because [`What::Rescoped`] already reports the scope.
fn template(object: &Object) -> SecretTemplate {
    let mut template = object.sealed.spec.template.clone();
    if let Some(annotations) = &mut template.metadata.annotations {
        Scope::Strict.annotate(annotations);
        if annotations.is_empty() {
            template.metadata.annotations = None;
        }
    }
    template
}

impl What {
    fn word(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Rekeyed(..) => "rekeyed",
            Self::Rescoped(..) => "rescoped",
            Self::Template => "template changed",
            Self::Unreadable(_) => "unreadable",
        }
    }

    fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }

    fn ends(&self) -> Option<(&str, &str)> {
        match self {
            Self::Rekeyed(from, to) | Self::Rescoped(from, to) => Some((from, to)),
            _ => None,
        }
    }
}

fn text(changes: &[(String, String, Vec<Change>)], paint: Paint) -> String {
    let mut text = String::new();
    for (file, place, changes) in changes {
        let colon = if place.is_empty() { "" } else { ": " };
        text.extend([format!("{}{colon}{}\n", shown(file), shown(place))]);
        for Change { item, what } in changes {
            let mark = match what {
                What::Added => paint.green("+"),
                What::Removed => paint.red("-"),
                _ => paint.yellow("~"),
            };
            let item = item.as_deref().unwrap_or("(the object)");
            let ends = match what {
                What::Unreadable(why) => Some(format!(": {}", shown(why))),
                what => what
                    .ends()
                    .map(|(from, to)| format!(" from {from} to {to}")),
            };
            text.extend([format!(
                "  {mark} {} {}{}\n",
                shown(item),
                what.word(),
                ends.unwrap_or_default()
            )]);
        }
    }
    text
}

fn facts(changes: &[(String, String, Vec<Change>)]) -> Json {
    let change = |Change { item, what }: &Change| {
        let mut json = json!({"item": item, "change": what.word()});
        if let Some((from, to)) = what.ends() {
            json["from"] = from.into();
            json["to"] = to.into();
        }
        if let What::Unreadable(why) = what {
            json["problem"] = why.as_str().into();
        }
        json
    };
    let object = |(file, place, changes): &(String, String, Vec<Change>)| json!({"file": file, "object": place, "changes": changes.iter().map(change).collect::<Json>()});
    json!({"changed": changes.iter().map(object).collect::<Json>()})
}

#[cfg(test)]
mod tests {
    use shared::manifest;

    use super::*;

    fn object(annotations: &str, items: &str, template: &str) -> Object {
        let yaml = format!(
            "metadata: {{name: n, annotations: {{{annotations}}}}}\nspec:\n  encryptedData: {{{items}}}\n  template: {{{template}}}\n"
        );
        Object::read(&manifest::read(yaml.as_bytes()).unwrap()[0].root).unwrap()
    }

    fn args(old: &Object, new: &Object) -> Vec<String> {
        let word = |c: Change| format!("{}:{}", c.item.unwrap_or_default(), c.what.word());
        compare(Some(old), Some(new))
            .into_iter()
            .map(word)
            .collect()
    }

    #[test]
    fn reports_the_change_of_each_item() {
        let hint = |c: &str| {
            format!(
                "sealedsecrets.bitnami.com/key-hints: '{{\"a\":\"SHA256:{}\"}}'",
                c.repeat(42) + "A"
            )
        };
        let plain = object("", "a: x, b: y", "");
        for (why, new, want) in [
            ("nothing", object("", "a: x, b: y", ""), vec![]),
            (
                "an item more and one less",
                object("", "a: x, c: z", ""),
                vec!["b:removed", "c:added"],
            ),
            (
                "another ciphertext",
                object("", "a: z, b: y", ""),
                vec!["a:changed"],
            ),
            (
                "a wider scope",
                object(
                    "sealedsecrets.bitnami.com/cluster-wide: 'true'",
                    "a: x, b: y",
                    "",
                ),
                vec![":rescoped"],
            ),
            (
                "a template",
                object("", "a: x, b: y", "type: t"),
                vec![":template changed"],
            ),
        ] {
            assert_eq!(args(&plain, &new), want, "{why}");
        }
        let (old, new) = (
            object(&hint("A"), "a: x", ""),
            object(&hint("B"), "a: y", ""),
        );
        assert_eq!(args(&old, &new), ["a:rekeyed"]);
        assert_eq!(compare(None, Some(&plain))[0].what, What::Added);
    }
}
