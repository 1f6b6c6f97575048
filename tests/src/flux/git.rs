//! Git repositories, served over HTTP.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::programs;
use crate::guarded::{self, GuardedProcess};
use crate::operators::run_successfully;
use crate::scratch::Scratch;

/// A Git server on a loopback address. Dropping this value stops it.
pub struct GitServer {
    directory: PathBuf,
    address: String,
    _process: GuardedProcess,
}

impl GitServer {
    /// Starts a server for repositories, which are stored below this directory.
    ///
    /// # Panics
    /// Panics with instructions if Git or Go is not installed.
    pub fn start(scratch: &Scratch) -> Self {
        assert_git_is_installed();
        let directory = scratch.path().join("git");
        fs::create_dir(&directory).expect("a writable directory");
        let mut command = guarded::command(programs::git_server());
        command.arg(&directory).stdout(Stdio::piped());
        let mut process = GuardedProcess::spawn(&mut command).expect("/bin/sh can be started");
        let mut address = String::new();
        let stdout = process.stdout().expect("stdout is piped");
        let read = BufReader::new(stdout).read_line(&mut address);
        assert!(read.is_ok_and(|length| length > 0), "see the error above");
        Self {
            directory,
            address: address.trim_end().to_owned(),
            _process: process,
        }
    }

    /// Creates an empty repository with this name.
    pub fn repository(&self, name: &str) -> Repository {
        let bare = self.directory.join(format!("{name}.git"));
        let tree = self.directory.join(name);
        let init = ["init", "--quiet", "--initial-branch=main"];
        run_successfully(git(&self.directory).args(init).arg("--bare").arg(&bare));
        run_successfully(git(&self.directory).args(init).arg(&tree));
        Repository {
            url: format!("http://{}/{name}.git", self.address),
            bare,
            tree,
        }
    }
}

/// A bare repository that the server serves, and a work tree to fill it.
pub struct Repository {
    url: String,
    bare: PathBuf,
    tree: PathBuf,
}

impl Repository {
    /// Returns the URL for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the directory of the bare repository, to which this user can push.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// Returns the directory of the work tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Writes a file in the work tree.
    pub fn write(&self, path: &str, content: &str) {
        fs::write(self.tree.join(path), content).expect("a writable directory");
    }

    /// Commits the work tree and pushes the commit; returns its id.
    pub fn push(&self, subject: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", subject]);
        let bare = self.bare.to_str().expect("the directory has an ASCII name");
        self.git(&["push", "--quiet", bare, "main"]);
        self.git(&["rev-parse", "HEAD"]).trim_end().to_owned()
    }

    fn git(&self, args: &[&str]) -> String {
        run_successfully(git(&self.tree).args(args))
    }
}

/// Returns a command for Git, without the configuration of the user who runs the tests.
fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Tests");
        command.env(format!("GIT_{role}_EMAIL"), "tests@example.com");
    }
    command
}

fn assert_git_is_installed() {
    let version = Command::new("git").arg("--version").output();
    assert!(
        version.is_ok_and(|output| output.status.success()),
        "the program `git` is not installed: install Debian's package `git` (apt-get install git)"
    );
}
