//! Finds the files that differ between two states of a repository and its submodules, and compares their objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use kubeseal_library::git::{Differences, GitError, Repository, Submodule};
use kubeseal_library::loose;
use kubeseal_library::walk::{self, Kind, ManifestFile, WalkError};
use shared::error_chain;
use shared::resource::SealedSecret;
use zeroize::Zeroizing;

use super::moves::{self, Difference, OneSided};
use super::selection::path_from;
use super::{Change, ChangeKind, compare};
use crate::report::{self, path_text};
use crate::seal::object::Object;

/// The absolute path of the file of an object; the namespace and name of the object; and its changes.
pub(super) type Changed = (PathBuf, String, Vec<Change>);

/// The content of a file in one state, `None` if there is no file, or the reason why it cannot be read.
type FileContent = Result<Option<Zeroizing<Vec<u8>>>, String>;

/// The maximum nesting depth of submodules. A repository can be a submodule of itself.
const MAX_DEPTH: usize = 32;

/// A comparison of all files, or of the files below some paths.
pub(super) struct Comparison<'a> {
    /// Absolute paths; all files if empty.
    paths: &'a [PathBuf],
    /// The current directory. Paths in messages are relative to it.
    current_dir: &'a Path,
}

impl<'a> Comparison<'a> {
    /// Creates a comparison of everything below these absolute paths, or of all files if there are none.
    pub(super) fn new(paths: &'a [PathBuf], current_dir: &'a Path) -> Self {
        Self { paths, current_dir }
    }

    /// Returns the changes from an older state to a newer state. Without `from`, the older state is empty; without
    /// `to`, the newer state is the work tree. Unreadable files are included, with the reason.
    ///
    /// # Errors
    ///
    /// Fails if the repository cannot be read.
    pub(super) fn run(
        &self,
        repository: &Repository,
        from: Option<ObjectId>,
        to: Option<ObjectId>,
    ) -> Result<Vec<Changed>, GitError> {
        let differences = self.run_at(0, repository, from, to)?;
        Ok(moves::changes(&differences, self.current_dir))
    }

    /// Returns the differences in a repository. `depth` is the nesting depth of a submodule; 0 for the outermost
    /// repository.
    fn run_at(
        &self,
        depth: usize,
        repository: &Repository,
        from: Option<ObjectId>,
        to: Option<ObjectId>,
    ) -> Result<Vec<Difference>, GitError> {
        let differing = match to {
            Some(to) => repository.differences(from, to)?,
            None => repository.differences_from_work_tree(from)?,
        };
        self.report_nested(repository, &differing);
        let Differences {
            files,
            unlisted,
            skipped,
            ..
        } = differing;
        let current_content = |file: &Path| match skipped.get(file) {
            Some(id) => repository
                .blob(*id)
                .map(Some)
                .map_err(|error| error_chain(&error)),
            None => repository.read_in_work_tree(file),
        };
        let compare_file = |file: &Path, is_selected| {
            let content_at = |commit| {
                let content = repository.file_at(commit, file);
                content.map_err(|error| error_chain(&error))
            };
            let old = from.map_or(Ok(None), content_at);
            let new = to.map_or_else(|| current_content(file), content_at);
            compare_files(&repository.root().join(file), is_selected, old, new)
        };
        let (selected, others): (Vec<PathBuf>, Vec<PathBuf>) = files
            .into_iter()
            .partition(|file| self.includes(&repository.root().join(file)));
        let compared = selected.iter().flat_map(|file| compare_file(file, true));
        let mut changed: Vec<Difference> = compared.collect();
        // The counterpart of an added or removed object may be in a file that the user did not select.
        if changed.iter().any(Difference::is_one_sided) {
            let compared = others.iter().flat_map(|file| compare_file(file, false));
            changed.extend(compared.filter(Difference::is_one_sided));
        }
        for (directory, why) in unlisted {
            let path = repository.root().join(directory);
            if self.may_include_below(&path) {
                changed.push(unreadable_at(path, why));
            }
        }
        for module in repository.submodules(from, to)? {
            let path = repository.root().join(&module.path);
            if self.may_include_below(&path) {
                let inner = self.in_submodule(depth + 1, repository, &module, to.is_none());
                changed.extend(inner.unwrap_or_else(|why| vec![unreadable_at(path, why)]));
            }
        }
        Ok(changed)
    }

