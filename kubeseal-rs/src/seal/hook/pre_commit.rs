//! The pre-commit hook.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use kubeseal_library::git::Repository;
use kubeseal_library::{files, platform};

use super::super::Outcome;
use crate::failure::Failure;
use crate::report;
use crate::report::ShowPath as _;

/// The first lines of a hook that this version installs.
const HEAD: &str = "#!/bin/sh\n\
# Written by `seal hook install`: runs `seal lint` before `git commit`, but not before cherry-pick, rebase, am and merge.\n";

/// The first lines of hooks that earlier versions installed.
const EARLIER_HEAD: &str = "#!/bin/sh\n\
# Written by `seal hook install`: nothing is committed in which `seal lint` finds something.\n";

/// The size limit, in bytes, for comparing an existing hook; hooks of `seal` are small.
const MAX_COMPARED: u64 = 1 << 20;

/// The prefix and the suffix of the line that runs `seal`. The line contains the absolute path of `seal`: with a
/// relative directory in `PATH`, a `seal` from the repository could run. `seal` determines the staged files itself, so
/// that the repository's configuration has no effect.
const LINE: (&str, &str) = ("exec ", " lint --staged\n");

/// Lines of hooks that earlier versions installed.
const EARLIER_LINES: [&str; 4] = [
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint\n",
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint --\n",
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint --found --\n",
    "git diff --cached --name-only --ignore-submodules --diff-filter=ACMRT -z -- \
':(icase)*.yaml' ':(icase)*.yml' ':(icase)*.json' | xargs -0 -r seal lint --staged --\n",
];

/// Installs the hook.
///
/// # Errors
///
/// Fails if another hook exists, or if the hooks directory is where the author of the repository could control it.
pub(super) fn install(repository: &Repository, hook: &str) -> Result<Outcome> {
    let directory = repository.hooks_directory()?;
    let path = directory.join(NAME);
    if let Some(link) = [&directory, &path]
        .into_iter()
        .find(|path| path.is_symlink())
    {
        // The link may lead out of the repository.
        let link = files::relative_to_current_directory(link);
        let message = format!("{} is a symbolic link, which is not followed", link.shown());
        bail!(
            Failure::new(message)
                .hint("add the output of `seal hook install --print` to the target of this link")
        );
    }
    write(&path, hook)
}

/// Removes the hook if `seal` wrote it.
///
/// # Errors
///
/// Fails if the hooks directory is not known, or if the hook cannot be removed.
pub(super) fn uninstall(repository: &Repository) -> Result<()> {
    let path = repository.hooks_directory()?.join(NAME);
    let relative = files::relative_to_current_directory(&path);
    match files::read_regular(&path, MAX_COMPARED) {
        Ok(hook) if !path.is_symlink() && is_written_by_seal(&hook) => {
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}", path.shown()))?;
            report::info(&format!("{} removed", relative.shown()));
        }
        _ if path.exists() => report::info(&format!(
            "{} is not from `seal hook install`, and stays",
            relative.shown()
        )),
        _ => {}
    }
    Ok(())
}

/// Describes the hook of a repository.
pub(super) fn status(repository: &Repository, hook: &str) -> &'static str {
    let Ok(directory) = repository.hooks_directory() else {
        return "unknown, because the repository sets another hooks directory";
    };
    let path = directory.join(NAME);
    match files::read_regular(&path, MAX_COMPARED) {
        Ok(existing) if *existing == hook.as_bytes() => "installed",
        Ok(existing) if is_written_by_seal(&existing) => {
            "installed by another version or path of seal; run `seal hook install`"
        }
        _ if path.exists() => "another hook",
        _ => "not installed; run `seal hook install`",
    }
}

/// The name of the hook.
const NAME: &str = "pre-commit";

fn write(path: &Path, hook: &str) -> Result<Outcome> {
    let relative = files::relative_to_current_directory(path);
    match files::read_regular(path, MAX_COMPARED) {
        Ok(existing) if *existing == hook.as_bytes() => {
            report::info(&format!("{} is already installed", relative.shown()));
            return Ok(Outcome::Done);
        }
        Ok(existing) if is_written_by_seal(&existing) => {}
        Err(_) if !path.exists() => {}
        _ => bail!(
            Failure::new(format!(
                "{} already exists with other content",
                relative.shown()
            ))
            .hint("add the output of `seal hook install --print` to this file")
        ),
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.shown()))?;
    files::replace(path, hook.as_bytes())?;
    platform::make_executable(path)
        .with_context(|| format!("cannot make {} executable", path.shown()))?;
    report::info(&format!("{} written", relative.shown()));
    Ok(Outcome::Done)
}

/// Returns the hook, a shell script that runs `program`, whose path is quoted.
pub(super) fn hook(program: &str) -> String {
    format!("{HEAD}{}{program}{}", LINE.0, LINE.1)
}

/// Returns whether `seal` wrote the hook, perhaps in an earlier version or under another path, and the user has not
/// changed it.
fn is_written_by_seal(hook: &[u8]) -> bool {
    let text = std::str::from_utf8(hook).unwrap_or_default();
    let mut heads = [HEAD, EARLIER_HEAD].into_iter();
    let Some(line) = heads.find_map(|head| text.strip_prefix(head)) else {
        return false;
    };
    let names_another_path = || {
        let path = line.strip_prefix(LINE.0)?.strip_suffix(LINE.1)?;
        Some(shlex::split(path)?.len() == 1)
    };
    EARLIER_LINES.contains(&line) || names_another_path() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_only_unchanged_hooks_that_seal_wrote() {
        for line in EARLIER_LINES {
            for head in [HEAD, EARLIER_HEAD] {
                assert!(
                    is_written_by_seal(format!("{head}{line}").as_bytes()),
                    "{line}"
                );
            }
        }
        let installed = hook("'/opt/a directory/seal'");
        assert!(
            installed.ends_with("\nexec '/opt/a directory/seal' lint --staged\n"),
            "{installed}"
        );
        assert!(is_written_by_seal(installed.as_bytes()));
        for other in [
            "#!/bin/sh\nexec /opt/seal lint --staged\n".to_owned(),
            format!("{HEAD}make test && exec /opt/seal lint --staged\n"),
            format!("{HEAD}exec /opt/seal lint --staged\nmake test\n"),
            format!("{HEAD}exec env A=1 /opt/seal lint --staged\n"),
        ] {
            assert!(!is_written_by_seal(other.as_bytes()), "{other}");
        }
    }
}
