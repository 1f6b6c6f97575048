//! Child processes that end when this process ends for any reason.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// A shell script that starts a watcher and then replaces itself with the program given as arguments. The watcher reads
/// a pipe to which only the test process can write. The pipe closes when the test process ends, even by SIGKILL, and
/// the watcher then kills the program, even if it is stopped. The test process dismisses the watcher with a line on the
/// pipe when the program is gone, because the process id may soon belong to another process.
const GUARD_SCRIPT: &str = r#"
exec 3<&0 </dev/null
(read -r dismissed <&3 || kill -KILL $$) >/dev/null 2>&1 &
exec "$@" 3<&-
"#;

/// Returns a command for [`GuardedProcess::spawn`]. The caller may add arguments, environment, directory, stdout and
/// stderr; stdin is in use. The program gets its own process group, so that Ctrl-C in a terminal reaches only this
/// process.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", GUARD_SCRIPT, "sh"])
        .arg(program)
        .stdin(Stdio::piped())
        .process_group(0);
    command
}

/// A child process that is killed when this value is dropped, and also when this process ends without
/// dropping it: by a panic, by `exit`, by SIGKILL.
pub struct GuardedProcess {
    child: Child,
    watcher: ChildStdin,
}

impl GuardedProcess {
    /// Starts a command created by [`command`].
    ///
    /// # Errors
    /// Returns an error if the shell cannot be started. A program that cannot be started appears as an early
    /// exit.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let watcher = child.stdin.take().expect("guarded::command pipes stdin");
        Ok(Self { child, watcher })
    }

    /// Takes the program's stdout, if piped and not taken before.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Takes the program's stderr, if piped and not taken before.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the program's exit status; `None` while it runs.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("the process is our child");
        if status.is_some() {
            self.dismiss_watcher();
        }
        status
    }

    /// Waits until the program exits.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("the process is our child");
        self.dismiss_watcher();
        status
    }

    /// Sends a signal, unless the program has exited. For [`Signal::STOP`], waits until the program has
    /// stopped.
    pub fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_some() {
            return;
        }
        let pid = Pid::from_child(&self.child);
        let is_sent = kill_process(pid, signal).is_ok();
        if is_sent && signal == Signal::STOP {
            // The signal is delivered asynchronously. An exit is reported later, by `try_wait` or `wait`.
            let until = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = waitid(WaitId::Pid(pid), until);
        }
    }

    fn dismiss_watcher(&mut self) {
        let _ = self.watcher.write_all(b"\n");
    }
}

impl Drop for GuardedProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.wait();
    }
}
