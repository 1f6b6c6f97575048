//! Reads stdin and files, and writes files atomically.

mod lock;
mod temporary;

use std::borrow::Cow;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use shared::manifest;
use zeroize::Zeroizing;

use crate::bounded::{self, Kind};
use crate::shown::ShowPath as _;
use crate::{git, platform};

pub use temporary::remove_leftovers;
use temporary::{TemporaryFile, directory_of};
pub use temporary::{has_exited, process_of};

/// A file could not be read or written. Errors of opening and reading are formatted as in Go, and so as in upstream's
/// `kubeseal`, since scripts match them: `open x.yaml: no such file or directory`.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}: {}", path.shown(), system_text(cause))]
pub struct FileError {
    verb: &'static str,
    path: PathBuf,
    cause: io::Error,
}

/// Formats a system error as Go does: with a lower-case first letter and without the error number.
pub(crate) fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match error.raw_os_error() {
        Some(number) => text
            .strip_suffix(&format!(" (os error {number})"))
            .unwrap_or(&text),
        None if error.kind() == io::ErrorKind::NotFound => "no such file or directory",
        None => &text,
    };
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

impl FileError {
    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the reason, without the name of the file.
    pub fn reason(&self) -> String {
        system_text(&self.cause)
    }

    /// Returns whether the path does not name a file: it does not exist, or is a directory.
    pub fn is_missing_or_directory(&self) -> bool {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
        matches!(self.cause.kind(), IsADirectory | NotADirectory | NotFound)
    }

    /// Returns whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
    }

    /// Returns whether nothing was written because another program changed the file.
    pub fn is_changed(&self) -> bool {
        self.verb == CHANGED
    }

    /// Returns whether the file already exists.
    pub fn already_exists(&self) -> bool {
        self.cause.kind() == io::ErrorKind::AlreadyExists
    }

    /// Returns the error with another name for the file, such as a URL without its password.
    #[must_use]
    pub fn shown_as(mut self, name: &str) -> Self {
        self.path = name.into();
        self
    }

    fn new(verb: &'static str, path: &Path, cause: io::Error) -> Self {
        Self {
            verb,
            path: path.to_owned(),
            cause,
        }
    }
}

/// Reads a whole file of manifests.
///
/// # Errors
///
/// Fails like [`read_as`].
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_as(path, Kind::Manifests)
}

/// Reads a whole file of manifests in order to change it. Unlike [`read`], accepts only regular
/// files, and so never waits for the writer of a pipe.
///
/// # Errors
///
/// Fails like [`read_regular`].
pub fn read_to_change(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_regular(path, Kind::Manifests.limit())
}

/// Reads a whole file, up to the size limit for its kind of content. Converts text with [`text()`]; see
/// [`Kind::is_text`].
///
/// # Errors
///
/// Fails if the file does not exist, is a directory, is above the limit, or cannot be read.
pub fn read_as(path: &Path, kind: Kind) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = open(path)?;
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let bytes = bounded::read(file, len, kind);
    let bytes = bytes.map_err(|cause| FileError::new("read", path, cause))?;
    Ok(if kind.is_text() { text(bytes) } else { bytes })
}

/// Converts text to UTF-8 without a byte order mark. Windows programs write UTF-16.
pub fn text(bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    match manifest::as_utf8(&bytes) {
        Cow::Owned(text) => Zeroizing::new(text),
        Cow::Borrowed(same) if same.len() == bytes.len() => bytes,
        Cow::Borrowed(rest) => Zeroizing::new(rest.to_vec()),
    }
}

/// Reads a file at an untrusted path. Only a regular file of at most `limit` bytes is read: a pipe could block
/// indefinitely, reading a device may have side effects, and a huge file would exhaust the memory.
///
/// # Errors
///
/// Fails like [`read`], and if the path does not name a regular file of at most `limit` bytes.
pub fn read_regular(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = platform::open_without_waiting(path)
        .map_err(|cause| FileError::new("open", path, cause))?;
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        // One byte more than the limit shows that the file is too large.
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|len| len <= limit) {
            return Ok(bytes);
        }
        let why = format!("larger than the limit of {limit} bytes");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
    };
    read().map_err(|cause| FileError::new("read", path, cause))
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|cause| FileError::new("open", path, cause))
}

/// Checks that a file exists and can be opened for reading.
///
/// # Errors
///
/// Fails if the file cannot be opened.
pub fn check(path: &Path) -> Result<(), FileError> {
    open(path).map(drop)
}

