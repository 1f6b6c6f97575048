//! Runs `seal-deliver node` as a process of this machine. Its socket is in the directory that the node shares with the
//! machine.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::Driver;
use crate::logged::LoggedProcess;
use crate::scratch::Scratch;
use crate::{binaries, core_dumps, guarded};

/// A provider that tests can kill and restart.
pub struct Provider {
    name: String,
    socket: PathBuf,
    server: String,
    files: Scratch,
    process: Option<LoggedProcess>,
    earlier_logs: String,
}

impl Provider {
    /// Starts a provider under this name, which classes use in `spec.provider`, for a controller on 127.0.0.1.
    ///
    /// # Panics
    /// Panics with its log if it exits.
    pub async fn start(driver: &Driver, name: &str, port: u16, authority: &str) -> Self {
        let mut provider = Self {
            name: name.to_owned(),
            socket: driver.providers().join(format!("{name}.sock")),
            server: format!("https://127.0.0.1:{port}"),
            files: Scratch::new(),
            process: None,
            earlier_logs: String::new(),
        };
        provider.set_authority(authority);
        provider.start_again().await;
        provider
    }

    /// Replaces the file with the CA certificates.
    ///
    /// # Panics
    /// Panics if the directory is not writable.
    pub fn set_authority(&self, authority: &str) {
        let file = self.files.path().join("ca.pem");
        fs::write(file, authority).expect("a writable directory");
    }

    /// Starts the process again after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Panics
    /// Panics with its log if it exits.
    pub async fn start_again(&mut self) {
        let mut command = guarded::command(binaries::seal_deliver());
        command
            .args(["node", "--server", &self.server, "--socket"])
            .arg(&self.socket)
            .arg("--ca-file")
            .arg(self.files.path().join("ca.pem"))
            .current_dir(self.files.path());
        let mut process = LoggedProcess::spawn(&mut command).expect("the program was built");
        let is_serving = |log: &str| log.contains("serving").then_some(());
        process
            .wait_for_log("the provider serves", is_serving)
            .await;
        self.process = Some(process);
    }

    /// Kills the process, as in a crash. Its socket file stays.
    pub fn kill(&mut self) {
        self.stop_with(Signal::KILL);
    }

    /// Stops the process with SIGTERM; returns its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.stop_with(Signal::TERM)
    }

    /// Crashes the process. Returns whether it left a core dump, and the files in its working directory with one of these
    /// texts.
    ///
    /// # Panics
    /// Panics if the provider is stopped.
    pub async fn crash(&mut self, texts: &[&str]) -> (bool, Vec<PathBuf>) {
        let process = self.process.take().expect("it runs");
        self.earlier_logs.push_str(&process.log());
        let is_dumped = core_dumps::crash(process).await;
        (is_dumped, core_dumps::files_with(self.files.path(), texts))
    }

    fn stop_with(&mut self, signal: Signal) -> Option<i32> {
        let mut process = self.process.take()?;
        process.signal(signal);
        self.earlier_logs.push_str(&process.log());
        process.stop()
    }

    /// Returns the name for `spec.provider` of a class.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of the Unix socket on which the provider serves the driver.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the output of all processes so far.
    pub fn log(&self) -> String {
        let log = self.process.as_ref().map(LoggedProcess::log);
        self.earlier_logs.clone() + &log.unwrap_or_default()
    }

    /// Returns the running process.
    ///
    /// # Panics
    /// Panics if the provider is stopped.
    pub fn process(&self) -> &LoggedProcess {
        self.process.as_ref().expect("it runs")
    }
}
