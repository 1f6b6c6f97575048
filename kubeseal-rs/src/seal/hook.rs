//! `seal hook install`: a pre-commit hook of Git.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Outcome, print};
use crate::seal_args::{Hook, HookInstall, HookVerb};
use crate::{files, git, platform, report};

/// How every hook of ours begins.
const HEAD: &str = "#!/bin/sh\n\
# Written by `seal hook install`: nothing is committed in which `seal lint` finds something.\n";

/// Looks at the files that are about to be committed, as they are staged; a link that becomes a file is
/// one of them.
const LINE: &str = "git diff --cached --name-only --ignore-submodules --diff-filter=ACMRT -z -- \
':(icase)*.yaml' ':(icase)*.yml' ':(icase)*.json' | xargs -0 -r seal lint --staged --\n";

/// What earlier versions wrote. All looked at the work tree, where a file may be sealed that is staged in
/// plain text, and the last alone passed over files that are no YAML.
const EARLIER: [&str; 3] = [
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint\n",
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint --\n",
    "git diff --cached --name-only --diff-filter=ACMR -z -- '*.yaml' '*.yml' '*.json' | xargs -0 -r seal lint --found --\n",
];

/// Runs the command.
///
/// # Errors
///
/// This is no repository, or it has another hook.
pub fn run(words: &Hook) -> Result<Outcome> {
    let HookVerb::Install(HookInstall { print: is_print }) = &words.verb;
    let hook = format!("{HEAD}{LINE}");
    if *is_print {
        return print(hook.as_bytes());
    }
    let path = hook_path()?;
    match std::fs::read(&path) {
        Ok(there) if there == hook.as_bytes() => {
            report::say(&format!("{} is there", path.display()));
            return Ok(Outcome::Done);
        }
        Ok(there) if is_earlier(&there) => {}
        Ok(_) => bail!(
            "{} is there already and does something else; add what `seal hook install --print` prints",
            path.display()
        ),
        Err(_) => {}
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    files::replace(&path, hook.as_bytes())?;
    platform::make_executable(&path)
        .with_context(|| format!("cannot make {} executable", path.display()))?;
    report::say(&format!("{} written", path.display()));
    Ok(Outcome::Done)
}

/// What somebody changed is theirs, and none of these.
fn is_earlier(there: &[u8]) -> bool {
    let line = there.strip_prefix(HEAD.as_bytes());
    line.is_some_and(|line| EARLIER.iter().any(|earlier| earlier.as_bytes() == line))
}

/// Where Git looks, whatever its settings say. They may name a folder relative to the top of the work
/// tree, where hooks run.
fn hook_path() -> Result<PathBuf> {
    let line = |folder: &Path, word: &[&str]| -> Result<PathBuf> {
        let said = git::ask(folder, &[&["rev-parse"], word].concat())?;
        Ok(PathBuf::from(String::from_utf8_lossy(&said).trim_end()))
    };
    let here = Path::new(".");
    let way_up = line(here, &["--show-cdup"])
        .context("this is no Git repository to put a hook into; change into one, or make one with `git init`")?;
    let top = Some(way_up.as_path()).filter(|way| !way.as_os_str().is_empty());
    let hook = line(top.unwrap_or(here), &["--git-path", "hooks/pre-commit"])?;
    Ok(way_up.join(hook))
}
