//! Determines which states of which repositories the arguments select.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use gix::ObjectId;
use kubeseal_library::files;
use kubeseal_library::git::{self, GitError, Repository};

use crate::failure::Failure;
use crate::report::{self, ShowPath as _, path_text};
use crate::seal::diff::Diff;

/// Two states of a repository, and the paths to compare.
pub(super) struct Selection {
    pub(super) repository: Repository,
    pub(super) from: Option<ObjectId>,
    /// `None` for the work tree.
    pub(super) to: Option<ObjectId>,
    /// Absolute paths; all files if empty.
    pub(super) paths: Vec<PathBuf>,
}

/// Formats an absolute path relative to the current directory.
pub(super) fn path_from(current_dir: &Path, file: &Path) -> String {
    let common = current_dir
        .ancestors()
        .find(|above| file.starts_with(above));
    // On Windows, the file may be on another drive.
    let Some(common) = common else {
        return path_text(file.as_os_str()).into_owned();
    };
    let below_common = |path: &'_ Path| {
        path.strip_prefix(common)
            .map(Path::to_owned)
            .unwrap_or_default()
    };
    let (up, down) = (below_common(current_dir), below_common(file));
    let up = up.components().map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(down.components()).collect();
    let is_here = path.as_os_str().is_empty();
    let path = if is_here { Path::new(".") } else { &path };
    path_text(path.as_os_str()).into_owned()
}

/// Returns the states and paths to compare, for each repository that contains a path, or without paths for the
/// repository of the current directory.
pub(super) fn select(args: &Diff, current_dir: &Path) -> Result<Vec<Selection>> {
    let has_empty = args.args.iter().any(|argument| argument.is_empty());
    if has_empty || args.paths.iter().any(|path| path.as_os_str().is_empty()) {
        // For example, from a variable that is not set.
        bail!(
            Failure::new("an empty argument is neither a revision nor a file")
                .hint("leave it out to compare all files")
        );
    }
    let mut positional: Vec<&Path> = args.args.iter().map(Path::new).collect();
    let revision = revision(args, current_dir)?;
    if revision.is_some() {
        positional.remove(0);
    }
    positional.extend(args.paths.iter().map(PathBuf::as_path));
    for path in &positional {
        check_exists(path, current_dir)?;
    }
    let mut groups: Vec<(Repository, Vec<PathBuf>)> = Vec::new();
    for path in positional {
        for absolute in absolute_paths(path, current_dir) {
            let repository = repository_for(&absolute, current_dir)?;
            let repository = repository.with_context(|| {
                format!(
                    "{} is not in a Git work tree; `seal diff` compares with a commit",
                    path.shown()
                )
            })?;
            match groups
                .iter_mut()
                .find(|(other, _)| other.root() == repository.root())
            {
                Some((_, paths)) => paths.push(absolute),
                None => groups.push((repository, vec![absolute])),
            }
        }
    }
    if groups.is_empty() {
        let repository = repository_around(current_dir)?.context(
            "the current directory is not in a Git work tree; `seal diff` compares with a commit",
        )?;
        groups.push((repository, Vec::new()));
    }
    let selections = groups.into_iter().map(|(repository, paths)| {
        let (from, to) = states(&repository, revision)?;
        let from = Some(from);
        Ok(Selection {
            repository,
            from,
            to,
            paths,
        })
    });
    selections.collect()
}

/// Returns the first argument if it is a revision of the repository around the current directory or, outside a
/// repository, of the repository around the first path.
///
/// # Errors
///
/// Fails if the argument is both a revision and an existing file, and no path follows `--`.
fn revision<'a>(args: &'a Diff, current_dir: &Path) -> Result<Option<&'a str>> {
    // A revision is valid UTF-8; a path may not be.
    let Some(first) = args.args.first().and_then(|first| first.to_str()) else {
        return Ok(None);
    };
    let begins_above = Path::new(first).components().next() == Some(Component::ParentDir);
    if begins_above {
        return Ok(None);
    }
    let others = args.args.iter().skip(1).map(Path::new);
    let mut others = others.chain(args.paths.iter().map(PathBuf::as_path));
    let repository = match (repository_around(current_dir)?, others.next()) {
        (None, Some(path)) => repository_around(&resolve(path, current_dir))?,
        (repository, _) => repository,
    };
    let is_revision = repository.is_some_and(|repository| commits_of(&repository, first).is_some());
    let is_file = may_exist(&current_dir.join(first));
    if is_revision && is_file && args.paths.is_empty() {
        bail!(
            Failure::new(format!("{first:?} is both a revision and a file")).hint(format!(
                "write ./{first} for the file; for the revision, put `--` and files or directories after it, such as `-- .`"
            ))
        );
    }
    Ok(is_revision.then_some(first))
}

/// Checks that a file exists, or that HEAD or one of its ancestors contains it.
#[expect(
    clippy::unnecessary_debug_formatting,
    reason = "an argument may contain any characters, such as quotes"
)]
fn check_exists(path: &Path, current_dir: &Path) -> Result<()> {
    if may_exist(&current_dir.join(path)) {
        return Ok(());
    }
    let absolute = resolve(path, current_dir);
    let repository = repository_around(&absolute)?;
    if let Some(repository) = &repository {
        if repository.has_history(&absolute)? {
            return Ok(());
        }
        if let Some(module) = repository.submodule_around(&absolute)? {
            let (path, module, root) = (path.shown(), module.shown(), repository.root().shown());
            let message = format!("{path} is in the submodule {module}, which is not checked out");
            bail!(Failure::new(message).hint(format!(
                "run `git submodule update --init -- {module}` in {root}"
            )));
        }
    }
    let failure = Failure::new(format!("{path:?} is neither a revision nor a file"));
    let repository = repository_around(current_dir)?.or(repository);
    bail!(
        match repository.and_then(|repository| hint(&repository, path)) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    )
}

