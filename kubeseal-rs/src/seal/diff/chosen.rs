//! Determines which states of which repositories the arguments select.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;
use gix::ObjectId;
use kubeseal_library::git::{GitError, Repository};

use crate::report::{ShowPath as _, path_text};
use crate::seal::diff::Diff;

/// An argument or a work tree that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiffError {
    /// The current folder is not in a Git work tree.
    #[error("the current folder is not in a Git work tree; `seal diff` compares with a commit")]
    NoTree,
    /// The path is not in a Git work tree.
    #[error("{} is not in a Git work tree; `seal diff` compares with a commit", .0.shown())]
    NotInTree(PathBuf),
    /// The repository has no commit yet.
    #[error("the repository has no commit to compare with")]
    NoCommit,
    /// A repository does not have the revision.
    #[error("{revision:?} is not a revision of the repository {}", root.shown())]
    NoSuchRevision {
        /// The revision.
        revision: String,
        /// The root of the repository.
        root: PathBuf,
    },
    /// An argument that is neither a revision nor a file.
    #[error("{0:?} is neither a revision nor a file")]
    NoSuchArgument(PathBuf),
}

/// Two states of a repository, and the paths to compare.
pub(super) struct Chosen {
    pub(super) repository: Repository,
    pub(super) from: Option<ObjectId>,
    /// `None` for the work tree.
    pub(super) to: Option<ObjectId>,
    /// Absolute paths; all files if empty.
    pub(super) paths: Vec<PathBuf>,
}

impl Chosen {
    /// Formats an absolute path relative to the current folder if it is below it, else relative to the root of the
    /// repository around that folder.
    pub(super) fn path_from(&self, here: &Path, file: &Path) -> String {
        let root = self.repository.root();
        let from_root = || {
            file.strip_prefix(root)
                .ok()
                .filter(|_| here.starts_with(root))
        };
        let path = file.strip_prefix(here).ok().or_else(from_root);
        path_text(path.unwrap_or(file).as_os_str()).into_owned()
    }
}

/// Returns what to compare, for each repository that contains a path.
pub(super) fn chosen(args: &Diff, here: &Path) -> Result<Vec<Chosen>> {
    let mut unsure: Vec<&Path> = args.args.iter().map(Path::new).collect();
    let revision = revision(args, here)?;
    if revision.is_some() {
        unsure.remove(0);
    }
    for path in &unsure {
        check_known(path, here)?;
    }
    let paths = unsure
        .into_iter()
        .chain(args.paths.iter().map(PathBuf::as_path));
    let mut groups: Vec<(Repository, Vec<PathBuf>)> = Vec::new();
    for path in paths {
        for whole in names(path, here) {
            let repository =
                repository_for(&whole, here)?.ok_or(DiffError::NotInTree(path.to_owned()))?;
            match groups
                .iter_mut()
                .find(|(known, _)| known.root() == repository.root())
            {
                Some((_, paths)) => paths.push(whole),
                None => groups.push((repository, vec![whole])),
            }
        }
    }
    if groups.is_empty() {
        groups.push((around(here)?.ok_or(DiffError::NoTree)?, Vec::new()));
    }
    let chosen = groups.into_iter().map(|(repository, paths)| {
        let (from, to) = states(&repository, revision)?;
        let from = Some(from);
        Ok(Chosen {
            repository,
            from,
            to,
            paths,
        })
    });
    chosen.collect()
}

