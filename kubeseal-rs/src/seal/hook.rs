//! `seal hook install`: installs a Git pre-commit hook.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use kubeseal_library::git::{GitError, Repository};
use kubeseal_library::{files, platform, programs};

use super::{Outcome, print};
use crate::failure::Failure;
use crate::report;
use crate::report::ShowPath as _;

/// Arguments of `seal hook`.
#[derive(Debug, Args)]
pub struct Hook {
    /// The subcommand.
    #[command(subcommand)]
    pub verb: HookVerb,
}

/// Subcommands of `seal hook`.
#[derive(Debug, Subcommand)]
pub enum HookVerb {
    /// Install a pre-commit hook that runs `seal lint` on staged files
    Install(HookInstall),
}

/// Arguments of `seal hook install`.
#[derive(Debug, Args)]
#[command(after_help = "\
Git runs no pre-commit hook for `git cherry-pick`, `git rebase`, `git am` and a merge without conflicts, nor with \
--no-verify: run `seal lint` in CI, too.\n\n\
Examples:\n  seal hook install\n  seal hook install --print")]
pub struct HookInstall {
    /// Print the hook instead of installing it, to add it to an existing hook
    #[arg(long)]
    pub print: bool,
}

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
const EARLIER: [&str; 4] = [
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint\n",
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint --\n",
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint --found --\n",
    "git diff --cached --name-only --ignore-submodules --diff-filter=ACMRT -z -- \
':(icase)*.yaml' ':(icase)*.yml' ':(icase)*.json' | xargs -0 -r seal lint --staged --\n",
];

/// Installs a Git pre-commit hook; with `--print`, only prints it.
///
/// # Errors
///
/// Fails if the path of `seal` is not usable in a shell script. Without `--print`, fails outside a work tree, if
/// another hook exists, or if the hook or `seal` itself is where the author of the repository could control it.
pub fn run(args: &Hook) -> Result<Outcome> {
    let HookVerb::Install(HookInstall { print: print_only }) = &args.verb;
    let program = this_program()?;
    let hook = hook(&program)?;
    if *print_only {
        return print(hook.as_bytes());
    }
    let repository = Repository::discover(Path::new(".")).map_err(|error| match error {
        GitError::NoRepository(_) => Failure::new(
            "the current directory is not in a Git work tree",
        )
        .hint("create one with `git init`; in a bare repository, no hook runs before a commit"),
        error => Failure::from(anyhow::Error::from(error)),
    })?;
    let tree = repository.root().canonicalize()?;
    if program.canonicalize()?.starts_with(tree) {
        let message = format!(
            "this `seal` is inside the work tree ({}), where any commit can replace it",
            program.shown()
        );
        bail!(Failure::new(message).hint("install it outside the work tree"));
    }
    let directory = repository.hooks_directory()?;
    let path = directory.join("pre-commit");
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
    install(&path, &hook)
}

fn install(path: &Path, hook: &str) -> Result<Outcome> {
    let relative = files::relative_to_current_directory(path);
    match files::read_regular(path, MAX_COMPARED) {
        Ok(existing) if *existing == hook.as_bytes() => {
            report::info(&format!("{} is already installed", relative.shown()));
            return Ok(Outcome::Done);
        }
        Ok(existing) if is_from_earlier_version(&existing) => {}
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

/// Returns the hook, a shell script that runs `program`.
fn hook(program: &Path) -> Result<String> {
    let unquotable = || {
        let path = program.shown();
        let message =
            format!("the path of this program cannot be quoted for a shell script: {path}");
        Failure::new(message).hint("install it under another path")
    };
    let name = program.to_str().with_context(unquotable)?;
    // Git for Windows runs hooks with a shell that accepts forward slashes.
    let name = if cfg!(windows) {
        name.replace('\\', "/")
    } else {
        name.to_owned()
    };
    let quoted = shlex::try_quote(&name).ok().with_context(unquotable)?;
    Ok(format!("{HEAD}{}{quoted}{}", LINE.0, LINE.1))
}

/// Returns the path of this program: the path in `PATH` if it leads to the same file, since that path survives an
/// update, or else the program's own path.
fn this_program() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("cannot find the path of this program")?;
    let installed = programs::find("seal").filter(|path| {
        let canonical = |path: &Path| path.canonicalize().ok();
        canonical(path).is_some_and(|path| Some(path) == canonical(&executable))
    });
    Ok(installed.unwrap_or(executable))
}

/// Returns whether `seal` wrote the hook, in an earlier version or under another path, and the user has not changed it.
fn is_from_earlier_version(hook: &[u8]) -> bool {
    let text = std::str::from_utf8(hook).unwrap_or_default();
    let mut heads = [HEAD, EARLIER_HEAD].into_iter();
    let Some(line) = heads.find_map(|head| text.strip_prefix(head)) else {
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
    fn replaces_only_hooks_of_earlier_versions() {
        for line in EARLIER {
            for head in [HEAD, EARLIER_HEAD] {
                assert!(
                    is_from_earlier_version(format!("{head}{line}").as_bytes()),
                    "{line}"
                );
            }
        }
        let installed = hook(Path::new("/opt/a directory/seal")).unwrap();
        assert!(
            installed.ends_with("\nexec '/opt/a directory/seal' lint --staged\n"),
            "{installed}"
        );
        assert!(is_from_earlier_version(installed.as_bytes()));
        for other in [
            "#!/bin/sh\nexec /opt/seal lint --staged\n".to_owned(),
            format!("{HEAD}make test && exec /opt/seal lint --staged\n"),
            format!("{HEAD}exec /opt/seal lint --staged\nmake test\n"),
            format!("{HEAD}exec env A=1 /opt/seal lint --staged\n"),
        ] {
            assert!(!is_from_earlier_version(other.as_bytes()), "{other}");
        }
    }
}
