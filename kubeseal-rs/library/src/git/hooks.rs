//! Finds the directory where Git looks for hooks.

use std::path::{Path, PathBuf};

use gix::bstr::{BString, ByteSlice as _};
use gix::config::Source;

use super::directory::read_path_file;
use super::{GitError, Repository, to_path};

impl Repository {
    /// Returns the hooks directory: in the repository, or where the user's or the system's
    /// configuration sets it. Such a path may be relative to the root, where hooks run.
    ///
    /// # Errors
    ///
    /// Fails if the repository's own configuration sets another directory, or its `.git` points to a repository that
    /// does not name this work tree: the author of the repository may have written either, to have an executable file
    /// written to another directory.
    pub fn hooks_directory(&self) -> Result<PathBuf, GitError> {
        let default = self.git.common_dir().join("hooks");
        let Some((path, source)) = self.configured_hooks() else {
            return self.require_own(default);
        };
        if matches!(source, Source::Local | Source::Worktree) {
            return Err(GitError::HooksElsewhere(path.to_string()));
        }
        let home = gix::path::env::home_dir();
        let context = gix::config::path::interpolate::Context {
            home_dir: home.as_deref(),
            ..Default::default()
        };
        let path = gix::config::Path::from(std::borrow::Cow::Owned(path));
        let path = path.interpolate(context);
        let path = path.map_err(|error| self.read_error(&"core.hooksPath", error))?;
        Ok(self.root.join(path))
    }

    /// Returns the hooks directory if it is below the root, or in a repository that names this work
    /// tree.
    fn require_own(&self, hooks: PathBuf) -> Result<PathBuf, GitError> {
        if self.is_own() {
            Ok(hooks)
        } else {
            Err(GitError::HooksOutside(hooks))
        }
    }

    /// Returns whether the repository is below the root, or names this work tree.
    pub(super) fn is_own(&self) -> bool {
        let common = self.git.common_dir().canonicalize().ok();
        common.is_some_and(|common| {
            common.starts_with(&self.root) || self.has_this_work_tree(&common) == Some(true)
        })
    }

    /// Returns whether a repository outside of this work tree names this work tree, as a linked work tree or as the
    /// work tree of a submodule; `None` if its files cannot be read.
    fn has_this_work_tree(&self, common: &Path) -> Option<bool> {
        let private = self.git.git_dir().canonicalize().ok()?;
        if private == common {
            let root = private.join(self.configured_work_tree()?).canonicalize();
            return Some(root.ok()? == self.root);
        }
        let file = read_path_file(&private.join("gitdir"), "")?
            .canonicalize()
            .ok()?;
        let is_listed = private.parent()? == common.join("worktrees");
        Some(is_listed && file == self.root.join(".git"))
    }

    /// Returns `core.worktree` of the repository's own configuration. Git sets it for a submodule.
    fn configured_work_tree(&self) -> Option<PathBuf> {
        let config = self.git.config_snapshot();
        let sections = config.plumbing().sections_by_name("core")?;
        let own_sections =
            sections.filter(|section| matches!(section.meta().source, Source::Local));
        let path = own_sections
            .filter_map(|section| section.value("worktree"))
            .last()?;
        Some(to_path(path.as_bstr()))
    }

    /// Returns the last value of `core.hooksPath`, and the configuration file that sets it.
    fn configured_hooks(&self) -> Option<(BString, Source)> {
        let config = self.git.config_snapshot();
        let sections = config.plumbing().sections_by_name("core")?;
        let values = sections.filter(|section| section.header().subsection_name().is_none());
        let values = values.filter_map(|section| {
            let value = section.value("hooksPath")?;
            Some((value.as_bstr().to_owned(), section.meta().source))
        });
        values.last()
    }
}
