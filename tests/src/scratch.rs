//! Temporary directories that are removed when this process ends for any reason.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sweeper::Sweeper;

/// Creates the directory, waits until its stdin is closed, and removes the directory. It creates the directory itself,
/// so that the directory never exists without a process that will remove it.
const SWEEP_SCRIPT: &str = r#"
directory=$(mktemp -d "$1/sealed-secrets-XXXXXX") || exit
echo "$directory" && exec >/dev/null && cat
until rm -rf -- "$directory"; do sleep 0.1; done
"#;

/// A new directory that only this user can access. It is removed when the value is dropped or this process ends,
/// even by SIGKILL, as soon as all holders of a [`Scratch::lease`] have ended too.
pub struct Scratch {
    path: PathBuf,
    sweeper: Sweeper,
}

impl Scratch {
    /// Creates a directory in the system's temporary directory (`$TMPDIR`).
    pub fn new() -> Self {
        let parent = env::temp_dir();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SWEEP_SCRIPT, "sh"]).arg(&parent);
        let (sweeper, path) = Sweeper::start(&mut command);
        assert!(
            !path.is_empty(),
            "cannot create a temporary directory in {}; set TMPDIR to a writable directory",
            parent.display()
        );
        let path = path.into();
        Self { path, sweeper }
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the stdout for a process that writes to the directory. The directory stays until the process is
    /// gone; otherwise the process might recreate removed files. Output written there is lost.
    pub fn lease(&self) -> Stdio {
        self.sweeper.lease()
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
