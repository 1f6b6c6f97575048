//! Where Git looks for hooks.

use std::path::PathBuf;

use gix::bstr::{BString, ByteSlice as _};
use gix::config::Source;

use super::{GitError, Repository};

impl Repository {
    /// The folder of the hooks: in the repository, or where the user's own configuration or the system's
    /// has it. Both may name a folder relative to the root, where hooks run.
    ///
    /// # Errors
    ///
    /// The configuration of the repository names another one. Whoever made the repository may have written
    /// it, to have an executable file put where they like.
    pub fn hooks(&self) -> Result<PathBuf, GitError> {
        let usual = self.git.common_dir().join("hooks");
        let Some((named, by)) = self.named_hooks() else {
            return Ok(usual);
        };
        if matches!(by, Source::Local | Source::Worktree) {
            return Err(GitError::HooksElsewhere(named.to_string()));
        }
        let home = gix::path::env::home_dir();
        let context = gix::config::path::interpolate::Context {
            home_dir: home.as_deref(),
            ..Default::default()
        };
        let path = gix::config::Path::from(std::borrow::Cow::Owned(named));
        let path = path.interpolate(context);
        let path = path.map_err(|error| self.failed(&"core.hooksPath", error))?;
        Ok(self.root.join(path))
    }

    /// The last value counts, whichever file it is from.
    fn named_hooks(&self) -> Option<(BString, Source)> {
        let config = self.git.config_snapshot();
        let sections = config.plumbing().sections_by_name("core")?;
        let named = sections.filter(|section| section.header().subsection_name().is_none());
        let named = named.filter_map(|section| {
            let value = section.value("hooksPath")?;
            Some((value.as_bstr().to_owned(), section.meta().source))
        });
        named.last()
    }
}
