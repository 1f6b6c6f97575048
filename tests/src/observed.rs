//! A program whose processes and files a test observes, to check that it leaves nothing behind.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;

use crate::guarded::{self, GuardedProcess};
use crate::patience;
use crate::scratch::Scratch;

/// A program that acts as a test process, with its own directory for temporary files, so that all its processes have
/// that directory's path in their arguments or their environment.
pub struct ObservedProgram {
    process: GuardedProcess,
    directory: Scratch,
}

impl ObservedProgram {
    /// Starts a program without the environment variables that choose another control plane, but with those in
    /// `environment`.
    ///
    /// # Panics
    /// Panics if the directory is not writable.
    pub fn start(program: &str, args: &[&str], environment: &[(&str, &Path)]) -> Self {
        let directory = Scratch::new();
        let temporary = directory.path().join("temporary");
        fs::create_dir(&temporary).unwrap();
        let mut command = guarded::command(program);
        command
            .args(args)
            .env_remove("TEST_KUBECONFIG")
            .env_remove("KUBEBUILDER_ASSETS")
            .env("TMPDIR", temporary)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::create(directory.path().join("stderr")).unwrap());
        Self {
            process: GuardedProcess::spawn(&mut command).unwrap(),
            directory,
        }
    }

    /// Waits for the first line of the program's stdout.
    ///
    /// # Panics
    /// Panics with the program's stderr if it prints none, and if called twice.
    pub fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.process.stdout().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty(), "nothing was printed:\n{}", self.errors());
        line.trim_end().to_owned()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until the program exits.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Returns the stderr so far.
    ///
    /// # Panics
    /// Panics if it is not text.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).unwrap()
    }

    /// Returns the directory for temporary files.
    pub fn temporary_directory(&self) -> PathBuf {
        self.directory.path().join("temporary")
    }

    /// Returns the process IDs, command lines and environments of the program's processes, one process per line.
    ///
    /// # Panics
    /// Panics with instructions if the program `ps` is missing.
    pub fn command_lines(&self) -> String {
        let ps = Command::new("ps")
            .args(["axeww", "-o", "pid=,args="])
            .output();
        let ps = ps
            .expect("the program `ps` is needed: Debian has it in the package procps")
            .stdout;
        let processes = String::from_utf8_lossy(&ps);
        let temporary = self.temporary_directory();
        let own_lines: Vec<_> = processes
            .lines()
            .filter(|line| line.contains(temporary.to_str().unwrap()))
            .collect();
        own_lines.join("\n")
    }

    /// Waits until the program has exited, and asserts that no process or temporary file is left.
    ///
    /// # Panics
    /// Panics if something is left.
    pub async fn assert_nothing_left(&mut self) {
        self.wait();
        patience::until("the processes have exited", async || {
            self.command_lines().is_empty().then_some(())
        })
        .await;
        let files = async || {
            fs::read_dir(self.temporary_directory())
                .unwrap()
                .next()
                .is_none()
                .then_some(())
        };
        patience::until("the temporary files are deleted", files).await;
    }
}
