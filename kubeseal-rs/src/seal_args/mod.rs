//! Parses the command line of `seal` into a [`Command`], and defines the options that several commands share. The
//! arguments of a command are in its own module in [`crate::seal`], or in the crate `roles`.

mod cluster;
mod destination;
mod formats;
mod key_location;
mod sealing;
mod secret_properties;
mod tls_port;
mod unknown_command;

use std::ffi::OsString;
use std::path::Path;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use flags::Stop;
use kubeseal_library::format::Format;
use roles::agent::Agent;
use roles::node::Node;

use crate::seal::cert::Cert;
use crate::seal::completions::Completions;
use crate::seal::config::Config;
use crate::seal::create::Create;
use crate::seal::diff::Diff;
use crate::seal::doctor::Doctor;
use crate::seal::due::DueItems;
use crate::seal::edit::Edit;
use crate::seal::exec::Exec;
use crate::seal::files::Files;
use crate::seal::generate::Generate;
use crate::seal::get::Get;
use crate::seal::grant::Grant;
use crate::seal::hook::Hook;
use crate::seal::import::Import;
use crate::seal::inventory::Inventory;
use crate::seal::keys::Keys;
use crate::seal::lint::Lint;
use crate::seal::man::Man;
use crate::seal::merge_file::MergeFile;
use crate::seal::page::SealPage;
use crate::seal::pods::Pods;
use crate::seal::restart::Restart;
use crate::seal::rotate::Rotate;
use crate::seal::set::Set;
use crate::seal::textconv::Textconv;
use crate::seal::uninstall::Uninstall;
use crate::seal::unset::Unset;
use crate::seal::view::View;
pub use cluster::{Cluster, Controller};
pub use destination::Destination;
pub use formats::{OutputFormat, ReportFormat};
pub use key_location::{DecryptionArgs, KeyLocation};
pub use sealing::Sealing;
pub use secret_properties::SecretProperties;
pub use tls_port::TlsPort;
pub use unknown_command::hint as unknown_command_hint;

/// Returns the parser of `--output` for commands that print YAML or JSON.
pub fn output_format() -> impl TypedValueParser<Value = Format> {
    let formats = [
        PossibleValue::new("json").help("Indented JSON, one object after another"),
        PossibleValue::new("yaml").help("YAML documents, each after `---`"),
    ];
    PossibleValuesParser::new(formats).map(|name| match name.as_str() {
        "json" => Format::Json,
        _ => Format::Yaml,
    })
}

/// A command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Seal files; the command if the command line names none.
    #[command(skip)]
    Files(Files),
    /// Create a SealedSecret from values
    Create(Box<Create>),
    /// Set one item in a sealed file
    Set(Set),
    /// Remove items from a sealed file
    Unset(Unset),
    /// Create a SealedSecret with random values
    Generate(Generate),
    /// Edit values in a sealed file with an editor
    Edit(Edit),
    /// Re-encrypt files and directories for the newest key
    Rotate(Rotate),
    /// Import existing secrets: .env files, sops files, Secrets from a cluster
    Import(Import),
    /// Show the contents of sealed files, without values
    View(View),
    /// Print the value of one item
    Get(Get),
    /// Show which sealed items changed since a commit
    Diff(Diff),
    /// List everything that is sealed, in files and in the cluster
    Inventory(Inventory),
    /// Check files and directories, without a cluster
    Lint(Lint),
    /// Show which values have to be changed soon, by their rotate-by dates
    Due(DueItems),
    /// Explain which rule of .seal.yaml applies to a file
    Config(Config),
    /// Manage keys: list, back up, restore, renew, retire
    Keys(Keys),
    /// Fetch, show or verify the certificate of the controller
    Cert(Cert),
    /// Write a page in which people without a shell seal values, or verify one
    Page(SealPage),
    /// Diagnose the connection to the controller, and values that cannot be unsealed
    Doctor(Doctor),
    /// Run a command with values in its environment
    Exec(Exec),
    /// Write values to files in a Pod, without a Secret; runs in the cluster
    Agent(Agent),
    /// Print the permissions that let a Pod receive values
    Grant(Grant),
    /// Show which Pods have which version of a Secret
    Pods(Pods),
    /// Deliver values to volumes of the Secrets Store CSI driver; runs on each node
    Node(Node),
    /// Restart and refresh applications after a change; runs in the cluster
    Restart(Restart),
    /// Clean up statuses before going back to Bitnami's controller
    Uninstall(Uninstall),
    /// Install a Git pre-commit hook, a merge driver and a text conversion
    Hook(Hook),
    /// Merge three versions of a file; Git runs this command
    #[command(hide = true)]
    MergeFile(MergeFile),
    /// Show a file with descriptions in place of sealed values; Git runs this command
    #[command(hide = true)]
    Textconv(Textconv),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page
    Man(Man),
}

#[derive(Debug, Parser)]
#[command(
    name = "seal",
    version,
    about = "Seal secrets for Git, and work on sealed files. Encryption needs only public keys.",
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    override_usage = "seal [OPTIONS] [FILE]...\n       seal COMMAND ..."
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    files: Files,
}