    /// Reports the nested repositories that are not compared.
    fn report_nested(&self, repository: &Repository, differing: &Differences) {
        let nested = differing.nested.iter();
        let nested = nested.map(|directory| repository.root().join(directory));
        for directory in nested.filter(|directory| self.includes(directory)) {
            let path = path_from(self.current_dir, &directory);
            report::info(&format!(
                "{path} is another Git repository and not a submodule, so it is not compared; pass its path to compare it"
            ));
        }
    }

    fn includes(&self, path: &Path) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|selected| path.starts_with(selected))
    }

    fn may_include_below(&self, directory: &Path) -> bool {
        self.includes(directory)
            || self
                .paths
                .iter()
                .any(|selected| selected.starts_with(directory))
    }

    /// Returns the differences in a submodule since the commit that the older state of `outer` records. Returns no
    /// difference for an unchanged submodule that is neither checked out nor selected by the user.
    ///
    /// # Errors
    ///
    /// Returns the reason why the submodule cannot be compared.
    fn in_submodule(
        &self,
        depth: usize,
        outer: &Repository,
        module: &Submodule,
        in_work_tree: bool,
    ) -> Result<Vec<Difference>, String> {
        if depth > MAX_DEPTH {
            return Err(format!(
                "submodules are nested more than {MAX_DEPTH} levels deep"
            ));
        }
        let path = path_text(module.path.as_os_str());
        let Some(after) = module.after else {
            return Err("the submodule was removed, and its older files are not compared".into());
        };
        let update = || {
            let root = path_text(outer.root().as_os_str());
            format!("run `git submodule update --init -- {path}` in {root}")
        };
        let submodule = outer.submodule(&module.path).map_err(|error| {
            let why = error_chain(&error);
            format!(
                "{why}; if its repository is lost, move its directory away and {}",
                update()
            )
        });
        let Some(inner) = submodule? else {
            let directory = outer.root().join(&module.path);
            if in_work_tree && has_files(&directory) {
                return Err(format!(
                    "the submodule is not checked out, but its directory contains files, which are not compared; move them \
                     away and {}",
                    update()
                ));
            }
            if module.before != module.after {
                return Err(format!(
                    "the commit of the submodule differs, and the submodule is not checked out; {} first",
                    update()
                ));
            }
            if self.paths.iter().any(|path| path.starts_with(&directory)) {
                return Err(format!(
                    "the submodule is not checked out; {} first",
                    update()
                ));
            }
            return Ok(Vec::new());
        };
        let to = (!in_work_tree).then_some(after);
        let mut needed = module.before.into_iter().chain(to);
        if let Some(commit) = needed.find(|commit| !inner.has_commit(*commit)) {
            return Err(format!(
                "the submodule lacks its commit {commit}; run `git fetch` in {} first",
                path_text(inner.root().as_os_str())
            ));
        }
        let changes = self.run_at(depth, &inner, module.before, to);
        changes.map_err(|error| error_chain(&error))
    }
}

/// Returns whether this is a non-empty directory, and not a symbolic link.
fn has_files(directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).into_iter().flatten();
    !directory.is_symlink() && entries.next().is_some()
}

fn unreadable_at(path: PathBuf, why: String) -> Difference {
    of_file(path, ChangeKind::Unreadable(why))
}

fn of_file(path: PathBuf, kind: ChangeKind) -> Difference {
    Difference::InPlace((path, String::new(), vec![Change { item: None, kind }]))
}

/// The sealed values in one state of a file.
#[derive(Default)]
struct State {
    /// The SealedSecrets by namespace and name.
    objects: BTreeMap<String, Object>,
    /// Whether the file contains sealed values outside of these objects.
    has_other_values: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && !self.has_other_values
    }
}