/// Reads manifests from stdin.
///
/// # Errors
///
/// Fails like [`read_stdin_as`].
pub fn read_stdin() -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_stdin_as(Kind::Manifests)
}

/// Reads stdin to its end, up to the size limit for its kind of content. Converts text with [`text()`]; see
/// [`Kind::is_text`].
///
/// # Errors
///
/// Fails if the content is above the limit or cannot be read.
pub fn read_stdin_as(kind: Kind) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let bytes = bounded::read(io::stdin().lock(), 0, kind)
        .map_err(|cause| FileError::new("read", Path::new("/dev/stdin"), cause))?;
    Ok(if kind.is_text() { text(bytes) } else { bytes })
}

/// Replaces a file that the user names, like [`replace_anywhere`]. Refuses a symbolic link that
/// points outside the work tree that contains it: the author of the repository would choose which of
/// the user's files is overwritten. A Git directory counts as outside: Git runs the hooks in it.
///
/// # Errors
///
/// Fails like [`replace_anywhere`], and if the path is a symbolic link that leads out of the work tree.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    check_inside_tree(path)?;
    replace_anywhere(path, bytes)
}

/// Refuses a path that [`replace`] would refuse, before directories are created for it.
///
/// # Errors
///
/// Fails if a symbolic link on the way points outside the work tree that contains it, or into a Git directory.
pub fn check_inside_tree(path: &Path) -> Result<(), FileError> {
    let Some(target) = target_outside_tree(path) else {
        return Ok(());
    };
    let why = format!(
        "a symbolic link in the work tree points outside it or into its Git directory, to {0}\nhint: if that is intended, pass {0} itself",
        target.shown()
    );
    Err(FileError::new("cannot write", path, io::Error::other(why)))
}

/// Returns the target of a path, if a symbolic link on the way leads into a Git directory, or is in a Git work tree and
/// points outside it. For a missing file, the location of its directory counts. `..` in the path is not a link, and is
/// the user's own choice.
fn target_outside_tree(path: &Path) -> Option<PathBuf> {
    let (mut resolved, mut trees, mut has_link) = (PathBuf::new(), Vec::new(), false);
    for component in std::path::absolute(path).ok()?.components() {
        if component == Component::ParentDir {
            resolved.pop();
            continue;
        }
        let next = resolved.join(component);
        let target = fs::canonicalize(&next).unwrap_or_else(|_| next.clone());
        if next.is_symlink() {
            has_link = true;
            trees.extend(git::work_tree(&resolved));
        }
        resolved = target;
    }
    let is_outside = trees.iter().any(|tree| !resolved.starts_with(tree));
    (is_outside || has_link && is_in_git_directory(&resolved)).then_some(resolved)
}

/// Returns whether a path without links is in a Git directory: a directory named `.git`, in any case because some file
/// systems ignore case, or a directory with the content of a Git directory, which a `.git` file can name.
fn is_in_git_directory(path: &Path) -> bool {
    let is_git = |directory: &Path| {
        let name = directory.file_name().unwrap_or_default();
        name.eq_ignore_ascii_case(".git")
            || ["HEAD", "objects", "refs"]
                .iter()
                .all(|entry| directory.join(entry).exists())
    };
    // A work tree may lie in the Git directory of a bare repository.
    let tree = path.parent().and_then(git::work_tree);
    let is_below_tree = |directory: &&Path| Some(*directory) != tree.as_deref();
    path.ancestors().take_while(is_below_tree).any(is_git)
}

/// Replaces a file atomically: readers see either the old content or the new. A new file has mode
/// 0600, an existing one keeps its mode. A symbolic link stays, and its target is replaced. A link
/// to a missing file is refused: the author of a repository would choose where a new file appears.
/// Devices and pipes, such as `/dev/null`, are written to instead. A failure leaves no temporary
/// file. On Windows, a new file inherits the permissions of its directory.
///
/// # Errors
///
/// Fails if the path is a directory or a link to a missing file, or if the file cannot be written.
pub fn replace_anywhere(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace_with(path, bytes, Permissions::clone)
}

/// Replaces a file like [`replace`], with content that includes a private key or plain values: an existing file loses
/// the permissions of other users.
///
/// # Errors
///
/// Fails like [`replace`].
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    check_inside_tree(path)?;
    replace_with(path, bytes, platform::without_other_users)
}

