//! Searches the paths that the user names, and follows symbolic links below them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Candidate, Walk, WalkError, rules_above};
use crate::git;
use crate::notice::Notice;
use crate::platform;

/// A search for candidates in several directories.
pub(super) struct Search<'a> {
    pub(super) candidates: Vec<Candidate>,
    /// The files of the candidates, with symbolic links resolved.
    files: BTreeSet<PathBuf>,
    /// The directories that were searched, with symbolic links resolved.
    directories: BTreeSet<PathBuf>,
    /// Links that were found and not followed yet.
    links: Vec<Link>,
    notices: &'a mut dyn FnMut(Notice),
}

/// A symbolic link below a directory.
struct Link {
    /// The path, for display.
    path: PathBuf,
    /// The work tree, or without Git the directory that the user named, with symbolic links resolved.
    tree: PathBuf,
}

impl<'a> Search<'a> {
    pub(super) fn new(notices: &'a mut dyn FnMut(Notice)) -> Self {
        Self {
            candidates: Vec::new(),
            files: BTreeSet::new(),
            directories: BTreeSet::new(),
            links: Vec::new(),
            notices,
        }
    }

    /// Adds a file that the user names.
    pub(super) fn add_named(&mut self, path: &Path) {
        self.files.extend(path.canonicalize());
        let (path, named) = (path.to_owned(), true);
        self.candidates.push(Candidate { path, named });
    }

    /// Adds the manifests below a directory, and remembers the links.
    pub(super) fn walk(&mut self, directory: &Path) -> Result<(), WalkError> {
        self.walk_in(directory, None)
    }

    /// Like [`Self::walk`]. `tree` limits where links may lead; `None` for the work tree of the directory or, without
    /// Git, the directory itself.
    fn walk_in(&mut self, directory: &Path, tree: Option<PathBuf>) -> Result<(), WalkError> {
        let mut walk = Walk::new(directory, Some(Vec::new()), self.notices)?;
        let resolved = walk.resolved.clone();
        let root = git::work_tree(&resolved)
            .filter(|root| platform::is_trusted(&root.join(".git"), &resolved));
        walk.rules = Some(rules_above(&resolved, root.as_deref(), walk.notices));
        walk.enter(Path::new(""))?;
        if walk.has_ignored && root.is_some() {
            walk.add_tracked(&resolved)?;
        }
        let tree = tree.or(root).unwrap_or_else(|| resolved.clone());
        let links = std::mem::take(&mut walk.links).into_iter();
        self.links.extend(links.map(|below| Link {
            path: directory.join(below),
            tree: tree.clone(),
        }));
        let files: Vec<_> = walk
            .manifests
            .iter()
            .map(|below| resolved.join(below))
            .collect();
        for (candidate, file) in walk.candidates().zip(files) {
            if self.files.insert(file) {
                self.candidates.push(candidate);
            }
        }
        self.directories.insert(resolved);
        Ok(())
    }

    /// Adds the files to which links lead, including links in directories that are found in this way. Follows links to
    /// files before links to directories.
    pub(super) fn follow_links(&mut self) -> Result<(), WalkError> {
        while !self.links.is_empty() {
            let mut directories = Vec::new();
            for link in std::mem::take(&mut self.links) {
                // A broken link leads to no file.
                let Ok(target) = link.path.canonicalize() else {
                    continue;
                };
                if !target.starts_with(&link.tree) {
                    let link = display_path(&link.path);
                    (self.notices)(Notice::LinkOutside { link, target });
                } else if target.is_dir() {
                    directories.push((link, target));
                } else {
                    self.add_linked_file(&link, target);
                }
            }
            for (link, target) in directories {
                if !self.is_searched(&target) {
                    self.walk_in(&link.path, Some(link.tree))?;
                }
            }
        }
        Ok(())
    }

    fn add_linked_file(&mut self, link: &Link, target: PathBuf) {
        if target.is_file() && !git::is_ignored(&target) && self.files.insert(target) {
            let (path, named) = (display_path(&link.path), false);
            self.candidates.push(Candidate { path, named });
        }
    }

    fn is_searched(&self, directory: &Path) -> bool {
        directory
            .ancestors()
            .any(|above| self.directories.contains(above))
    }
}

fn display_path(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_owned()
}