/// Returns the likely remedy for an argument that is neither a file nor, in its position, a revision.
fn hint(repository: &Repository, argument: &Path) -> Option<&'static str> {
    let text = argument.to_str().unwrap_or_default();
    let looks_like_revision = text.contains(['~', '^']) || text.contains("..");
    if commits_of(repository, text).is_some() {
        Some("write two revisions as A..B, in the first argument")
    } else if looks_like_revision && repository.is_shallow() {
        Some(
            "this is a shallow clone, which lacks older commits; fetch them with `git fetch --unshallow`",
        )
    } else {
        None
    }
}

/// Returns whether the path may exist: a file in a directory that cannot be searched counts.
fn may_exist(path: &Path) -> bool {
    !files::is_absent(path).unwrap_or(false)
}

/// Returns the absolute paths that an argument names: for a symbolic link, both the link, which may have replaced a
/// file, and its target.
fn absolute_paths(path: &Path, current_dir: &Path) -> Vec<PathBuf> {
    let mut paths = vec![resolve(path, current_dir)];
    let link = current_dir.join(path);
    if link.is_symlink()
        && let (Some(directory), Some(name)) = (link.parent(), link.file_name())
    {
        paths.push(resolve(directory, current_dir).join(name));
    }
    paths
}

/// Returns the absolute path with symbolic links resolved. The file need not exist.
fn resolve(path: &Path, current_dir: &Path) -> PathBuf {
    let path = current_dir.join(path);
    let resolved = path.ancestors().find_map(|above| {
        let directory = above.canonicalize().ok()?;
        let relative = path.strip_prefix(above).ok()?;
        Some(
            relative
                .components()
                .fold(directory, |path, part| path.join(part)),
        )
    });
    resolved.unwrap_or(path)
}

/// Returns the repository that a path is compared in. For a path in a submodule of the repository around the current
/// directory, this is the containing repository, as for a comparison without paths.
fn repository_for(path: &Path, current_dir: &Path) -> Result<Option<Repository>, GitError> {
    let nearest = match repository_around(path) {
        Ok(Some(nearest)) => nearest,
        Ok(None) => return Ok(None),
        // The comparison of the containing repository reports a submodule whose repository is lost.
        Err(error) => return containing_repository(path).ok_or(error).map(Some),
    };
    let own = repository_around(current_dir).ok().flatten();
    let own = own.filter(|own| nearest.root().starts_with(own.root()));
    let own = own.filter(|own| own.contains_submodule(nearest.root()));
    Ok(Some(own.unwrap_or(nearest)))
}

/// Returns the repository whose submodule contains this path.
fn containing_repository(path: &Path) -> Option<Repository> {
    let module = git::work_tree(path)?;
    let outer = repository_around(module.parent()?).ok().flatten()?;
    let submodule = outer.submodule_around(&module).ok().flatten();
    submodule.map(|_| outer)
}

/// Returns the repository around a file or directory, which need not exist.
fn repository_around(path: &Path) -> Result<Option<Repository>, GitError> {
    let directory = path.ancestors().find(|above| above.is_dir());
    match Repository::discover(directory.unwrap_or(path)) {
        Ok(repository) => Ok(Some(repository)),
        Err(GitError::NoRepository(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn states(repository: &Repository, revision: Option<&str>) -> Result<(ObjectId, Option<ObjectId>)> {
    let commits = commits_of(repository, revision.unwrap_or("HEAD"));
    for name in revision
        .into_iter()
        .flat_map(|revision| revision.split(".."))
    {
        check_unambiguous(repository, name)?;
        if repository.is_ambiguous(name) {
            report::warn(&format!(
                "{name:?} is a branch or tag, and also the beginning of the hash of another commit; the branch or tag is \
                 compared; to compare the commit, write more digits of its hash"
            ));
        }
    }
    commits.with_context(|| match revision {
        _ if repository.has_reftable() => format!(
            "the repository {} stores its branches in the reftable format, which `seal` cannot read\n\
             hint: convert them with `git refs migrate --ref-format=files`",
            repository.root().shown()
        ),
        None => "the repository has no commit to compare with".to_owned(),
        Some(revision) => format!(
            "{revision:?} is not a revision of the repository {}",
            repository.root().shown()
        ),
    })
}

/// Fails if a revision names several references of different commits. Git would prefer a tag, which another author may
/// have created, to the branch that the user means.
fn check_unambiguous(repository: &Repository, name: &str) -> Result<(), Failure> {
    let references = repository.ambiguous_references(name);
    let Some(last) = references.last() else {
        return Ok(());
    };
    let hint = format!("write the full name, such as {last}");
    let message = format!(
        "{name:?} is ambiguous: it may mean {}",
        references.join(" or ")
    );
    Err(Failure::new(message).hint(hint))
}

/// Returns both commits of `A..B`, or the commit of a single revision; `None` if a commit does not exist.
fn commits_of(repository: &Repository, revision: &str) -> Option<(ObjectId, Option<ObjectId>)> {
    let commit = |name: &str| repository.commit(if name.is_empty() { "HEAD" } else { name });
    match revision.split_once("..") {
        Some((from, to)) => Some((commit(from)?, Some(commit(to)?))),
        None => Some((commit(revision)?, None)),
    }
}