const AFTER_HELP: &str = "\
Exit codes: 0 success, 1 a check has findings (such as lint), 2 failure or wrong usage.
A command that fails changes no files, except those that its error names.

Examples:
  seal --cert cert.pem -i secret.yaml
  seal --cert cert.pem < secret.yaml > db.sealed.yaml";

/// Parses the command line, which begins with the program's name.
///
/// # Errors
///
/// Returns [`Stop`] if help was requested or the arguments are invalid.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Stop> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    // `help` has no help text of its own, so `help --help` means `help`.
    if let Some(index) = args.iter().position(|arg| arg == "help")
        && args[index..]
            .iter()
            .skip(1)
            .all(|arg| arg == "--help" || arg == "-h")
    {
        args.truncate(index + 1);
    }
    let mut command = Args::command();
    if args.first().is_some_and(|name| is_plugin(Path::new(name))) {
        command = command.bin_name("kubectl seal");
    }
    let word = args
        .get(1)
        .and_then(|word| word.to_str())
        .map(str::to_owned);
    let matches = command.try_get_matches_from(args);
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches));
    let args = args.map_err(|error| {
        let hint = hint_for(&error, word.as_deref());
        let mut error = without_risky_suggestion(error);
        if hint.is_some() {
            error.remove(ContextKind::SuggestedArg);
        }
        with_hint(to_stop(&error), hint)
    })?;
    Ok(args.command.unwrap_or(Command::Files(args.files)))
}

/// Returns whether `kubectl` started the program as a plug-in.
fn is_plugin(program: &Path) -> bool {
    program
        .file_stem()
        .is_some_and(|stem| stem == "kubectl-seal")
}

/// Returns the clap definition of `seal`, for completions, manual pages and tests.
pub fn program() -> clap::Command {
    Args::command()
}

fn to_stop(error: &clap::Error) -> Stop {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Help(text),
        _ => Stop::Usage(text),
    }
}

/// Flags that replace or remove what a file contains, or show values on a terminal.
const RISKY_FLAGS: [&str; 3] = ["--force", "--remove-plain", "--replace"];

/// Removes the suggestion of a similar flag if it is risky, and the usage, which names it too: a user may follow a
/// suggestion without thinking.
fn without_risky_suggestion(mut error: clap::Error) -> clap::Error {
    let is_risky = |text: &str| {
        text.split(['\'', ' '])
            .any(|word| RISKY_FLAGS.contains(&word))
    };
    let names_risky_flag = |kind| match error.get(kind) {
        Some(ContextValue::String(flag)) => is_risky(flag),
        Some(ContextValue::StyledStrs(texts)) => {
            texts.iter().any(|text| is_risky(&text.to_string()))
        }
        _ => false,
    };
    let kinds = [ContextKind::SuggestedArg, ContextKind::Suggested];
    if kinds.into_iter().any(names_risky_flag) {
        for kind in [
            ContextKind::SuggestedArg,
            ContextKind::Suggested,
            ContextKind::Usage,
        ] {
            error.remove(kind);
        }
    }
    error
}

/// Returns the hint for a command line whose first word is not a command, such as `seal decrypt --key FILE`, or that
/// has a flag of `kubeseal`.
fn hint_for(error: &clap::Error, word: Option<&str>) -> Option<String> {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => {
            unknown_command::flag_hint(flag)
        }
        _ => None,
    };
    word.and_then(unknown_command_hint).or(flag)
}

fn with_hint(stop: Stop, hint: Option<String>) -> Stop {
    match (stop, hint) {
        (Stop::Usage(text), Some(hint)) => Stop::Usage(format!("{text}\nhint: {hint}\n")),
        (stop, _) => stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_definition_is_valid() {
        program().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_none() || command.get_name() == "seal" {
                let help = command.get_after_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                assert!(help.contains("\n  seal "), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&program());
    }

    #[test]
    fn help_shows_kubectl_seal_for_the_plug_in() {
        let help =
            |program: &str| match parse([program, "keys", "list", "--help"].map(OsString::from)) {
                Err(Stop::Help(text)) => text,
                _ => unreachable!("help"),
            };
        assert!(help("/usr/local/bin/kubectl-seal").contains("Usage: kubectl seal keys list"));
        assert!(help("/usr/local/bin/seal").contains("Usage: seal keys list"));
    }

    #[test]
    fn files_are_sealed_without_a_command_name() {
        let parse_args = |args: &[&str]| parse(args.iter().map(OsString::from));
        let Ok(Command::Files(files)) = parse_args(&["seal", "-i", "a.yaml", "b.yaml"]) else {
            unreachable!("files")
        };
        assert_eq!(files.files.len(), 2);
        assert!(matches!(
            parse_args(&["seal", "config", "explain", "a"]),
            Ok(Command::Config(_))
        ));
        assert!(matches!(
            parse_args(&["seal", "-i", "--stdout"]),
            Err(Stop::Usage(_))
        ));
        for args in [
            &["seal", "--help"][..],
            &["seal", "help"],
            &["seal", "help", "--help"],
            &["seal", "help", "-h"],
            &["seal", "keys", "help", "--help"],
        ] {
            assert!(matches!(parse_args(args), Err(Stop::Help(_))), "{args:?}");
        }
    }
}
