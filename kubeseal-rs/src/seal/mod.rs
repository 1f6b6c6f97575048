//! Runs the `seal` commands. Each command reads, decides in pure functions, and writes last, so an error before it
//! writes changes nothing.
//!
//! A new command needs changes in four files:
//!
//! 1. `seal/NAME.rs`: its arguments, a struct with `clap::Args` and an example in its help, and
//!    `run(&Args, &Environment) -> anyhow::Result<Outcome>`,
//! 2. `seal_args/mod.rs`: a variant of [`Command`] that contains the struct,
//! 3. this file: the module and an arm in [`run`],
//! 4. `tests/seal/NAME.trycmd`: a story; `seal_examples` in the crate `tests` runs the examples of
//!    the help.
//!
//! Shared modules:
//!
//! | module | owns |
//! |---|---|
//! | [`session`] | rules and certificates of one run, each read once |
//! | [`settings`] | which certificate, scope and namespace apply to one file |
//! | [`recipients`] | the keys that v2 values of one file are sealed for |
//! | [`sealing`] | sealing a Secret under these settings |
//! | [`target`] | one SealedSecret in a file, and changes to its items |
//! | [`v2_items`] | sealing new v2 values for an object in a file |
//! | `annotations` | annotations that have an effect only on a SealedSecret |
//! | `binding` | whether new v2 values are bound to the template |
//! | [`values`], [`names`] | reading values; valid names |
//! | [`decryption`] | identities, passphrases and keys in backups |
//! | [`revealer`] | values, decrypted with keys or from the cluster |
//! | [`in_cluster`] | values of the Secret in the cluster |
//! | [`destination`] | writing a new SealedSecret |
//! | [`object`] | a SealedSecret for display: structure, lines, hints |
//! | `output` | reports for programs: JSON and YAML |
//! | `table` | tables for people |

mod annotations;
mod binding;
pub mod cert;
pub mod completions;
pub mod config;
pub mod create;
pub mod decryption;
pub mod destination;
pub mod diff;
pub mod doctor;
pub mod edit;
pub mod exec;
pub mod files;
pub mod generate;
pub mod get;
pub mod grant;
#[cfg(test)]
mod hints;
pub mod hook;
pub mod import;
pub mod in_cluster;
pub mod inventory;
pub mod keys;
pub mod lint;
pub mod man;
pub mod merge_file;
mod output;
pub mod page;
pub mod pods;
mod post_quantum;
pub mod recipients;
pub mod requirements;
pub mod restart;
pub mod revealer;
pub mod rotate;
pub mod sealing;
pub mod session;
pub mod set;
pub mod settings;
mod size;
mod table;
pub mod target;
pub mod textconv;
pub mod uninstall;
pub mod unset;
pub mod v2_items;
pub mod values;
pub mod view;

use std::ffi::OsString;

use anyhow::Result;
use kubeseal_library::environment::Environment;
pub use kubeseal_library::object;
use shared::names;

use crate::failure::Failure;
use crate::report;
use crate::seal_args::Command;

/// The outcome of a run without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The run succeeded, and a check found no problem.
    Done,
    /// A check found problems, and has already printed them.
    Findings,
}

/// Runs a command.
///
/// # Errors
///
/// Returns the first error. In that case, nothing has been written, unless the error states otherwise.
pub fn run(command: &Command, environment: &Environment) -> Result<Outcome, Failure> {
    Ok(run_command(command, environment)?)
}

fn run_command(command: &Command, environment: &Environment) -> Result<Outcome> {
    match command {
        Command::Files(args) => files::run(args, environment),
        Command::Create(args) => create::run(args, environment),
        Command::Set(args) => set::run(args, environment),
        Command::Unset(args) => unset::run(args),
        Command::Generate(args) => generate::run(args, environment),
        Command::Edit(args) => edit::run(args, environment),
        Command::Rotate(args) => rotate::run(args, environment),
        Command::Import(args) => import::run(args, environment),
        Command::View(args) => view::run(args, environment),
        Command::Get(args) => get::run(args, environment),
        Command::Diff(args) => diff::run(args, environment),
        Command::Inventory(args) => inventory::run(args, environment),
        Command::Lint(args) => lint::run(args, environment),
        Command::Config(args) => config::run(args, environment),
        Command::Keys(args) => keys::run(args, environment),
        Command::Cert(args) => cert::run(args, environment),
        Command::Doctor(args) => doctor::run(args, environment),
        Command::Exec(args) => exec::run(args, environment),
        Command::Agent(args) => role(roles::agent::run(args, variable, Some(check_template))),
        Command::Grant(args) => grant::run(args, environment),
        Command::Node(args) => role(roles::node::run(args)),
        Command::Page(args) => page::run(args, environment),
        Command::Pods(args) => pods::run(args, environment),
        Command::Restart(args) => restart::run(args, environment),
        Command::Uninstall(args) => uninstall::run(args, environment),
        Command::Hook(args) => hook::run(args),
        Command::MergeFile(args) => merge_file::run(args),
        Command::Textconv(args) => textconv::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// Returns the outcome of a role, which has no findings.
fn role(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Done)
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn check_template(name: &str, text: &str) -> Result<(), String> {
    let parsed = template::Template::parse(name, text);
    parsed
        .map(drop)
        .map_err(|error| shared::error_chain(&error))
}

/// Prints a result to stdout.
fn print(bytes: &[u8]) -> Result<Outcome> {
    report::print(bytes).map_err(crate::command::CommandError::Stdout)?;
    Ok(Outcome::Done)
}
