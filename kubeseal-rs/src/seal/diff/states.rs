//! Finds the files that differ between two states of a repository and its submodules, and compares their objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use kubeseal_library::git::{Differences, GitError, Repository, Submodule};
use kubeseal_library::walk::{self, Kind, ManifestFile, WalkError};
use shared::error_chain;
use zeroize::Zeroizing;

use super::selection::path_from;
use super::{Change, ChangeKind, compare};
use crate::report::{self, path_text};
use crate::seal::object::Object;

/// The absolute path of the file of an object; the namespace and name of the object; and its changes.
pub(super) type Changed = (PathBuf, String, Vec<Change>);

/// The content of a file in one state, `None` if there is no file, or the reason why it cannot be read.
type Content = Result<Option<Zeroizing<Vec<u8>>>, String>;

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
        self.run_at(0, repository, from, to)
    }

    /// Like [`Self::run`], for a submodule at this depth.
    fn run_at(
        &self,
        depth: usize,
        repository: &Repository,
        from: Option<ObjectId>,
        to: Option<ObjectId>,
    ) -> Result<Vec<Changed>, GitError> {
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
        let mut changed = Vec::new();
        for file in files {
            let path = repository.root().join(&file);
            if !self.includes(&path) {
                continue;
            }
            let read_at = |commit| repository.file_at(commit, &file);
            let content_at = |commit| read_at(commit).map_err(|error| error_chain(&error));
            let old = from.map_or(Ok(None), content_at);
            let new = to.map_or_else(|| current_content(&file), content_at);
            let objects = compare_files(&file, old, new).into_iter();
            changed
                .extend(objects.map(|(object_name, changes)| (path.clone(), object_name, changes)));
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

    /// Returns the changes in a submodule, or the reason why it cannot be compared. Its older state is the commit that
    /// the containing repository has recorded.
    fn in_submodule(
        &self,
        depth: usize,
        outer: &Repository,
        module: &Submodule,
        in_work_tree: bool,
    ) -> Result<Vec<Changed>, String> {
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

fn unreadable_at(path: PathBuf, why: String) -> Changed {
    (path, String::new(), vec![unreadable(why)])
}

fn unreadable(why: String) -> Change {
    let kind = ChangeKind::Unreadable(why);
    Change { item: None, kind }
}

/// Returns the changes of each object that differs, with its namespace and name.
fn compare_files(file: &Path, old: Content, new: Content) -> Vec<(String, Vec<Change>)> {
    let in_older_state = |why| format!("in the older state: {why}");
    let old = old.map_err(in_older_state);
    let old = old.and_then(|old| objects(file, old).map_err(in_older_state));
    // The content of an unreadable file is unknown, so its name or its older content decides whether it is reported.
    let may_contain =
        walk::is_manifest_name(file) || old.as_ref().map_or(true, |old| !old.is_empty());
    let new = match new {
        Err(_) if !may_contain => return Vec::new(),
        new => new.and_then(|new| objects(file, new)),
    };
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (_, Err(why)) | (Err(why), _) => return vec![(String::new(), vec![unreadable(why)])],
    };
    let object_names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes = object_names.into_iter().map(|object_name| {
        (
            object_name.clone(),
            compare(old.get(object_name), new.get(object_name)),
        )
    });
    changes.filter(|(_, changes)| !changes.is_empty()).collect()
}

/// Returns the objects in a file by namespace and name, or the reason why they cannot be read. A malformed file counts
/// as empty if it does not mention SealedSecrets, or its name is not that of a manifest, and no well-formed
/// SealedSecret is found in it: for example, a page that mentions SealedSecrets.
fn objects(
    file: &Path,
    bytes: Option<Zeroizing<Vec<u8>>>,
) -> Result<BTreeMap<String, Object>, String> {
    let Some(bytes) = bytes else {
        return Ok(BTreeMap::new());
    };
    let is_mentioned = walk::mentions(&bytes, Kind::SealedSecret);
    if !is_mentioned && !walk::may_hide_kind(&bytes) {
        return Ok(BTreeMap::new());
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
        Err(_) => return Ok(BTreeMap::new()),
    };
    let read = |node| Object::read(node).map_err(|error| error_chain(error.as_ref()));
    let mut objects = BTreeMap::new();
    for object in file.of_kind(Kind::SealedSecret).map(read) {
        let object = object?;
        insert(&mut objects, &object.sealed.qualified_name(), object);
    }
    Ok(objects)
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
