//! A process that logs to a directory of the tests.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::guarded::GuardedProcess;
use crate::scratch::Scratch;

/// A running process that logs to a file.
pub(crate) struct Process {
    name: &'static str,
    log: PathBuf,
    running: GuardedProcess,
}

impl Process {
    /// Starts a process. A later process with the same name appends to the log of the earlier one.
    pub(crate) fn start(name: &'static str, mut command: Command, scratch: &Scratch) -> Self {
        let log = scratch.path().join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a writable directory");
        command.stdout(scratch.lease()).stderr(file);
        let running = GuardedProcess::spawn(&mut command).expect("/bin/sh can be started");
        Self { name, log, running }
    }

    /// Checks that the process is still running.
    ///
    /// # Panics
    /// Panics with the end of its log if it has exited.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.running.try_wait() {
            panic!(
                "{} exited early ({status}); the end of its log:\n{}",
                self.name,
                self.end_of_log()
            );
        }
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end_of_log(&self) -> String {
        const MAX_LINES: usize = 20;
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(MAX_LINES)..].join("\n")
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }
}