/// Refuses an output file that the command also reads, because its content would be lost.
///
/// # Errors
///
/// Fails if the output exists and is one of the inputs, possibly under another name. Hard links are not recognized on
/// Windows.
pub fn refuse_input_as_output<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<(), FileError> {
    let is_same = |input: &Path| -> io::Result<bool> {
        let is_same_path = fs::canonicalize(input)? == fs::canonicalize(output)?;
        // Hard links have different paths.
        let is_linked = || -> io::Result<bool> {
            let (input, output) = (fs::metadata(input)?, fs::metadata(output)?);
            Ok(cfg!(unix) && platform::is_same_file(&input, &output))
        };
        Ok(output.is_file() && (is_same_path || is_linked()?))
    };
    let is_output = |input: &Path| is_same(input).unwrap_or(false);
    if inputs.into_iter().any(is_output) {
        let why = "this command reads the file, which would be lost\nhint: choose another name for the output";
        return Err(FileError::new(
            "cannot write",
            output,
            io::Error::other(why),
        ));
    }
    Ok(())
}

fn replace_with(
    path: &Path,
    bytes: &[u8],
    permissions: impl Fn(&Permissions) -> Permissions,
) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let existing = existing_file(path)?;
        // Open the given path: the target of `/dev/stdout` may have no other name.
        if existing
            .as_ref()
            .is_some_and(|existing| !existing.is_file())
        {
            let mut file = fs::OpenOptions::new().write(true).open(path)?;
            return file.write_all(bytes);
        }
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let temporary = TemporaryFile::write(directory_of(&path), bytes, existing.as_ref())?;
        let Some(existing) = existing else {
            return temporary.persist_as_new(&path);
        };
        temporary.set_permissions(permissions(&existing.permissions()))?;
        temporary.replace(&path)
    };
    write().map_err(|cause| FileError::new("cannot write", path, cause))
}

/// Returns the metadata of the file, device or pipe that a path names; `None` if there is none. Refuses directories, and
/// links to missing files.
fn existing_file(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(existing) if existing.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(existing) => Ok(Some(existing)),
        Err(_) if fs::symlink_metadata(path).is_ok() => {
            let why = "symbolic link to a file that does not exist\nhint: remove the link";
            Err(io::Error::other(why))
        }
        Err(_) => Ok(None),
    }
}

/// Creates or replaces a file like [`replace`], but only with content that `is_accepted` has read from the disk: the
/// argument is the path of the complete new file, which still has a temporary name. Returns whether it was accepted; if
/// not, the path is unchanged. Refuses pipes and devices.
///
/// # Errors
///
/// Fails if the path is a pipe or device, and like [`replace`].
pub fn replace_checked(
    path: &Path,
    bytes: &[u8],
    is_accepted: impl FnOnce(&Path) -> bool,
) -> Result<bool, FileError> {
    check_inside_tree(path)?;
    check_regular(path)?;
    let replace = || -> io::Result<bool> {
        let existing = existing_file(path)?;
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let temporary = TemporaryFile::write(directory_of(&path), bytes, existing.as_ref())?;
        temporary.persist_if(&path, existing.is_none(), is_accepted)
    };
    replace().map_err(|cause| FileError::new("cannot write", path, cause))
}

/// Refuses a path that names a pipe or device: writing to it keeps no file, and opening a pipe waits for its reader.
///
/// # Errors
///
/// Fails if the path exists and names neither a regular file nor a directory.
pub fn check_regular(path: &Path) -> Result<(), FileError> {
    let existing = fs::metadata(path);
    if existing.is_ok_and(|existing| !existing.is_file() && !existing.is_dir()) {
        let why = "not a regular file\nhint: pass the path of a regular or new file";
        return Err(FileError::new("cannot write", path, io::Error::other(why)));
    }
    Ok(())
}

/// Returns whether neither a file nor a directory or link has this path. A path below a file, such as one below
/// `/dev/null`, cannot exist.
///
/// # Errors
///
/// Fails if the path cannot be looked up, for example below a directory that this user may not enter.
pub fn is_absent(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(true),
            _ => Err(error),
        },
    }
}

/// Replaces a file like [`replace_anywhere`], and refuses pipes and devices: opening a pipe waits for its reader.
///
/// # Errors
///
/// Fails if the path is a pipe or device, or if [`replace_anywhere`] fails.
pub fn replace_regular(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    check_regular(path)?;
    replace_anywhere(path, bytes)
}

/// Creates a file for this user only. The file gets its name only when its content is complete.
///
/// # Errors
///
/// Fails if the file exists, or for a reason for which [`replace`] fails.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    check_inside_tree(path)?;
    let temporary = TemporaryFile::write(directory_of(path), bytes, None);
    let result = temporary.and_then(|temporary| temporary.persist_as_new(path));
    result.map_err(|cause| FileError::new("cannot create", path, cause))
}

