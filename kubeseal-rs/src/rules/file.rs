//! Finding the `.seal.yaml` that speaks for a file.

use std::path::{Path, PathBuf};

use super::{Rule, Rules, RulesError, parse};
use crate::files::{self, FileError};
use crate::report::ShowPath as _;
use crate::{git, platform};

/// Name of the file.
pub const FILE_NAME: &str = ".seal.yaml";

/// Rules for thousands of paths fit.
const LARGEST: u64 = 1024 * 1024;

/// Rules with the folder that their paths start from.
#[derive(Debug)]
pub struct RulesFile {
    /// The file.
    pub path: PathBuf,
    folder: PathBuf,
    tree: PathBuf,
    rules: Rules,
}

/// The rules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RulesFileError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds no rules.
    #[error("{}", path.shown())]
    Rules {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RulesError,
    },
    /// Somebody else could have put them there.
    #[error(
        "{}, or the file that it leads to, belongs to another user than you and the folder of what is to be sealed, so it is not obeyed: whoever wrote \
         it would decide for whom is sealed. If it is right, name it with --config",
        .0.shown()
    )]
    Stranger(PathBuf),
}

impl RulesFileError {
    /// The file, and the line that is wrong in it.
    pub fn file(&self) -> (PathBuf, usize) {
        match self {
            Self::File(error) => (error.path().to_owned(), 1),
            Self::Rules { path, source } => (path.clone(), source.line().unwrap_or(1)),
            Self::Stranger(path) => (path.clone(), 1),
        }
    }
}

impl RulesFile {
    /// Reads a file of rules.
    ///
    /// # Errors
    ///
    /// [`RulesFileError`].
    pub fn read(path: &Path) -> Result<Self, RulesFileError> {
        let text = files::read_regular(path, LARGEST)?;
        let rules = parse(&text).map_err(|source| RulesFileError::Rules {
            path: path.to_owned(),
            source,
        })?;
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = whole.parent().unwrap_or(Path::new("/"));
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let tree = git::work_tree(&folder).filter(|tree| folder.starts_with(tree));
        Ok(Self {
            path: path.to_owned(),
            tree: tree.unwrap_or_else(|| folder.clone()),
            folder,
            rules,
        })
    }

    /// The file for what lies in a folder: the nearest one upward, up to the root of the Git work
    /// tree. Outside of one, up to the current folder, or else in the folder itself alone, so that
    /// nobody's file in a parent such as `/tmp` decides for whom is sealed.
    ///
    /// # Errors
    ///
    /// [`RulesFileError::Stranger`]: others may be able to make a work tree around the folder.
    pub fn find(folder: &Path) -> Result<Option<PathBuf>, RulesFileError> {
        let here = std::env::current_dir().and_then(|here| here.canonicalize());
        let here = || here.ok().filter(|here| folder.starts_with(here));
        let root = git::work_tree(folder).or_else(here);
        let root = root.as_deref().unwrap_or(folder);
        let mut upward = folder
            .ancestors()
            .take_while(|above| above.starts_with(root));
        // What is there and is no file must not pass for no rules.
        let found = upward.find_map(|above| {
            let path = above.join(FILE_NAME);
            path.symlink_metadata().is_ok().then_some(path)
        });
        match found {
            Some(path) if path.exists() && !platform::is_ours(&path, folder) => {
                Err(RulesFileError::Stranger(path))
            }
            found => Ok(found),
        }
    }

    /// The folder that paths start from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The Git work tree around the folder, or the folder itself: what its author has written.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// The rule for a file, given by its absolute path; none for what lies elsewhere.
    pub fn rule_for(&self, path: &Path) -> Option<&Rule> {
        let path = path.strip_prefix(&self.folder).ok()?;
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        self.rules.for_path(&names.join("/"))
    }
}
