//! A process whose log is collected.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use rustix::process::Signal;

use crate::guarded::GuardedProcess;
use crate::patience;

/// A running process. Dropping this value stops it.
pub struct LoggedProcess {
    process: GuardedProcess,
    log: Arc<Mutex<String>>,
}

impl LoggedProcess {
    /// Starts a command created by [`crate::guarded::command`].
    ///
    /// # Errors
    /// Fails like [`GuardedProcess::spawn`].
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = GuardedProcess::spawn(command)?;
        let log = Arc::new(Mutex::new(String::new()));
        collect(process.stdout().expect("stdout is piped"), &log);
        collect(process.stderr().expect("stderr is piped"), &log);
        Ok(Self { process, log })
    }

    /// Returns the output so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until `find` returns a value for the log.
    ///
    /// # Panics
    /// Panics with the log if the process exits first, and without it if no value comes within [`patience::LIMIT`].
    pub async fn wait_for_log<T>(
        &mut self,
        description: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        patience::until(description, async || {
            let exit_status = self.process.try_wait();
            let log = self.log();
            assert!(
                exit_status.is_none(),
                "the process exited before {description}:\n{log}"
            );
            find(&log)
        })
        .await
    }

    /// Returns the resident memory of the process in bytes.
    pub fn memory(&self) -> usize {
        self.status_bytes("VmRSS:")
    }

    /// Returns the current anonymous memory of the process in bytes: without pages of files, such as its program, and
    /// shared memory.
    pub fn own_memory(&self) -> usize {
        self.status_bytes("RssAnon:")
    }

    /// Returns the peak memory of the process in bytes.
    pub fn peak_memory(&self) -> usize {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .expect("the process is running, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes = kibibytes.expect("the kernel reports the memory");
        kibibytes.parse::<usize>().expect("a number") * 1024
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the exit status of the process; `None` while it runs.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.process.try_wait()
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops the process with SIGTERM; returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.process.signal(Signal::TERM);
        self.process.wait().code()
    }
}

/// Collects output on a thread, so that the process never blocks on a full pipe.
fn collect(from: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}
