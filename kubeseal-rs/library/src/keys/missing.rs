//! Reports parts of repositories that a clone lacks. They may contain values for any key.

use std::path::Path;

use super::survey::Unread;
use crate::files;
use crate::git::{GitError, Repository};
use crate::shown::ShowPath as _;

/// Returns the branches and commits that a repository lacks.
///
/// # Errors
///
/// Fails if the repository cannot be read.
pub fn history(root: &Path) -> Result<Vec<Unread>, GitError> {
    let repository = Repository::discover(root)?;
    let mut reasons = Vec::new();
    if repository.is_shallow() {
        let why = "a shallow clone, without older commits and possibly without other branches; fetch them with \
                   `git fetch --unshallow`";
        reasons.push(why.to_owned());
    }
    let remotes = repository.remotes_with_other_branches().into_iter();
    reasons.extend(remotes.map(|remote| {
        format!(
            "not all branches of the remote {remote} are fetched; fetch them with `git remote set-branches {remote} '*'` \
             and `git fetch {remote}`"
        )
    }));
    let place = repository.root().shown();
    let unread = |why| Unread {
        place: place.clone(),
        why,
    };
    Ok(reasons.into_iter().map(unread).collect())
}

/// Returns a submodule of a branch whose recorded commit is not in this clone.
pub(super) fn submodule_commit(branch: &str, path: &Path) -> Unread {
    Unread {
        place: format!("{branch}:{}", path.shown()),
        why: "the commit of this submodule is not fetched; check the branch out, and run `git submodule update --init`"
            .to_owned(),
    }
}

/// Returns the submodules below a folder that are not checked out. A folder outside a repository has none.
pub(super) fn submodules(folder: &Path) -> Vec<Unread> {
    let missing = || {
        let folder = folder.canonicalize().ok()?;
        let repository = Repository::discover(&folder).ok()?;
        repository.missing_submodules(&folder).ok()
    };
    let unread = |path: std::path::PathBuf| Unread {
        place: files::from_here(&path).shown(),
        why: "a submodule that is not checked out; check it out with `git submodule update --init`"
            .to_owned(),
    };
    missing()
        .unwrap_or_default()
        .into_iter()
        .map(unread)
        .collect()
}
