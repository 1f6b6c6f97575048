//! An in-memory directory for one file with plain values. Only this user can access it, and it is removed when the run
//! ends. If the run is killed, the shell of [`super::guarded`] or the next run removes it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kubeseal_library::environment::Environment;
use kubeseal_library::files::{self, FileError, has_exited, process_of};
use kubeseal_library::platform::memory;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::report::ShowPath as _;

/// The prefix of directory names; the process id and random characters follow.
const PREFIX: &str = "seal-edit-";

/// The directory with the file. Both are removed when the value is dropped.
pub(super) struct HiddenDirectory {
    directory: TempDir,
    file: PathBuf,
}

impl HiddenDirectory {
    /// Creates the directory and writes a file for this user only. Removes directories of runs that were killed.
    pub(super) fn new(environment: &Environment, name: &str, text: &[u8]) -> Result<Self> {
        let base = base_directory(environment).ok_or_else(no_memory_file_system)?;
        let cannot_use = || format!("cannot use the in-memory directory {}", base.shown());
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&base)
            .with_context(cannot_use)?;
        remove_leftovers(&base, directory.path());
        let file = directory.path().join(name);
        let hidden = Self { directory, file };
        hidden.write(text).with_context(cannot_use)?;
        Ok(hidden)
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        options.open(&self.file)?.write_all(text)
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the path of the directory, where editors may create files.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Reads the file. Fails if the editor replaced it with something other than a regular file.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, FileError> {
        files::read_to_change(&self.file)
    }
}

/// Returns the error for a system without an in-memory directory.
fn no_memory_file_system() -> Failure {
    Failure::new(
        "no in-memory file system found: neither $XDG_RUNTIME_DIR nor /dev/shm is a writable tmpfs, and plaintext is \
         never written to disk",
    )
    .hint("change a single item with `seal set FILE KEY`")
}

/// Returns the first of `$XDG_RUNTIME_DIR` and `/dev/shm` that is a writable in-memory directory.
fn base_directory(environment: &Environment) -> Option<PathBuf> {
    let runtime = environment.nonempty_variable("XDG_RUNTIME_DIR");
    let runtime = runtime.map(PathBuf::from).filter(|path| path.is_absolute());
    let directories = runtime.into_iter().chain([PathBuf::from("/dev/shm")]);
    let usable = |directory: &PathBuf| {
        memory::is_in_memory(directory) && tempfile::tempfile_in(directory).is_ok()
    };
    directories.into_iter().find(usable)
}

/// Removes the directories of this user's runs that have ended.
fn remove_leftovers(base: &Path, own: &Path) {
    let Ok(user) = fs::symlink_metadata(own).map(|own| own.uid()) else {
        return;
    };
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_leftover = process_of(&name.to_string_lossy(), PREFIX).is_some_and(has_exited);
        let is_own = entry
            .metadata()
            .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if is_leftover && is_own {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_accessible_to_this_user_only_and_removed_on_drop() {
        let hidden = HiddenDirectory::new(&Environment::of_this_process(), "n.yaml", b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(hidden.directory()), mode(hidden.file())),
            (0o700, 0o600)
        );
        assert_eq!(*hidden.read().unwrap(), b"x");
        let directory = hidden.directory().to_owned();
        drop(hidden);
        assert!(!directory.exists());
    }

    #[test]
    fn removes_leftovers_of_a_killed_run() {
        let base = tempfile::tempdir().unwrap();
        // Above the largest process id of Linux.
        let (killed, running) = (
            "seal-edit-4194305-x".to_owned(),
            format!("{PREFIX}{}-x", std::process::id()),
        );
        for name in [&killed, &running, "seal-edit-x", "other"] {
            fs::create_dir(base.path().join(name)).unwrap();
            fs::write(base.path().join(name).join("n.yaml"), "x").unwrap();
        }
        remove_leftovers(base.path(), base.path());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 3);
        assert!(!base.path().join(killed).exists());
    }
}
