//! Runs a command with values in its environment or in files in memory.

#[cfg(target_os = "linux")]
mod delivered;
#[cfg(target_os = "linux")]
mod signals;
#[cfg(target_os = "linux")]
mod supervisor;
mod variables;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Error, Result, bail};
use clap::Args;
use deliver::Value;
use hardening::{memory, programs};
use text::ShowPath as _;

use crate::delivery::Delivery;
use crate::failure::Failure;
use crate::{Variables, process};
#[cfg(target_os = "linux")]
pub(crate) use signals::signal_named;
use variables::{Assignment, Choice, assign};
pub use variables::{ItemChoice, MalformedChoice};

/// Values by the name of their item.
pub type Values = BTreeMap<String, Value>;

/// The command, and how it receives values.
#[derive(Debug, Clone, Default, Args)]
pub struct CommandArgs {
    /// Pass only these items; VARIABLE=ITEM sets a variable of another name
    #[arg(
        long,
        value_name = "[VARIABLE=]ITEM",
        value_delimiter = ',',
        conflicts_with = "all"
    )]
    pub only: Vec<ItemChoice>,
    /// Pass every item in a variable of the same name
    #[arg(long)]
    pub all: bool,
    /// Let an item replace this variable even if it is set or --all refuses it
    #[arg(long = "override", value_name = "VARIABLE", value_delimiter = ',')]
    pub overrides: Vec<String>,
    /// Pass values as files in memory (Linux): for an item ITEM, the variable `ITEM_FILE` contains the path
    #[arg(long)]
    pub files: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Arguments of `exec` in a program without keys.
#[derive(Debug, Args)]
#[command(
    after_help = "Receives the values from the controller, with the Pod's token and the permission that `seal grant` prints. The \
command replaces this process, so it receives all signals and determines the exit code. With --on-change, this program remains the \
parent of the command, forwards signals, and exits with the exit code of the command. Nothing is written to disk. \
Before each start of the command, a line \
on stderr names the SealedSecrets and the versions of their values, for `seal pods`.\n\n\
A variable that is already set is replaced only if --override names it.\n\n\
Examples:\n  seal exec --from db --only PGPASSWORD=password --on-change=restart -- app"
)]
pub struct Exec {
    /// Receive the values of these SealedSecrets
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true)]
    pub from: Vec<String>,
    /// After a change: restart the command; signal it, with --files; or end it and exit
    #[arg(long, value_name = "restart|signal:NAME|exit")]
    pub on_change: Option<String>,
    /// The command, and how it receives values.
    #[command(flatten)]
    pub command_args: CommandArgs,
    /// How to reach the controller.
    #[command(flatten)]
    pub delivery: Delivery,
}

impl Exec {
    /// Returns the command that the arguments describe.
    pub fn command(&self) -> DeliveryCommand<'_> {
        DeliveryCommand {
            from: &self.from,
            on_change: self.on_change.as_deref(),
            command_args: &self.command_args,
            delivery: &self.delivery,
        }
    }
}

/// A command that receives its values from the controller.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryCommand<'a> {
    /// The names of the SealedSecrets whose values the command receives.
    pub from: &'a [String],
    /// The action after a change, as in `--on-change`.
    pub on_change: Option<&'a str>,
    /// The command, and how it receives values.
    pub command_args: &'a CommandArgs,
    /// How to reach the controller.
    pub delivery: &'a Delivery,
}

/// Waits for the values, and runs the command in place of this process, or as its child with `on_change`. Does not
/// return on success.
///
/// # Errors
///
/// Fails if no items are chosen, the arguments or the Pod's token cannot be used, an item cannot become a variable, or
/// the command cannot be started.
pub fn run(args: &DeliveryCommand<'_>, variables: Variables) -> Result<()> {
    check_files(args.command_args)?;
    run_with_delivery(args, variables)
}

#[cfg(target_os = "linux")]
fn run_with_delivery(args: &DeliveryCommand<'_>, variables: Variables) -> Result<()> {
    delivered::run(args, variables)
}

#[cfg(not(target_os = "linux"))]
fn run_with_delivery(_: &DeliveryCommand<'_>, _: Variables) -> Result<()> {
    bail!(Failure::new("--from works only on Linux").hint("run the command in a Pod"))
}

/// Checks whether this system supports `--files`.
///
/// # Errors
///
/// Fails if files are requested and not supported.
pub fn check_files(command_args: &CommandArgs) -> Result<()> {
    if command_args.files && !memory::IS_SUPPORTED {
        let message = "in-memory files are not supported on this system, and plaintext is never written to disk";
        bail!(
            Failure::new(message)
                .hint("omit --files to pass the values in the environment of the command")
        );
    }
    Ok(())
}

/// Replaces this process with the command, and passes these values to it. Does not return on success. On Windows, waits
/// for the command and exits with its exit code.
///
/// # Errors
///
/// Fails if an item cannot become a variable, or the command cannot be started.
pub fn become_command(
    command_args: &CommandArgs,
    values: &Values,
    variables: Variables,
) -> Result<()> {
    become_command_after(command_args, values, variables, || {})
}

