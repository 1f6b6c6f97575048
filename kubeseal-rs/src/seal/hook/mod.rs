//! `seal hook`: has Git check sealed files before a commit, merge them by item, and show them without ciphertexts.

mod drivers;
mod pre_commit;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use kubeseal_library::git::{GitError, Repository};
use kubeseal_library::programs;

use super::{Outcome, print};
use crate::failure::Failure;
use crate::report::ShowPath as _;
use drivers::Driver;

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
    /// Install a pre-commit hook that runs `seal lint` on staged files, or a driver for merges or differences
    Install(HookInstall),
    /// Remove what `seal hook install` wrote to this clone
    Uninstall(HookUninstall),
    /// Show what is installed in this clone; exit code 1 if .gitattributes names a driver that is missing
    Status(HookStatus),
}

/// Arguments of `seal hook install`.
#[derive(Debug, Args)]
#[command(after_help = "\
Git runs no pre-commit hook for `git cherry-pick`, `git rebase`, `git am` and a merge without conflicts, nor with \
--no-verify: run `seal lint` in CI, too.\n\n\
--merge and --diff change .gitattributes, which is committed, and the configuration of this clone: each clone needs \
them. Without them, or if this program no longer exists, Git merges and compares lines. --merge and --diff do not \
install the hook.\n\n\
Examples:\n  seal hook install && seal hook install --merge --diff\n  seal hook install --merge --pattern '*.json'\n  \
seal hook install --print")]
pub struct HookInstall {
    /// Print the hook or the settings instead of installing them, to add them to existing ones
    #[arg(long)]
    pub print: bool,
    /// Install a merge driver: changes of different items merge without a conflict and without a key
    #[arg(long)]
    pub merge: bool,
    /// Install a text conversion: `git diff` and `git log -p` show items and keys instead of ciphertexts
    #[arg(long)]
    pub diff: bool,
    /// Pattern of .gitattributes for --merge and --diff; repeatable; *.yaml and *.yml if not given
    #[arg(long, value_name = "PATTERN")]
    pub pattern: Vec<String>,
}

/// Arguments of `seal hook uninstall`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without an option, removes the hook and both drivers. .gitattributes is not changed, because other clones use it; Git \
ignores drivers that a clone does not have.\n\n\
Examples:\n  seal hook uninstall\n  seal hook uninstall --merge")]
pub struct HookUninstall {
    /// Remove only the merge driver, and with --diff also the text conversion
    #[arg(long)]
    pub merge: bool,
    /// Remove only the text conversion, and with --merge also the merge driver
    #[arg(long)]
    pub diff: bool,
}

/// Arguments of `seal hook status`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal hook status")]
pub struct HookStatus {}

/// Runs `seal hook`.
///
/// # Errors
///
/// Fails outside a work tree, if another hook exists, or if the hook, the configuration or `seal` itself is where the
/// author of the repository could control it.
pub fn run(args: &Hook) -> Result<Outcome> {
    match &args.verb {
        HookVerb::Install(args) => install(args),
        HookVerb::Uninstall(args) => uninstall(args),
        HookVerb::Status(_) => status(),
    }
}

fn install(args: &HookInstall) -> Result<Outcome> {
    let program = this_program()?;
    let chosen = chosen_drivers(args.merge, args.diff);
    if chosen.is_empty() && !args.pattern.is_empty() {
        bail!(Failure::new("--pattern needs --merge or --diff"));
    }
    let quoted = quoted(&program)?;
    if args.print && chosen.is_empty() {
        return print(pre_commit::hook(&quoted).as_bytes());
    }
    if args.print {
        return print(drivers::settings_text(&chosen, &quoted, &args.pattern)?.as_bytes());
    }
    let repository = repository()?;
    check_outside(&program, &repository)?;
    if chosen.is_empty() {
        return pre_commit::install(&repository, &pre_commit::hook(&quoted));
    }
    drivers::install(&repository, &chosen, &quoted, &args.pattern)
}

fn uninstall(args: &HookUninstall) -> Result<Outcome> {
    let repository = repository()?;
    let chosen = chosen_drivers(args.merge, args.diff);
    if !chosen.is_empty() {
        return drivers::uninstall(&repository, &chosen);
    }
    pre_commit::uninstall(&repository)?;
    drivers::uninstall(&repository, &Driver::ALL)
}

fn status() -> Result<Outcome> {
    let repository = repository()?;
    let quoted = quoted(&this_program()?)?;
    let hook = pre_commit::status(&repository, &pre_commit::hook(&quoted));
    let mut lines = vec![format!("pre-commit hook: {hook}\n")];
    let mut outcome = Outcome::Done;
    for driver in Driver::ALL {
        let status = drivers::status(&repository, driver, &quoted)?;
        lines.push(format!("{}: {status}\n", driver.description()));
        if status.is_finding() {
            outcome = Outcome::Findings;
        }
    }
    print(lines.concat().as_bytes())?;
    Ok(outcome)
}

fn chosen_drivers(merge: bool, diff: bool) -> Vec<Driver> {
    let chosen = [(merge, Driver::Merge), (diff, Driver::Diff)].into_iter();
    chosen
        .filter_map(|(is_chosen, driver)| is_chosen.then_some(driver))
        .collect()
}

fn repository() -> Result<Repository> {
    let repository = Repository::discover(Path::new(".")).map_err(|error| match error {
        GitError::NoRepository(_) => Failure::new(
            "the current directory is not in a Git work tree",
        )
        .hint("create one with `git init`; in a bare repository, no hook runs before a commit"),
        error => Failure::from(anyhow::Error::from(error)),
    });
    Ok(repository?)
}

/// Refuses a program inside the work tree.
fn check_outside(program: &Path, repository: &Repository) -> Result<()> {
    let tree = repository.root().canonicalize()?;
    if !program.canonicalize()?.starts_with(tree) {
        return Ok(());
    }
    let message = format!(
        "this `seal` is inside the work tree ({}), where any commit can replace it",
        program.shown()
    );
    Err(Failure::new(message)
        .hint("install it outside the work tree")
        .into())
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

/// Returns the path of the program, quoted for a shell.
fn quoted(program: &Path) -> Result<String> {
    let unquotable = || {
        let path = program.shown();
        let message =
            format!("the path of this program cannot be quoted for a shell script: {path}");
        Failure::new(message).hint("install it under another path")
    };
    let name = program.to_str().with_context(unquotable)?;
    // Git for Windows runs hooks with a shell that accepts these slashes.
    let name = if cfg!(windows) {
        name.replace('\\', "/")
    } else {
        name.to_owned()
    };
    let quoted = shlex::try_quote(&name).ok().with_context(unquotable)?;
    Ok(quoted.into_owned())
}