/// Updates a file: `change` maps the old content to the new. Where the system supports it, waits for other runs of this
/// program that update the file, at most ten seconds. If another program changes the file meanwhile, that program's
/// content is kept and passed to `change`. Like [`replace`], refuses a symbolic link that leads out of a work tree.
/// Never waits for a pipe.
///
/// # Errors
///
/// Returns an error from `change`. Fails if the path is a symbolic link that leads out of a work tree or not a regular
/// file, if the file cannot be read or written, or if another program changes the file repeatedly.
pub fn update<B: AsRef<[u8]>, E: From<FileError>>(
    path: &Path,
    mut change: impl FnMut(&[u8]) -> Result<B, E>,
) -> Result<(), E> {
    // Check before locking, which opens the file for writing.
    check_inside_tree(path)?;
    let mut attempts = 0;
    loop {
        let lock = lock::acquire(path);
        let before = read_to_change(path)?;
        let after = change(&before)?;
        match replace_if_unchanged(path, &before, after.as_ref()) {
            Err(error) if error.is_changed() && attempts < MAX_ATTEMPTS => attempts += 1,
            result => return Ok(result?),
        }
        drop(lock);
        std::thread::sleep(PAUSE);
    }
}

const MAX_ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);
const CHANGED: &str = "did not write";

/// Replaces a file unless it has changed since it was read, so that changes by other programs are not
/// lost. Where the operating system can exchange two files, there is no race.
///
/// # Errors
///
/// Fails if the content has changed, or for a reason for which [`replace`] fails.
pub fn replace_if_unchanged(path: &Path, before: &[u8], bytes: &[u8]) -> Result<(), FileError> {
    check_inside_tree(path)?;
    let to_error = |cause| FileError::new("cannot write", path, cause);
    let metadata = fs::metadata(path).map_err(to_error)?;
    if !metadata.is_file() {
        return Err(to_error(io::Error::other("not a regular file")));
    }
    let resolved = fs::canonicalize(path).map_err(to_error)?;
    let temporary = TemporaryFile::write(directory_of(&resolved), bytes, Some(&metadata));
    let replaced = temporary.and_then(|new| new.replace_if_unchanged(&resolved, before, bytes));
    if replaced.map_err(to_error)? {
        return Ok(());
    }
    let changed = io::Error::other("another program changed the file\nhint: run the command again");
    Err(FileError::new(CHANGED, path, changed))
}

/// Removes temporary files of killed runs from the directory of a file.
pub fn remove_leftovers_beside(path: &Path) {
    remove_leftovers(directory_of(path));
}

/// Returns the path relative to the current directory if it is inside that directory, or the path itself.
pub fn relative_to_current_directory(path: &Path) -> PathBuf {
    let current = std::env::current_dir().and_then(|current| current.canonicalize());
    let relative = current
        .ok()
        .and_then(|current| path.strip_prefix(current).ok().map(Path::to_owned));
    relative.unwrap_or_else(|| path.to_owned())
}