/// Like [`become_command`]; calls `before_start` when the values have been passed and only the start can still fail.
fn become_command_after(
    command_args: &CommandArgs,
    values: &Values,
    variables: Variables,
    before_start: impl FnOnce(),
) -> Result<()> {
    let (mut command, program) = command(command_args)?;
    // These files stay open, so that the command inherits them.
    let _files = pass_values(&mut command, values, command_args, variables)?;
    before_start();
    let error = process::replace_process(command, program);
    Err(start_error(error, program))
}

/// Returns the error about a command that cannot be started. The size of its environment depends on values.
fn start_error(error: io::Error, program: &OsStr) -> Error {
    if error.kind() == io::ErrorKind::ArgumentListTooLong {
        return unsuitable_value().into();
    }
    Error::new(error).context(format!("cannot start {}", program.shown()))
}

/// Returns the command before values are passed to it, and the program name from the command line.
fn command(command_args: &CommandArgs) -> Result<(Command, &OsStr)> {
    let [program, arguments @ ..] = command_args.command.as_slice() else {
        bail!(Failure::new("no command to run").hint("put the command after `--`"));
    };
    let mut command = Command::new(find_program(program)?);
    command.args(arguments);
    Ok((command, program.as_os_str()))
}

/// Passes the chosen values to a command, in its environment or in files that the command has to inherit. Returns the
/// files by item.
fn pass_values(
    command: &mut Command,
    values: &Values,
    command_args: &CommandArgs,
    variables: Variables,
) -> Result<BTreeMap<String, File>> {
    let choice = Choice {
        only: &command_args.only,
        overrides: &command_args.overrides,
        in_files: command_args.files,
    };
    let items = values.keys().map(String::as_str);
    let assigned = assign(items, choice, |name| variables(name).is_some())?;
    if command_args.files {
        return pass_files(command, values, assigned);
    }
    // All values are checked, so that neither the error nor its time depends on which value is unsuitable.
    let checked = assigned.iter();
    let checked: Vec<_> = checked.map(|a| variable_value(&values[&a.item])).collect();
    if checked.contains(&None) {
        bail!(unsuitable_value());
    }
    for (Assignment { variable, .. }, value) in assigned.into_iter().zip(checked) {
        command.env(variable, value.unwrap_or_default());
    }
    Ok(BTreeMap::new())
}

/// Passes values in files in memory.
fn pass_files(
    command: &mut Command,
    values: &Values,
    assigned: Vec<Assignment>,
) -> Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    for Assignment { variable, item } in assigned {
        // The sizes of values determine the file for which no memory is left, so the error does not name it.
        let file = memory::create_file(values[&item].expose());
        let file = file.context("cannot create the in-memory files")?;
        command.env(variable, memory::inherited_path(&file));
        files.insert(item, file);
    }
    Ok(files)
}

/// Finds the program. A bare name is looked up only in absolute directories of `PATH`; a name with a slash is used as
/// it is.
pub(crate) fn find_program(program: &OsString) -> Result<PathBuf> {
    let path = PathBuf::from(program);
    if path.components().count() > 1 {
        return Ok(path);
    }
    let name = program.to_string_lossy();
    programs::find(&name)
        .with_context(|| format!("program {name} not found in an absolute directory of PATH"))
}

/// Converts a value to the value of a variable; `None` if it contains a zero byte or, on systems where variables are
/// text, is not text.
fn variable_value(value: &Value) -> Option<OsString> {
    let has_zero_byte = value.expose().contains(&0);
    process::variable(value.expose()).filter(|_| !has_zero_byte)
}

/// Returns the error about values that cannot be passed in variables. It is the same for all values: with the item or
/// the reason in it, an author of templates could spell out a value in the log.
fn unsuitable_value() -> Failure {
    let failure = Failure::new(
        "the values cannot be passed in environment variables: one contains a zero byte or is not text, or they are too large",
    );
    let failure = if memory::IS_SUPPORTED {
        failure.hint("pass values as files with --files")
    } else {
        failure
    };
    failure.hint("the item is not reported, because it depends on the values")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(values: &[(&str, &[u8])]) -> Result<BTreeMap<String, File>> {
        let values = values.iter();
        let values = values.map(|(item, value)| ((*item).to_owned(), value.to_vec().into()));
        let args = CommandArgs {
            all: true,
            ..CommandArgs::default()
        };
        pass_values(&mut Command::new("true"), &values.collect(), &args, |_| {
            None
        })
    }

    /// Attack: an author of a SealedSecret lets one of 256 templates render a zero byte, the one whose number is a byte of
    /// a value, and reads the log of `exec --all`.
    #[test]
    fn an_error_does_not_name_the_item_whose_value_cannot_become_a_variable() {
        let (zero, text) = (&b"a\0b"[..], &b"text"[..]);
        let message =
            |values: &[(&str, &[u8])]| Failure::from(pass(values).unwrap_err()).to_string();
        let first = message(&[("t000", zero), ("t001", text)]);
        assert!(!first.contains("t00"), "{first}");
        assert_eq!(first, message(&[("t000", text), ("t001", zero)]));
        assert_eq!(first, message(&[("t000", zero), ("t001", zero)]));
        assert!(pass(&[("t000", text), ("t001", text)]).is_ok());
        let too_large = io::Error::from(io::ErrorKind::ArgumentListTooLong);
        let too_large = Failure::from(start_error(too_large, OsStr::new("app")));
        assert_eq!(first, too_large.to_string());
    }
}
