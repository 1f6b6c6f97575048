//! Temporary folders that go with this process, however it ends.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Makes the folder, waits until nobody can write to its stdin any more, and removes the folder. It
/// makes it itself, so that there is no moment at which the folder exists and nobody would remove
/// it.
const SWEEP: &str = r#"
folder=$(mktemp -d "$1/sealed-secrets-XXXXXX") && echo "$folder" && exec >/dev/null && cat
until rm -rf -- "$folder"; do sleep 0.1; done
"#;

/// A new folder that only this user can enter. It is removed when the value is dropped or this
/// process ends, even by SIGKILL, as soon as all who hold a [`Scratch::lease`] have ended too.
pub struct Scratch {
    path: PathBuf,
    sweeper: Child,
    /// While this end of a pipe is open, the folder stays.
    held: Option<OwnedFd>,
}

impl Scratch {
    /// In the system's temporary folder (`$TMPDIR`).
    pub fn new() -> Self {
        let parent = env::temp_dir();
        let mut sweeper = Command::new("/bin/sh")
            .args(["-c", SWEEP, "sh"])
            .arg(&parent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("/bin/sh can be started");
        let held = sweeper.stdin.take().map(OwnedFd::from);
        let mut path = String::new();
        let made = BufReader::new(sweeper.stdout.take().unwrap())
            .read_line(&mut path)
            .unwrap();
        assert!(
            made > 0,
            "no temporary folder can be made in {}; set TMPDIR",
            parent.display()
        );
        Self {
            path: path.trim_end_matches('\n').into(),
            sweeper,
            held,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// To be the stdout of a process that writes into the folder: the folder stays until the
    /// process is gone, or it might write again what was just removed. What it prints there is
    /// lost.
    pub fn lease(&self) -> Stdio {
        self.held
            .as_ref()
            .expect("held until dropped")
            .try_clone()
            .expect("file descriptors are left")
            .into()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.held = None;
        let _ = self.sweeper.wait();
    }
}
