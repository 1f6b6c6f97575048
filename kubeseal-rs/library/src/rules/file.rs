//! Finds the `.seal.yaml` that applies to a file.

use std::path::{Path, PathBuf};

use super::{Rule, Rules, RulesError, parse};
use crate::files::{self, FileError};
use crate::shown::ShowPath as _;
use crate::{git, platform};

/// The name of a file with rules.
pub const FILE_NAME: &str = ".seal.yaml";

/// A likely misspelling of the file name. It is reported, because rules in such a file would have no effect.
const MISSPELLED_NAME: &str = ".seal.yml";

/// The size limit for the file, in bytes.
const MAX_LEN: u64 = 1024 * 1024;

/// Rules, and the directory that their paths are relative to.
#[derive(Debug)]
pub struct RulesFile {
    /// The file that contains the rules.
    pub path: PathBuf,
    directory: PathBuf,
    tree: PathBuf,
    rules: Rules,
}

/// Why the rules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RulesFileError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not contain valid rules.
    #[error("{}", path.shown())]
    Rules {
        /// The file with the invalid rules.
        path: PathBuf,
        /// The error in the rules.
        source: RulesError,
    },
    /// The file, or the file that it links to, belongs neither to the user or root nor to the owner of the sealed
    /// file's directory. Its author would choose the certificate.
    #[error(
        "{}, or the file that it links to, belongs neither to you nor to the owner of the sealed file's directory; \
         its author would choose the certificate\nhint: if you trust the file, pass it with \
         --config",
        .0.shown()
    )]
    NotOwned(PathBuf),
    /// The name of the file is misspelled, so its rules would have no effect.
    #[error("{} is not read, since rules are in `.seal.yaml`\nhint: rename the file", .0.shown())]
    Misspelled(PathBuf),
}

impl RulesFileError {
    /// Returns the file and the line of the error; line 1 if the error has no line.
    pub fn file(&self) -> (PathBuf, usize) {
        match self {
            Self::File(error) => (error.path().to_owned(), 1),
            Self::Rules { path, source } => (path.clone(), source.line().unwrap_or(1)),
            Self::NotOwned(path) | Self::Misspelled(path) => (path.clone(), 1),
        }
    }
}

impl RulesFile {
    /// Reads a file of rules.
    ///
    /// # Errors
    ///
    /// Returns a [`RulesFileError`] if the file cannot be read or is not valid.
    pub fn read(path: &Path) -> Result<Self, RulesFileError> {
        let text = files::read_regular(path, MAX_LEN)?;
        let rules = parse(&text).map_err(|source| RulesFileError::Rules {
            path: path.to_owned(),
            source,
        })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = absolute.parent().unwrap_or(Path::new("/"));
        let directory = directory
            .canonicalize()
            .unwrap_or_else(|_| directory.to_owned());
        let tree = git::work_tree(&directory).filter(|tree| directory.starts_with(tree));
        Ok(Self {
            path: path.to_owned(),
            tree: tree.unwrap_or_else(|| directory.clone()),
            directory,
            rules,
        })
    }

    /// Finds the file that applies to a directory: the nearest one in the directory or its parents, up to the root of
    /// the Git work tree. Outside a work tree, the search ends at the current directory if `directory` is below it, and
    /// otherwise at `directory` itself. So another user's file in a parent such as `/tmp` has no effect.
    ///
    /// # Errors
    ///
    /// Returns [`RulesFileError::NotOwned`] if the file belongs neither to the user or root nor to the owner of
    /// `directory`: another user may have created a work tree around the directory. Returns
    /// [`RulesFileError::Misspelled`] if the nearest file is named `.seal.yml`.
    pub fn find(directory: &Path) -> Result<Option<PathBuf>, RulesFileError> {
        let current = std::env::current_dir().and_then(|current| current.canonicalize());
        let current = || {
            current
                .ok()
                .filter(|current| directory.starts_with(current))
        };
        let root = git::work_tree(directory).or_else(current);
        let root = root.as_deref().unwrap_or(directory);
        let mut upward = directory
            .ancestors()
            .take_while(|above| above.starts_with(root));
        // Use `symlink_metadata`, so that a broken link is found and reported, not treated as
        // missing.
        let path = upward.find_map(|above| {
            let paths = [FILE_NAME, MISSPELLED_NAME].map(|name| above.join(name));
            paths
                .into_iter()
                .find(|path| path.symlink_metadata().is_ok())
        });
        match path {
            Some(path) if path.ends_with(MISSPELLED_NAME) => Err(RulesFileError::Misspelled(path)),
            Some(path) if path.exists() && !platform::is_trusted(&path, directory) => {
                Err(RulesFileError::NotOwned(path))
            }
            path => Ok(path),
        }
    }

    /// Returns the directory that the paths of the rules are relative to.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the root of the Git work tree around [`Self::directory`]; outside a work tree, that directory itself.
    /// The authors of the tree are also those of the rules.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Returns all rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules.0
    }

    /// Returns the first rule that matches a file, by its absolute path; `None` if no rule does, or the file is outside
    /// [`Self::directory`].
    pub fn rule_for(&self, path: &Path) -> Option<&Rule> {
        let path = path.strip_prefix(&self.directory).ok()?;
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        self.rules.for_path(&names.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Attack: another user places a `.seal.yaml` in a directory above the work tree, such as `/tmp`, to choose the
    /// certificate.
    #[test]
    fn a_file_above_the_work_tree_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let outer = directory.path().canonicalize().unwrap();
        let inner = outer.join("tree/prod");
        fs::create_dir_all(&inner).unwrap();
        let in_tree = || RulesFile::find(&inner).unwrap();
        fs::write(outer.join(FILE_NAME), "rules: []\n").unwrap();
        assert_eq!(in_tree(), None, "outside any work tree");
        gix::init(outer.join("tree")).unwrap();
        assert_eq!(in_tree(), None);
        let own = outer.join("tree").join(FILE_NAME);
        fs::write(&own, "rules: []\n").unwrap();
        assert_eq!(in_tree(), Some(own));
    }
}