/// Returns a difference for each object that differs, and one for the file if not all of its sealed values can be
/// compared.
fn compare_files(
    path: &Path,
    is_selected: bool,
    old: FileContent,
    new: FileContent,
) -> Vec<Difference> {
    let in_older_state = |why| format!("in the older state: {why}");
    let old = old.map_err(in_older_state);
    let old = old.and_then(|old| state(path, old).map_err(in_older_state));
    // The content of an unreadable file is unknown, so its name or its older content decides whether it is reported.
    let may_contain =
        walk::is_manifest_name(path) || old.as_ref().map_or(true, |old| !old.is_empty());
    let new = match new {
        Err(_) if !may_contain => return Vec::new(),
        new => new.and_then(|new| state(path, new)),
    };
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (_, Err(why)) | (Err(why), _) => return vec![unreadable_at(path.to_owned(), why)],
    };
    let has_other_values = old.has_other_values || new.has_other_values;
    let not_compared = has_other_values.then(|| of_file(path.to_owned(), ChangeKind::NotCompared));
    let objects = compare_objects(path, is_selected, old.objects, new.objects);
    not_compared.into_iter().chain(objects).collect()
}

fn compare_objects(
    path: &Path,
    is_selected: bool,
    mut old: BTreeMap<String, Object>,
    mut new: BTreeMap<String, Object>,
) -> Vec<Difference> {
    let object_names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    let difference = |object_name: String| {
        let (old, new) = (old.remove(&object_name), new.remove(&object_name));
        let is_added = old.is_none();
        let object = match (old, new) {
            (Some(old), Some(new)) => {
                let changes = compare(Some(&old), Some(&new));
                return (!changes.is_empty())
                    .then(|| Difference::InPlace((path.to_owned(), object_name, changes)));
            }
            (old, new) => old.or(new)?,
        };
        Some(Difference::OneSided(Box::new(OneSided {
            path: path.to_owned(),
            object_name,
            object,
            is_added,
            is_selected,
        })))
    };
    object_names.into_iter().filter_map(difference).collect()
}

/// Returns the sealed values in a file.
///
/// # Errors
///
/// Returns the reason why a file cannot be read if it has the name of a manifest and mentions SealedSecrets, or if it
/// contains a well-formed SealedSecret. Any other malformed file counts as a file without objects.
fn state(file: &Path, bytes: Option<Zeroizing<Vec<u8>>>) -> Result<State, String> {
    let Some(bytes) = bytes else {
        return Ok(State::default());
    };
    let without_objects = State {
        objects: BTreeMap::new(),
        has_other_values: loose::first_line(&bytes).is_some(),
    };
    let is_mentioned = walk::mentions(&bytes, Kind::SealedSecret);
    if !is_mentioned && !walk::may_hide_kind(&bytes) {
        return Ok(without_objects);
    }
    let is_sure = is_mentioned && walk::is_manifest_name(file);
    let doubtful_bytes = (!is_sure).then(|| bytes.clone());
    let may_contain = || {
        doubtful_bytes.is_none_or(|bytes| walk::has_well_formed_object(&bytes, Kind::SealedSecret))
    };
    let file = match ManifestFile::parse(file, bytes) {
        Ok(file) => file,
        Err(WalkError::Malformed { source, .. }) if may_contain() => return Err(source.to_string()),
        Err(WalkError::Repeated { source, .. }) => return Err(source.problem()),
        Err(_) => return Ok(without_objects),
    };
    let read = |node| Object::read(node).map_err(|error| error_chain(error.as_ref()));
    let mut objects = BTreeMap::new();
    for object in file.of_kind(Kind::SealedSecret).map(read) {
        let object = object?;
        insert(&mut objects, &object.sealed.qualified_name(), object);
    }
    let sealed: Vec<&SealedSecret> = objects.values().map(|object| &object.sealed).collect();
    let has_other_values = loose::first_line_beside(&file.bytes, &sealed).is_some();
    Ok(State {
        objects,
        has_other_values,
    })
}

/// Inserts an object under its namespace and name. A further object of the same name gets a number: a cluster uses the
/// last one, and a reviewer has to see all of them.
fn insert(objects: &mut BTreeMap<String, Object>, object_name: &str, object: Object) {
    let mut unique_name = object_name.to_owned();
    let mut number = 1;
    while objects.contains_key(&unique_name) {
        number += 1;
        unique_name = format!("{object_name} (number {number} of this name)");
    }
    objects.insert(unique_name, object);
}
