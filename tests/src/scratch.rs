//! Temporary folders that are removed when this process ends for any reason.

use std::env;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Creates the folder, waits until its stdin is closed, and removes the folder. It creates the folder itself,
/// so that the folder never exists without a process that will remove it.
const SWEEP_SCRIPT: &str = r#"
folder=$(mktemp -d "$1/sealed-secrets-XXXXXX") && echo "$folder" && exec >/dev/null && cat
until rm -rf -- "$folder"; do sleep 0.1; done
"#;

/// A new folder that only this user can access. It is removed when the value is dropped or this process ends,
/// even by SIGKILL, as soon as all holders of a [`Scratch::lease`] have ended too.
pub struct Scratch {
    path: PathBuf,
    sweeper: Child,
    /// The end of a pipe to the sweeper. The folder exists while this end is open.
    pipe: Option<OwnedFd>,
}

impl Scratch {
    /// Creates a folder in the system's temporary folder (`$TMPDIR`).
    pub fn new() -> Self {
        let parent = env::temp_dir();
        let mut sweeper = Command::new("/bin/sh")
            .args(["-c", SWEEP_SCRIPT, "sh"])
            .arg(&parent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("/bin/sh can be started");
        let pipe = sweeper.stdin.take().map(OwnedFd::from);
        let mut path = String::new();
        let read_len = BufReader::new(sweeper.stdout.take().unwrap())
            .read_line(&mut path)
            .unwrap();
        assert!(
            read_len > 0,
            "cannot create a temporary directory in {}; set TMPDIR",
            parent.display()
        );
        Self {
            path: path.trim_end_matches('\n').into(),
            sweeper,
            pipe,
        }
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the stdout for a process that writes to the folder. The folder stays until the process is
    /// gone; otherwise the process might recreate removed files. Output written there is lost.
    pub fn lease(&self) -> Stdio {
        self.pipe
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
        self.pipe = None;
        let _ = self.sweeper.wait();
    }
}