/// Creates a directory for this user only, including missing parents.
///
/// # Errors
///
/// Fails if the directory cannot be created.
pub fn create_directory(path: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    platform::restrict_to_user(&mut builder);
    builder
        .create(path)
        .map_err(|cause| FileError::new("cannot create", path, cause))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn formats_read_errors_like_go() {
        let directory = tempfile::tempdir().unwrap();
        let (missing, below_file) = (
            directory.path().join("missing"),
            directory.path().join("file/x"),
        );
        fs::write(directory.path().join("file"), "").unwrap();
        for (path, verb, text) in [
            (missing.as_path(), "open", "no such file or directory"),
            (below_file.as_path(), "open", "not a directory"),
            (directory.path(), "read", "is a directory"),
        ] {
            let error = read(path).unwrap_err();
            let want = format!("{verb} {}: {text}", path.display());
            assert_eq!(shared::error_chain(&error), want);
        }
        let missing = missing.join("below");
        let error = replace(&missing, b"").unwrap_err();
        let want = format!(
            "cannot write {}: no such file or directory",
            missing.display()
        );
        assert_eq!(shared::error_chain(&error), want);
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_private_file_loses_the_permissions_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plain.json");
        for (before, after) in [
            (0o644, 0o600),
            (0o640, 0o600),
            (0o400, 0o400),
            (0o755, 0o700),
        ] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            replace_private(&path, b"new").unwrap();
            assert_eq!(mode(&path), after, "{before:o}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn refuses_an_output_that_is_an_input() {
        let directory = tempfile::tempdir().unwrap();
        let path_of = |name: &str| directory.path().join(name);
        let (key, link, other) = (path_of("key"), path_of("link"), path_of("other"));
        fs::write(&key, "key").unwrap();
        fs::hard_link(&key, &link).unwrap();
        fs::write(&other, "other").unwrap();
        let dotted = path_of("./key");
        for (output, is_refused) in [
            (&key, true),
            (&dotted, true),
            (&link, true),
            (&other, false),
        ] {
            let result = refuse_input_as_output(output, [key.as_path()]);
            assert_eq!(result.is_err(), is_refused, "{}", output.display());
        }
        assert!(refuse_input_as_output(&path_of("new"), [key.as_path()]).is_ok());
    }

    #[test]
    fn a_new_file_is_accessible_only_to_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        replace(&path, b"x").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), mode(&path)),
            (b"x".to_vec(), 0o600)
        );
    }

    #[test]
    fn keeps_the_mode_of_a_file_and_replaces_the_target_of_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            (fs::read(&file).unwrap(), mode(&file)),
            (b"new".to_vec(), 0o644)
        );
    }

    /// Attack: a committer adds a symbolic link that has the name of an output file and points to a file that does not
    /// exist yet, such as a start-up file of the user's shell, so that the command creates that file.
    #[test]
    fn refuses_a_link_to_a_missing_file() {
        let directory = tempfile::tempdir().unwrap();
        for (link, to) in [("a", "b"), ("b", "c")] {
            std::os::unix::fs::symlink(to, directory.path().join(link)).unwrap();
        }
        let error = replace(&directory.path().join("a"), b"x").unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert!(!directory.path().join("c").exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn writes_to_devices_and_pipes() {
        use std::os::unix::fs::FileTypeExt as _;
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let status = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(status.unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        replace(&pipe, b"x").unwrap();
        assert_eq!(reader.join().unwrap(), b"x");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    /// Fault: the disk returns other bytes than were written.
    #[test]
    fn keeps_the_old_file_if_the_new_one_is_not_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let count = || fs::read_dir(directory.path()).unwrap().count();
        let replace = |is_accepted: bool| {
            replace_checked(&path, b"new", |written| {
                assert_ne!(written, path);
                assert_eq!(fs::read(written).unwrap(), b"new");
                is_accepted
            })
        };
        assert!(!replace(false).unwrap());
        assert_eq!(count(), 0);
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(!replace(false).unwrap());
        assert_eq!((fs::read(&path).unwrap(), count()), (b"old".to_vec(), 1));
        assert!(replace(true).unwrap());
        assert_eq!((fs::read(&path).unwrap(), count()), (b"new".to_vec(), 1));
        assert_eq!(mode(&path), 0o640);
        fs::remove_file(&path).unwrap();
        assert!(replace(true).unwrap());
        assert_eq!((fs::read(&path).unwrap(), count()), (b"new".to_vec(), 1));
        assert_eq!(mode(&path), 0o600);
    }

    /// Attack: a committer makes a command read a pipe without a writer, an endless device or a huge file, so that it
    /// hangs or exhausts the memory.
    #[test]
    fn reads_only_regular_files_of_limited_size() {
        let directory = tempfile::tempdir().unwrap();
        let path_of = |name: &str| directory.path().join(name);
        let status = std::process::Command::new("mkfifo")
            .arg(path_of("pipe"))
            .status();
        assert!(status.unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", path_of("zero")).unwrap();
        fs::write(path_of("fits"), "12345678").unwrap();
        fs::write(path_of("large"), "123456789").unwrap();
        assert_eq!(*read_regular(&path_of("fits"), 8).unwrap(), b"12345678");
        for (name, why) in [
            ("pipe", "not a regular file"),
            ("zero", "not a regular file"),
            ("large", "larger than the limit of 8 bytes"),
            (".", "directory"),
            ("missing", "No such file"),
        ] {
            let error = read_regular(&path_of(name), 8).unwrap_err();
            assert!(
                error.cause.to_string().contains(why),
                "{name}: {:?}",
                error.cause
            );
        }
    }

    #[test]
    fn keeps_concurrent_changes_of_another_program() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "other").unwrap();
        let error = replace_if_unchanged(&path, b"read", b"new").unwrap_err();
        assert!(error.to_string().starts_with("did not write"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"other");
        replace_if_unchanged(&path, b"other", b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_failure_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(replace(directory.path(), b"x").is_err());
        assert!(replace(&directory.path().join("no/where"), b"x").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
