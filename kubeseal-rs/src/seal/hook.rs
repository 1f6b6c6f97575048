//! `seal hook install`: a pre-commit hook of Git.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Outcome, print};
use crate::git::Repository;
use crate::report::ShowPath as _;
use crate::seal_args::{Hook, HookInstall, HookVerb};
use crate::{files, platform, programs, report};

/// How every hook of ours begins.
const HEAD: &str = "#!/bin/sh\n\
# Written by `seal hook install`: nothing is committed in which `seal lint` finds something.\n";

/// The largest hook that is compared, in bytes: those of `seal` are small.
const LARGEST: u64 = 1 << 20;

/// How the line begins and ends that runs `seal`, by its absolute path: a `PATH` with a relative folder in
/// it would find a `seal` that came with the repository. `seal` itself finds out what is staged, so that no
/// configuration of the repository has a say.
const LINE: (&str, &str) = ("exec ", " lint --staged\n");

/// What earlier versions wrote. The first three looked at the work tree, where a file may be sealed that is
/// staged in plain text, and the first two did not pass over files that are no YAML.
const EARLIER: [&str; 4] = [
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint\n",
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint --\n",
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint --found --\n",
    "git diff --cached --name-only --ignore-submodules --diff-filter=ACMRT -z -- \
':(icase)*.yaml' ':(icase)*.yml' ':(icase)*.json' | xargs -0 -r seal lint --staged --\n",
];

/// A hook cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The next checkout could replace the program.
    #[error(
        "this `seal` is in the work tree itself ({}), where any commit may replace it; install it elsewhere first",
        .0.shown()
    )]
    InTheTree(PathBuf),
    /// Its name cannot stand in a shell script.
    #[error("the path of this program cannot be written to a shell script: {}", .0.shown())]
    Unquotable(PathBuf),
    /// A link may lead out of the repository.
    #[error(
        "{} is a symbolic link, and a hook is not written through one; add what `seal hook install --print` prints \
         to the file that it leads to",
        .0.shown()
    )]
    Link(PathBuf),
    /// Another hook.
    #[error(
        "{} is there already and does something else; add what `seal hook install --print` prints",
        .0.shown()
    )]
    Taken(PathBuf),
}

/// Runs the command.
///
/// # Errors
///
/// This is no repository, or it has another hook.
pub fn run(words: &Hook) -> Result<Outcome> {
    let HookVerb::Install(HookInstall { print: is_print }) = &words.verb;
    let program = this_program()?;
    let hook = hook(&program)?;
    if *is_print {
        return print(hook.as_bytes());
    }
    let repository = Repository::around(Path::new("."))
        .context("not a Git repository; change into one, or make one with `git init`")?;
    if program
        .canonicalize()?
        .starts_with(repository.root().canonicalize()?)
    {
        return Err(HookError::InTheTree(program).into());
    }
    let folder = repository.hooks()?;
    let path = folder.join("pre-commit");
    if let Some(link) = [&folder, &path].into_iter().find(|path| path.is_symlink()) {
        return Err(HookError::Link(files::from_here(link)).into());
    }
    install(&path, &hook)
}

fn install(path: &Path, hook: &str) -> Result<Outcome> {
    let shown = files::from_here(path);
    match files::read_regular(path, LARGEST) {
        Ok(there) if *there == hook.as_bytes() => {
            report::say(&format!("{} is there", shown.shown()));
            return Ok(Outcome::Done);
        }
        Ok(there) if is_earlier(&there) => {}
        Err(_) if !path.exists() => {}
        _ => return Err(HookError::Taken(shown).into()),
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.shown()))?;
    files::replace(path, hook.as_bytes())?;
    platform::make_executable(path)
        .with_context(|| format!("cannot make {} executable", path.shown()))?;
    report::say(&format!("{} written", shown.shown()));
    Ok(Outcome::Done)
}

/// The text of the hook.
fn hook(program: &Path) -> Result<String, HookError> {
    let unquotable = || HookError::Unquotable(program.to_owned());
    let name = program.to_str().ok_or_else(unquotable)?;
    // Git for Windows runs hooks with a shell that takes these slashes.
    let name = if cfg!(windows) {
        name.replace('\\', "/")
    } else {
        name.to_owned()
    };
    let quoted = shlex::try_quote(&name).map_err(|_| unquotable())?;
    Ok(format!("{HEAD}{}{quoted}{}", LINE.0, LINE.1))
}

/// This program as `PATH` finds it, which outlives an update, if that is the same; else its own path.
fn this_program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find the path of this program")?;
    let same = programs::find("seal").filter(|found| {
        let whole = |path: &Path| path.canonicalize().ok();
        whole(found).is_some_and(|found| Some(found) == whole(&this))
    });
    Ok(same.unwrap_or(this))
}

/// What a user changed is theirs, and none of these.
fn is_earlier(there: &[u8]) -> bool {
    let text = std::str::from_utf8(there).unwrap_or_default();
    let Some(line) = text.strip_prefix(HEAD) else {
        return false;
    };
    let names_another_path = || {
        let path = line.strip_prefix(LINE.0)?.strip_suffix(LINE.1)?;
        Some(shlex::split(path)?.len() == 1)
    };
    EARLIER.contains(&line) || names_another_path() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_gives_way_only_if_it_is_ours() {
        for line in EARLIER {
            assert!(is_earlier(format!("{HEAD}{line}").as_bytes()), "{line}");
        }
        let ours = hook(Path::new("/opt/a folder/seal")).unwrap();
        assert!(
            ours.ends_with("\nexec '/opt/a folder/seal' lint --staged\n"),
            "{ours}"
        );
        assert!(is_earlier(ours.as_bytes()));
        for theirs in [
            "#!/bin/sh\nexec /opt/seal lint --staged\n".to_owned(),
            format!("{HEAD}make test && exec /opt/seal lint --staged\n"),
            format!("{HEAD}exec /opt/seal lint --staged\nmake test\n"),
            format!("{HEAD}exec env A=1 /opt/seal lint --staged\n"),
        ] {
            assert!(!is_earlier(theirs.as_bytes()), "{theirs}");
        }
    }
}
