//! A program that acts as a test process, and what it leaves behind.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;

use crate::guarded::{self, Guarded};
use crate::patience;
use crate::scratch::Scratch;

/// A running program with its own folder for temporary files, so that all its processes have that folder's path in their
/// arguments or their environment.
pub struct TestProcess {
    process: Guarded,
    folder: Scratch,
}

impl TestProcess {
    /// Starts a program with this environment in addition to that of the caller.
    pub fn start(program: &str, args: &[&str], environment: &[(&str, &Path)]) -> Self {
        let folder = Scratch::new();
        let temporary = folder.path().join("temporary");
        fs::create_dir(&temporary).expect("a writable folder");
        let stderr = File::create(folder.path().join("stderr")).expect("a writable folder");
        let mut command = guarded::command(program);
        command
            .args(args)
            .env_remove("TEST_KUBECONFIG")
            .env_remove("KUBEBUILDER_ASSETS")
            .env("TMPDIR", temporary)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let process = Guarded::spawn(&mut command).expect("/bin/sh can be started");
        Self { process, folder }
    }

    /// Waits for the first line of its output, and returns it.
    ///
    /// # Panics
    /// Panics if the process ends without output, or if this function was called before.
    pub fn first_line(&mut self) -> String {
        let stdout = self.process.stdout().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("text");
        assert!(!line.is_empty(), "no output:\n{}", self.errors());
        line.trim_end().to_owned()
    }

    /// Waits until the process has exited.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Ends the process at once, as by `kill -9`.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
    }

    /// Returns its errors so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).expect("text")
    }

    /// Returns the ids, command lines and environments of its processes, one per line.
    ///
    /// # Panics
    /// Panics with instructions if the program `ps` is not installed.
    pub fn processes(&self) -> String {
        let ps = Command::new("ps")
            .args(["axeww", "-o", "pid=,args="])
            .output();
        let ps = ps
            .expect("the program `ps` is needed: Debian has it in the package procps")
            .stdout;
        let processes = String::from_utf8_lossy(&ps);
        let temporary = self.temporary_folder();
        let own_lines: Vec<_> = processes
            .lines()
            .filter(|line| line.contains(temporary.to_str().expect("an ASCII path")))
            .collect();
        own_lines.join("\n")
    }

    /// Waits until the process, all processes that it started and its temporary files are gone.
    ///
    /// # Panics
    /// Panics if something is left.
    pub async fn wait_until_nothing_is_left(&mut self) {
        self.wait();
        patience::until("the processes have exited", async || {
            self.processes().is_empty().then_some(())
        })
        .await;
        patience::until("the temporary files are deleted", async || {
            let mut files = fs::read_dir(self.temporary_folder()).expect("it exists");
            files.next().is_none().then_some(())
        })
        .await;
    }

    fn temporary_folder(&self) -> PathBuf {
        self.folder.path().join("temporary")
    }
}
