//! Processes that clean up when this process ends for any reason.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A process that waits until its stdin is closed, and then cleans up. Its stdin closes when this value is
/// dropped or this process ends, even by SIGKILL, as soon as all holders of a [`Sweeper::lease`] have ended too.
pub(crate) struct Sweeper {
    process: Child,
    /// The other end of the process's stdin.
    pipe: Option<OwnedFd>,
}

impl Sweeper {
    /// Runs a command that creates a resource, prints a line about it, and removes it when its stdin is closed. Because
    /// the command itself creates the resource, it never exists without a process that will remove it. Returns the
    /// line, which is empty if the command failed.
    pub(crate) fn start(command: &mut Command) -> (Self, String) {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("/bin/sh can be started");
        let pipe = process.stdin.take().map(OwnedFd::from);
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("text");
        let line = line.trim_end_matches('\n').to_owned();
        (Self { process, pipe }, line)
    }

    /// Returns the stdout for a process that uses the resource. The resource stays until the process is gone. Output
    /// written there is lost.
    pub(crate) fn lease(&self) -> Stdio {
        self.pipe
            .as_ref()
            .expect("held until dropped")
            .try_clone()
            .expect("file descriptors are left")
            .into()
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.process.wait();
    }
}