/// Returns the first argument if it is a revision: of the repository around the current folder, or of the first path.
fn revision<'a>(args: &'a Diff, here: &Path) -> Result<Option<&'a str>> {
    // A revision is valid UTF-8; a path may not be.
    let Some(first) = args.args.first().and_then(|first| first.to_str()) else {
        return Ok(None);
    };
    let begins_above = Path::new(first).components().next() == Some(Component::ParentDir);
    let may_be_both = args.paths.is_empty() && first.contains("..") && !begins_above;
    if !is_missing(&here.join(first)) && !may_be_both {
        return Ok(None);
    }
    let others = args.args.iter().skip(1).map(Path::new);
    let mut others = others.chain(args.paths.iter().map(PathBuf::as_path));
    let repository = match (around(here)?, others.next()) {
        (None, Some(path)) => around(&whole(path, here))?,
        (found, _) => found,
    };
    let is_revision = repository.is_some_and(|repository| ends(&repository, first).is_some());
    Ok(is_revision.then_some(first))
}

/// Checks that a file exists, or existed in a commit.
fn check_known(path: &Path, here: &Path) -> Result<()> {
    if !is_missing(&here.join(path)) {
        return Ok(());
    }
    let whole = whole(path, here);
    let is_known = around(&whole)?.map(|repository| repository.has_history(&whole));
    if is_known.transpose()? == Some(true) {
        return Ok(());
    }
    Err(DiffError::NoSuchArgument(path.to_owned()).into())
}

/// Returns whether no file or folder has this name. A file in a folder that cannot be entered may exist.
fn is_missing(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let found = fs::symlink_metadata(path);
    found.is_err_and(|error| matches!(error.kind(), NotFound | NotADirectory))
}

/// Returns the absolute paths that an argument names: of a symbolic link both the link, which may have replaced a
/// file, and its target.
fn names(path: &Path, here: &Path) -> Vec<PathBuf> {
    let mut names = vec![whole(path, here)];
    let link = here.join(path);
    if link.is_symlink()
        && let (Some(folder), Some(name)) = (link.parent(), link.file_name())
    {
        names.push(whole(folder, here).join(name));
    }
    names
}

/// Returns the absolute path with symbolic links resolved. The file need not exist.
fn whole(path: &Path, here: &Path) -> PathBuf {
    let path = here.join(path);
    let resolved = path.ancestors().find_map(|above| {
        let whole = above.canonicalize().ok()?;
        let rest = path.strip_prefix(above).ok()?;
        Some(
            rest.components()
                .fold(whole, |whole, part| whole.join(part)),
        )
    });
    resolved.unwrap_or(path)
}

/// Returns the repository that a path is compared in. For a path in a submodule of the repository around the current
/// folder, this is the containing repository, as for a comparison without paths.
fn repository_for(path: &Path, here: &Path) -> Result<Option<Repository>, GitError> {
    let Some(nearest) = around(path)? else {
        return Ok(None);
    };
    let own = around(here).ok().flatten();
    let own = own.filter(|own| nearest.root().starts_with(own.root()));
    let own = own.filter(|own| own.contains_submodule(nearest.root()));
    Ok(Some(own.unwrap_or(nearest)))
}

/// Returns the repository around a file or folder, which need not exist.
fn around(path: &Path) -> Result<Option<Repository>, GitError> {
    let folder = path.ancestors().find(|above| above.is_dir());
    match Repository::around(folder.unwrap_or(path)) {
        Ok(found) => Ok(Some(found)),
        Err(GitError::NoRepository(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn states(
    repository: &Repository,
    revision: Option<&str>,
) -> Result<(ObjectId, Option<ObjectId>), DiffError> {
    let found = ends(repository, revision.unwrap_or("HEAD"));
    found.ok_or_else(|| match revision {
        None => DiffError::NoCommit,
        Some(revision) => DiffError::NoSuchRevision {
            revision: revision.to_owned(),
            root: repository.root().to_owned(),
        },
    })
}

/// Returns both commits of `A..B`, or the commit of a single revision.
fn ends(repository: &Repository, revision: &str) -> Option<(ObjectId, Option<ObjectId>)> {
    let commit = |name: &str| repository.commit(if name.is_empty() { "HEAD" } else { name });
    match revision.split_once("..") {
        Some((from, to)) => Some((commit(from)?, Some(commit(to)?))),
        None => Some((commit(revision)?, None)),
    }
}
