//! Reads files of other branches and of earlier commits.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use gix::ObjectId;

use super::missing;
use super::survey::{Contents, Inventory, Origin, rule_namespace};
use crate::git::{self, Repository};
use crate::shown::ShowPath as _;
use crate::walk::is_manifest_name;

/// A commit that introduced a version of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commit {
    /// The hash of the commit.
    pub id: String,
    /// The author, with the e-mail address in angle brackets.
    pub author: String,
    /// The author date, in RFC 3339 format.
    pub at: String,
    /// The path of the file.
    pub path: String,
}

/// Returns the repositories that contain these paths.
///
/// # Errors
///
/// Fails if a path is not in a repository.
pub fn repositories(paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut roots = BTreeSet::new();
    for path in paths {
        let path = std::path::absolute(path)?;
        let folder = if path.is_dir() {
            path.as_path()
        } else {
            path.parent().unwrap_or(Path::new("/"))
        };
        match git::work_tree(folder) {
            Some(root) => roots.insert(root),
            None => bail!(
                "{} is not in a Git repository, so it has no branches\nhint: omit --all-branches",
                path.shown()
            ),
        };
    }
    Ok(roots)
}

/// Returns the SealedSecrets in every local and remote branch of a repository. Branches that were not fetched count as
/// unreadable.
///
/// # Errors
///
/// Fails if the repository cannot be read.
pub fn in_branches(root: &Path) -> Result<Inventory> {
    let repository = Repository::discover(root)?;
    let mut blobs = Blobs::new(&repository);
    let mut inventory = Inventory::default();
    inventory.unread.extend(missing::history(root)?);
    for branch in repository.branches()? {
        for (path, blob) in repository.files(branch.commit)? {
            if !is_manifest(&path) {
                continue;
            }
            let contents = blobs.read(blob, &path)?.clone();
            let namespace = rule_namespace(&root.join(&path))?;
            let location = format!("{}:{path}", branch.name);
            inventory.add(contents, &location, namespace.as_ref(), |name| {
                Origin::Branch {
                    repository: root.to_owned(),
                    branch: branch.name.clone(),
                    path: path.clone(),
                    name,
                }
            });
        }
    }
    Ok(inventory)
}

/// Returns every commit in a repository that introduced a version of a file with SealedSecrets,
/// with the file's contents. Includes files that may contain SealedSecrets but cannot be read.
///
/// # Errors
///
/// Fails if the repository cannot be read.
pub fn in_commits(root: &Path) -> Result<Vec<(Commit, Contents)>> {
    let repository = Repository::discover(root)?;
    let mut blobs = Blobs::new(&repository);
    let mut commits = Vec::new();
    for version in repository.versions(is_manifest)? {
        let contents = blobs.read(version.blob, &version.path)?;
        if !contents.sealed.is_empty() || !contents.unread.is_empty() {
            let commit = Commit {
                id: version.commit,
                author: version.author,
                at: version.at,
                path: version.path,
            };
            commits.push((commit, contents.clone()));
        }
    }
    Ok(commits)
}

fn is_manifest(path: &str) -> bool {
    is_manifest_name(Path::new(path))
}

/// A cache of the parsed blobs of a repository, so that each is read once.
struct Blobs<'a> {
    repository: &'a Repository,
    contents: BTreeMap<ObjectId, Contents>,
}

impl<'a> Blobs<'a> {
    fn new(repository: &'a Repository) -> Self {
        let contents = BTreeMap::new();
        Self {
            repository,
            contents,
        }
    }

    fn read(&mut self, blob: ObjectId, path: &str) -> Result<&Contents> {
        match self.contents.entry(blob) {
            Entry::Occupied(read) => Ok(read.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(read_blob(self.repository, blob, path)?)),
        }
    }
}

fn read_blob(repository: &Repository, blob: ObjectId, path: &str) -> Result<Contents> {
    let bytes = repository.blob(blob)?;
    Ok(Contents::of_file(Path::new(path), &bytes, false))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use crate::git::tests::TestRepository;

    #[test]
    fn finds_files_with_unusual_names() {
        let repository = TestRepository::new();
        let names: [&[u8]; 4] = [b"a\".yaml", b"b\t.yml", b"c\n.json", b"d\xff.yaml"];
        for name in names {
            let text = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: x}\nspec: {}\n";
            std::fs::write(repository.root().join(OsStr::from_bytes(name)), text).unwrap();
        }
        repository.commit("one");
        let commits = in_commits(repository.root()).unwrap();
        let paths: Vec<&str> = commits
            .iter()
            .map(|(commit, _)| commit.path.as_str())
            .collect();
        assert_eq!(paths, ["a\".yaml", "b\t.yml", "c\n.json", "d\u{fffd}.yaml"]);
        assert!(
            commits
                .iter()
                .all(|(commit, found)| commit.author == "a <a@x>" && found.sealed.len() == 1)
        );
        assert_eq!(in_branches(repository.root()).unwrap().holders.len(), 4);
    }
}
