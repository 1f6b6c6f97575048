//! Reads files of other branches and of earlier commits.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use gix::ObjectId;

use super::missing;
use super::survey::{Contents, Inventory, Origin, rule_namespace};
use crate::git::{self, Branch, Repository};
use crate::shown::ShowPath as _;
use crate::walk::is_manifest_name;

/// A commit that introduced a version of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commit {
    /// The hash of the commit.
    pub id: String,
    /// The author, with the e-mail address in angle brackets.
    pub author: String,
    /// The author date, in RFC 3339 format if possible.
    pub at: String,
    /// The manifest in this commit, relative to the root of the repository.
    pub path: String,
}

/// Returns the roots of the repositories that contain these paths, and of their submodules that are checked out.
///
/// # Errors
///
/// Fails if a path is not in a repository, or the repository cannot be read.
pub fn repositories(paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut roots = BTreeSet::new();
    for path in paths {
        let path = std::path::absolute(path)?;
        let directory = if path.is_dir() {
            path.as_path()
        } else {
            path.parent().unwrap_or(Path::new("/"))
        };
        let Some(root) = git::work_tree(directory) else {
            bail!(
                "{} is not in a Git repository, so it has no branches\nhint: omit --all-branches",
                path.shown()
            );
        };
        if !roots.contains(&root) {
            roots.extend(Repository::discover(&root)?.checked_out_submodules()?);
            roots.insert(root);
        }
    }
    Ok(roots)
}

/// Returns the SealedSecrets in every local and remote branch of a repository, and in the submodule commits that the
/// branches record. Branches and submodules that were not fetched count as unreadable.
///
/// # Errors
///
/// Fails if the repository cannot be read.
pub fn in_branches(root: &Path) -> Result<Inventory> {
    let repository = Repository::discover(root)?;
    let mut search = BranchSearch {
        root,
        blobs: BTreeMap::new(),
        inventory: Inventory::default(),
    };
    search.inventory.unreadable.extend(missing::history(root)?);
    for branch in repository.branches()? {
        search.read(&repository, &branch, Path::new(""))?;
    }
    Ok(search.inventory)
}

/// A search of the branches of a repository.
struct BranchSearch<'a> {
    root: &'a Path,
    /// The parsed files by their hash.
    blobs: BTreeMap<ObjectId, Contents>,
    inventory: Inventory,
}

impl BranchSearch<'_> {
    /// Reads the manifests in a commit of `repository`, and those in the commits that it records for its submodules.
    /// `directory` is the path of `repository` in the repository of the branch; empty for that repository itself.
    fn read(&mut self, repository: &Repository, at: &Branch, directory: &Path) -> Result<()> {
        let tree = repository.tree(at.commit)?;
        for (path, blob) in tree.files {
            if is_manifest(&path) {
                let contents = read_blob(&mut self.blobs, repository, (blob, &path))?.clone();
                self.add(&at.name, &in_directory(directory, &path), contents)?;
            }
        }
        for (path, commit) in tree.submodules {
            let below = directory.join(&path);
            let name = at.name.clone();
            match repository.submodule(&path)? {
                Some(submodule) if submodule.has_commit(commit) => {
                    self.read(&submodule, &Branch { name, commit }, &below)?;
                }
                _ => {
                    let unreadable = missing::submodule_commit(&name, &below);
                    self.inventory.unreadable.insert(unreadable);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, branch: &str, path: &str, contents: Contents) -> Result<()> {
        let namespace = rule_namespace(&self.root.join(path))?;
        let location = format!("{branch}:{path}");
        let origin = |name| Origin::Branch {
            repository: self.root.to_owned(),
            branch: branch.to_owned(),
            path: path.to_owned(),
            name,
        };
        self.inventory
            .add(contents, &location, namespace.as_ref(), origin);
        Ok(())
    }
}

/// Returns the path of a file in a submodule, relative to the root of the outer repository.
fn in_directory(directory: &Path, path: &str) -> String {
    if directory.as_os_str().is_empty() {
        return path.to_owned();
    }
    format!("{}/{path}", directory.display())
}

/// Returns every commit in a repository that introduced a version of a file with SealedSecrets,
/// with the file's contents. Includes files that may contain SealedSecrets but cannot be read.
///
/// # Errors
///
/// Fails if the repository cannot be read.
pub fn in_commits(root: &Path) -> Result<Vec<(Commit, Contents)>> {
    let repository = Repository::discover(root)?;
    let mut blobs = BTreeMap::new();
    let mut commits = Vec::new();
    for version in repository.versions(is_manifest)? {
        let contents = read_blob(&mut blobs, &repository, (version.blob, &version.path))?;
        if !contents.sealed.is_empty() || !contents.unreadable.is_empty() {
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

/// Returns the contents of a file. Parses each blob once.
fn read_blob<'a>(
    blobs: &'a mut BTreeMap<ObjectId, Contents>,
    repository: &Repository,
    (blob, path): (ObjectId, &str),
) -> Result<&'a Contents> {
    match blobs.entry(blob) {
        Entry::Occupied(read) => Ok(read.into_mut()),
        Entry::Vacant(new) => {
            let bytes = repository.blob(blob)?;
            Ok(new.insert(Contents::of_file(Path::new(path), &bytes, false)))
        }
    }
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
