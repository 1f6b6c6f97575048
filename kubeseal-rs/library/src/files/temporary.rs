//! A temporary file, which becomes a new file or replaces an existing one.
//!
//! On most file systems of Linux, the file has no name until it is complete, so a killed run leaves no file behind.
//! Replacing a file requires a name for a moment, and a killed run may leave that file; see [`remove_leftovers`].

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::{NamedTempFile, TempPath};

use crate::platform;

/// The prefix of temporary names, followed by the process id and random characters.
const PREFIX: &str = ".seal-";
const SUFFIX: &str = ".tmp";

/// A completely written file that does not have its final name yet.
pub(super) enum TemporaryFile {
    Unnamed(File),
    Named(NamedTempFile),
}

impl TemporaryFile {
    /// Writes the file to disk. It has mode 0600, or the mode and, if the operating system permits,
    /// the owner of `like`.
    pub(super) fn write(
        directory: &Path,
        bytes: &[u8],
        like: Option<&Metadata>,
    ) -> io::Result<Self> {
        let temporary = match platform::unnamed_file(directory) {
            Some(file) => Self::Unnamed(file),
            None => Self::Named(create_named(|path| File::create_new(path), directory)?),
        };
        let mut file = temporary.file();
        if let Some(like) = like {
            platform::copy_owner(file, like);
            file.set_permissions(like.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    pub(super) fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.file().set_permissions(permissions)
    }

    fn file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives the file this name. Fails if a file of that name exists.
    pub(super) fn persist_as_new(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Unnamed(file) => platform::give_name(&file, path),
            Self::Named(file) => Ok(file.persist_noclobber(path).map(drop)?),
        }
    }

    /// Gives the file a name and replaces any file of that name.
    pub(super) fn replace(self, path: &Path) -> io::Result<()> {
        Ok(self.with_name(path)?.persist(path)?)
    }

    /// Gives the file a temporary name, and then the name `path` if `is_accepted` returns `true` for the temporary
    /// name. Replaces a file named `path`, or fails if `is_new` is set and such a file exists. Returns whether the file
    /// was accepted; if not, removes it.
    pub(super) fn persist_if(
        self,
        path: &Path,
        is_new: bool,
        is_accepted: impl FnOnce(&Path) -> bool,
    ) -> io::Result<bool> {
        let temporary = self.with_name(path)?;
        if !is_accepted(&temporary) {
            return Ok(false);
        }
        if is_new {
            temporary.persist_noclobber(path)?;
        } else {
            temporary.persist(path)?;
        }
        Ok(true)
    }

    /// Replaces a file if it contains the bytes of `before`, and returns whether the file was replaced. Where the
    /// system can exchange two files atomically (Linux), a write of another program at the same moment is kept.
    pub(super) fn replace_if_unchanged(
        self,
        path: &Path,
        before: &[u8],
        bytes: &[u8],
    ) -> io::Result<bool> {
        let temporary = self.with_name(path)?;
        if fs::read(path)? != before {
            return Ok(false);
        }
        if !platform::exchange(&temporary, path)? {
            temporary.persist(path)?;
            return Ok(true);
        }
        // The previous file is now under the temporary name. If its content is not `before`, exchange the files again.
        let (mut in_place, mut expected) = (bytes.to_vec(), before.to_vec());
        let mut is_unchanged = true;
        loop {
            let displaced = match fs::read(&temporary) {
                Ok(displaced) => displaced,
                Err(error) => return Err(restore_displaced(temporary, path, error)),
            };
            if displaced == expected {
                return Ok(is_unchanged);
            }
            is_unchanged = false;
            if let Err(error) = platform::exchange(&temporary, path) {
                return Err(restore_displaced(temporary, path, error));
            }
            expected = std::mem::replace(&mut in_place, displaced);
        }
    }

    fn with_name(self, path: &Path) -> io::Result<TempPath> {
        match self {
            Self::Named(file) => Ok(file.into_temp_path()),
            Self::Unnamed(file) => {
                let link_at = |path: &Path| platform::give_name(&file, path);
                Ok(create_named(link_at, directory_of(path))?.into_temp_path())
            }
        }
    }
}

/// Restores a file that another program wrote and this process cannot read, so that it is not
/// deleted with the temporary file. If that fails, the file stays under the temporary name.
fn restore_displaced(temporary: TempPath, path: &Path, error: io::Error) -> io::Error {
    if !matches!(platform::exchange(&temporary, path), Ok(true)) {
        let _ = temporary.keep();
    }
    error
}

fn create_named<T>(
    make: impl FnMut(&Path) -> io::Result<T>,
    directory: &Path,
) -> io::Result<NamedTempFile<T>> {
    // Keep only the kind of error: its text names the temporary file.
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .suffix(SUFFIX)
        .make_in(directory, make)
        .map_err(|error| io::Error::from(error.kind()))
}

/// Returns the directory of a file.
pub(super) fn directory_of(path: &Path) -> &Path {
    let directory = path.parent();
    let directory = directory.filter(|directory| !directory.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

/// Removes temporary files of killed runs from a directory. Files that cannot be removed stay, as do those whose
/// process may still be running.
pub fn remove_leftovers(directory: &Path) {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(SUFFIX) && process_of(&name, PREFIX).is_some_and(has_exited) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the process id in a name with this prefix; `None` for any other name.
pub fn process_of(name: &str, prefix: &str) -> Option<u32> {
    let (process, _) = name.strip_prefix(prefix)?.split_once('-')?;
    process.parse().ok()
}

/// Returns whether a process has exited; `false` where there is no `/proc`.
pub fn has_exited(process: u32) -> bool {
    let processes = Path::new("/proc");
    processes.join("self").exists() && !processes.join(process.to_string()).exists()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn restores_an_unreadable_file_of_another_program() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        fs::write(&path, "new").unwrap();
        let displaced = NamedTempFile::new_in(directory.path())
            .unwrap()
            .into_temp_path();
        fs::write(&displaced, "other").unwrap();
        let permission_error = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = restore_displaced(displaced, &path, permission_error);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(fs::read_to_string(&path).unwrap(), "other");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// Fault: a run is killed between creating and renaming its temporary file.
    #[test]
    fn removes_only_temporary_files_of_killed_runs() {
        let directory = tempfile::tempdir().unwrap();
        let running = format!(".seal-{}-x.tmp", std::process::id());
        // Above the largest process id of Linux.
        for name in [".seal-4194305-x.tmp", &running, ".seal-x.tmp", "a.yaml"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        remove_leftovers(directory.path());
        let count = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(count, 3);
        assert!(!directory.path().join(".seal-4194305-x.tmp").exists());
    }

    #[test]
    fn creating_does_not_replace_an_existing_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "other").unwrap();
        let temporary = TemporaryFile::write(directory.path(), b"new", None).unwrap();
        let error = temporary.persist_as_new(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn keeps_concurrent_changes_and_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (content, want) in [("read", (true, "new")), ("other", (false, "other"))] {
            fs::write(&path, content).unwrap();
            let temporary = TemporaryFile::write(directory.path(), b"new", None).unwrap();
            let is_unchanged = temporary
                .replace_if_unchanged(&path, b"read", b"new")
                .unwrap();
            assert_eq!(
                (is_unchanged, fs::read_to_string(&path).unwrap()),
                (want.0, want.1.to_owned())
            );
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }
}
