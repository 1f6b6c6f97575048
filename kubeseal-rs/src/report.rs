//! Prints all output of the programs, results to stdout and messages to stderr, and chooses the exit
//! code.
//!
//! Names and strings in files are untrusted, and must not control the terminal. Messages are escaped
//! here. Human-readable results are escaped with [`shown`] where they are formatted.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use flags::Stop;
use kubeseal_library::environment::Environment;
use kubeseal_library::notice::Notice;
pub use kubeseal_library::shown::{
    ShowPath, json_shown, lines_shown, path_text, shown, yaml_shown,
};
use kubeseal_library::{files, git};
use roles::report::write_stderr;
pub use roles::report::{info, info_lines, warn};
use shared::error_chain;

use crate::command::CommandError;
use crate::failure::Failure;
use crate::interrupt;
use crate::seal::Outcome;

/// The exit code for a command line that cannot be parsed.
const USAGE: u8 = 2;
/// Exit codes of `seal`: 1 if a check has findings, 2 if the run failed. Like grep and diff, so that scripts can
/// distinguish the two.
const FINDINGS: u8 = 1;
const FAILED: u8 = 2;

/// Whether [`fail_at_end`] has reported an error.
static IS_INCOMPLETE: AtomicBool = AtomicBool::new(false);

/// Prints an error of a run that continues. [`finish_seal`] returns the exit code of a failure after such an error.
pub fn fail_at_end(message: &str) {
    IS_INCOMPLETE.store(true, Ordering::Relaxed);
    write_stderr(&format!("error: {message}\n"));
}

/// Prints a message from the library. A message about a directory that cannot be read also makes the run fail; see
/// [`fail_at_end`].
#[expect(
    clippy::needless_pass_by_value,
    reason = "a callback, which receives each message"
)]
pub fn notice(notice: Notice) {
    let message = notice.message();
    match notice {
        Notice::Warning(_) | Notice::LinkOutside { .. } => warn(&message),
        Notice::Unreadable { .. } => fail_at_end(&message),
    }
}

/// The maximum number of submodules in a warning.
const MAX_SUBMODULES: usize = 5;

/// Warns about submodules that are not checked out and lie below these files and directories, or contain them: a
/// command that reads the work tree does not see their files. Without paths, uses the current directory.
pub fn warn_about_missing_submodules(paths: &[PathBuf]) {
    let current_dir = [PathBuf::from(".")];
    let paths = if paths.is_empty() {
        &current_dir
    } else {
        paths
    };
    let missing = git::missing_submodules(paths);
    let names = missing.iter().take(MAX_SUBMODULES);
    let mut names: Vec<String> = names
        .map(|path| files::relative_to_current_directory(path).shown())
        .collect();
    if missing.len() > MAX_SUBMODULES {
        names.push(format!("{} more", missing.len() - MAX_SUBMODULES));
    }
    if !names.is_empty() {
        warn(&shown(&format!(
            "not searched, because these submodules are not checked out: {}; check them out with \
             `git submodule update --init --recursive`",
            names.join(", ")
        )));
    }
}

/// Shows a line on the terminal that the next call replaces. An empty string removes the line.
pub fn status_line(text: &str) {
    let _ = write!(io::stderr(), "\r\u{1b}[K{}", shown(text));
}

/// Returns the environment of this process, in which long waits are reported if stderr is a terminal.
pub fn environment() -> Environment {
    let environment = Environment::of_this_process();
    let is_shown = environment.stderr_is_terminal;
    Environment {
        status_line: is_shown.then_some(status_line),
        is_interrupted: interrupt::was_received,
        ..environment
    }
}

/// Prints a question to stderr, without a line break after it.
pub fn ask(question: &str) {
    write_stderr(question);
}

/// Returns the exit code of a run of `kubeseal`: 0, or 1 after printing the error and its causes.
pub fn finish(result: Result<(), CommandError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write_stderr(&format!("error: {}\n", error_chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Returns the exit code of a run of `seal`: 0; 1 if a check has findings; or 2 if the run or a part of it failed.
/// Prints the failure of the run.
pub fn finish_seal(result: Result<Outcome, Failure>) -> ExitCode {
    match result {
        Ok(_) if IS_INCOMPLETE.load(Ordering::Relaxed) => ExitCode::from(FAILED),
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(FINDINGS),
        Err(failure) => {
            write_stderr(&format!("error: {failure}\n"));
            ExitCode::from(FAILED)
        }
    }
}

/// Prints the help or the error of a command line, and returns the exit code.
pub fn stop(stop: Stop) -> ExitCode {
    match stop {
        Stop::Help(text) => match print(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Stop::Usage(text) => {
            write_stderr(&text);
            ExitCode::from(USAGE)
        }
        Stop::Refused(text) => {
            write_stderr(&format!("error: {text}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Colors for output on a terminal that supports them, unless `NO_COLOR` is set and not empty.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    enabled: bool,
}

impl Paint {
    /// Returns the colors for stdout.
    pub fn for_stdout(environment: &Environment) -> Self {
        let is_dumb = environment
            .variable("TERM")
            .is_none_or(|term| term == "dumb");
        let is_refused = environment.nonempty_variable("NO_COLOR").is_some();
        Self {
            enabled: environment.stdout_is_terminal && !is_dumb && !is_refused,
        }
    }

    /// Colors text that is wrong or removed.
    pub fn red(self, text: &str) -> String {
        self.color("31", text)
    }

    /// Colors text that is added.
    pub fn green(self, text: &str) -> String {
        self.color("32", text)
    }

    /// Colors text that needs attention.
    pub fn yellow(self, text: &str) -> String {
        self.color("33", text)
    }

    fn color(self, code: &str, text: &str) -> String {
        if self.enabled {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes a result to stdout. A closed pipe is not an error.
///
/// # Errors
///
/// Returns any other write error.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
