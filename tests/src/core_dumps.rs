//! Crashes processes, to test which of them leave a core dump.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::guarded;
use crate::logged::LoggedProcess;
use crate::patience::until;

/// Crashes a process without a limit on the size of its core dump. Returns whether the kernel wrote a dump: to a file,
/// which is in the working directory of the process by default, or to a program.
///
/// # Panics
/// Panics if the process survives SIGABRT, or if this user may not remove the limit.
pub async fn crash(mut process: LoggedProcess) -> bool {
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(id, Resource::Core, unlimited).expect("no limit on core dumps: run this test as root");
    process.signal(Signal::ABORT);
    let status = until("the process has ended", async || process.try_wait()).await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
    status.core_dumped()
}

/// Returns whether an unprotected process leaves a core dump on this machine. The setting of the kernel
/// (`kernel.core_pattern`) may name a program or a directory that does not exist.
pub async fn are_possible(directory: &Path) -> bool {
    let mut command = guarded::command("sleep");
    command.arg("600").current_dir(directory);
    let sleeper = LoggedProcess::spawn(&mut command).expect("/bin/sh exists");
    crash(sleeper).await
}

/// Returns the files in a directory that contain one of these texts.
///
/// # Panics
/// Panics if the directory is not readable.
pub fn files_with(directory: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let contains = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        let occurs = |text: &&str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
        texts.iter().any(occurs)
    };
    let entries = fs::read_dir(directory).expect("a readable directory");
    let paths = entries.map(|entry| entry.expect("a readable directory").path());
    paths.filter(contains).collect()
}
