//! Recognizes clones that lack branches or submodules of the repository that they were cloned from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gix::bstr::ByteSlice as _;

use super::{GitError, Repository};

/// Returns the absolute paths of submodules that are not checked out and that are below these files and directories or
/// contain them. Paths outside a repository and in a malformed repository are ignored.
pub fn missing_submodules(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let missing = |path: &PathBuf| {
        let path = path.canonicalize().ok()?;
        let repository = Repository::discover(&path).ok()?;
        repository.missing_submodules(&path).ok()
    };
    paths.iter().filter_map(missing).flatten().collect()
}

impl Repository {
    /// Returns the remotes from which not all branches are fetched, as after `git clone --single-branch` or `--depth`.
    pub fn remotes_with_other_branches(&self) -> Vec<String> {
        let config = self.git.config_snapshot();
        let sections = config.plumbing().sections_by_name("remote");
        let mut remotes = Vec::new();
        for section in sections.into_iter().flatten() {
            let sources = section.values("fetch");
            let fetches_all = |source: &[u8]| {
                source
                    .trim_start_with(|c| c == '+')
                    .starts_with(b"refs/heads/*:")
            };
            let is_partial =
                !sources.is_empty() && !sources.iter().any(|source| fetches_all(source));
            if let (Some(name), true) = (section.header().subsection_name(), is_partial) {
                remotes.push(name.to_string());
            }
        }
        remotes
    }

    /// Returns the absolute paths of submodules, including nested submodules, that are not checked out and that are
    /// below a directory or contain it.
    ///
    /// # Errors
    ///
    /// Fails if a repository is malformed.
    pub fn missing_submodules(&self, directory: &Path) -> Result<Vec<PathBuf>, GitError> {
        let mut missing = Vec::new();
        for path in self.submodule_directories()? {
            if !path.starts_with(directory) && !directory.starts_with(&path) {
                continue;
            }
            let inside = path.strip_prefix(&self.root).unwrap_or(&path);
            match self.submodule(inside)? {
                Some(submodule) => missing.extend(submodule.missing_submodules(directory)?),
                None => missing.push(path),
            }
        }
        Ok(missing)
    }
}
