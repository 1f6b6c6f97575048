//! The inputs of a run from its environment, except arguments: clock, environment variables and terminal.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::notice::{StatusLine, Waiting};

/// The environment of a run.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The time when the run started.
    pub now: Timestamp,
    /// Whether stdin is a terminal.
    pub stdin_is_terminal: bool,
    /// Whether stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether stderr is a terminal.
    pub stderr_is_terminal: bool,
    /// Shows a wait in a line on the terminal; `None` if waits are not shown.
    pub status_line: Option<StatusLine>,
    /// Returns whether the user has interrupted the run.
    pub is_interrupted: fn() -> bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "this module reads the environment for the whole program"
)]
impl Environment {
    /// Returns the environment of this process.
    pub fn of_this_process() -> Self {
        Self {
            now: Timestamp::now(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            status_line: None,
            is_interrupted: || false,
        }
    }

    /// Returns how this run waits before it sends a request again.
    pub fn waiting(&self) -> Waiting {
        Waiting {
            status_line: self.status_line,
            is_interrupted: self.is_interrupted,
        }
    }

    /// Returns an environment variable; `None` if it is not set or not UTF-8.
    pub fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    /// Returns an environment variable that is set and not empty.
    pub fn nonempty_variable(&self, name: &str) -> Option<String> {
        self.variable(name).filter(|value| !value.is_empty())
    }

    /// Returns whether an environment variable is set, to any value.
    pub fn has_variable(&self, name: &str) -> bool {
        std::env::var_os(name).is_some()
    }

    /// Returns the user's home directory.
    pub fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
    }

    /// Returns the user's cache directory: `$XDG_CACHE_HOME` if that is an absolute path, else
    /// `~/.cache`; on Windows `%LOCALAPPDATA%`.
    pub fn cache_directory(&self) -> Option<PathBuf> {
        self.user_directory("XDG_CACHE_HOME", ".cache")
    }

    /// Returns the user's directory for state, which must not be lost: `$XDG_STATE_HOME` if that is an absolute path,
    /// else `~/.local/state`; on Windows `%LOCALAPPDATA%`.
    pub fn state_directory(&self) -> Option<PathBuf> {
        self.user_directory("XDG_STATE_HOME", ".local/state")
    }

    fn user_directory(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let directory_in = |name: &str| self.nonempty_variable(name).map(PathBuf::from);
        if cfg!(windows) {
            return directory_in("LOCALAPPDATA");
        }
        directory_in(variable)
            .filter(|path| path.is_absolute())
            .or_else(|| Some(self.home()?.join(below_home)))
    }

    /// Returns the directory with the service account of a Pod.
    pub fn service_account_directory(&self) -> PathBuf {
        PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount")
    }
}
