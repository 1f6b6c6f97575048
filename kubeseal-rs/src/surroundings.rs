//! Clock, environment and terminal: everything that a run takes from outside besides its words.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use jiff::Timestamp;

/// What surrounds a run.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The instant of the run.
    pub now: Timestamp,
    /// Is a person typing on stdin?
    pub stdin_is_terminal: bool,
    /// Does a person read stdout?
    pub stdout_is_terminal: bool,
    /// Does a person read stderr?
    pub stderr_is_terminal: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        Self {
            now: Timestamp::now(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// An environment variable, if it is there and is text.
    pub fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    /// An environment variable that is there and not empty.
    pub fn filled_variable(&self, name: &str) -> Option<String> {
        self.variable(name).filter(|value| !value.is_empty())
    }

    /// Is there an environment variable of that name, whatever it holds?
    pub fn has_variable(&self, name: &str) -> bool {
        std::env::var_os(name).is_some()
    }

    /// The user's home folder.
    pub fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
    }

    /// The user's cache folder: `$XDG_CACHE_HOME` if that is an absolute path, else `~/.cache`; on
    /// Windows `%LOCALAPPDATA%`.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        let named = |name: &str| self.filled_variable(name).map(PathBuf::from);
        if cfg!(windows) {
            return named("LOCALAPPDATA");
        }
        named("XDG_CACHE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| Some(self.home()?.join(".cache")))
    }

    /// Where a pod finds its service account.
    pub fn service_account_folder(&self) -> PathBuf {
        PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount")
    }
}
