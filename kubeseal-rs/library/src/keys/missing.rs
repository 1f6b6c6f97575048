//! Reports parts of repositories that a clone lacks. These parts may contain values for any key.

use std::path::{Path, PathBuf};

use super::survey::Unreadable;
use crate::files;
use crate::git::{self, GitError, Repository};
use crate::shown::ShowPath as _;

/// Returns an entry if the repository is a shallow clone, and one for each remote of which not all branches are
/// fetched.
///
/// # Errors
///
/// Fails if the repository cannot be read.
pub fn history(root: &Path) -> Result<Vec<Unreadable>, GitError> {
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
    let location = repository.root().shown();
    let unreadable = |why| Unreadable {
        location: location.clone(),
        why,
    };
    Ok(reasons.into_iter().map(unreadable).collect())
}

/// Returns the entry for a submodule whose commit, as recorded in the branch, is not in this clone.
pub(super) fn submodule_commit(branch: &str, path: &Path) -> Unreadable {
    Unreadable {
        location: format!("{branch}:{}", path.shown()),
        why: "the commit of this submodule is not fetched; check the branch out, and run `git submodule update --init`"
            .to_owned(),
    }
}

/// Returns the submodules that are not checked out and that are below these files and directories or contain them.
pub(super) fn submodules(paths: &[PathBuf]) -> impl Iterator<Item = Unreadable> {
    git::missing_submodules(paths)
        .into_iter()
        .map(|path| {
            Unreadable {
        location: files::relative_to_current_directory(&path).shown(),
        why: "a submodule that is not checked out; check it out with `git submodule update --init`"
            .to_owned(),
    }
        })
}
