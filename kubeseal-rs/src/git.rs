//! The Git work tree around a file. Git's own rules are asked of the user's `git`, found in `PATH`
//! and never in the current folder; it is given no value.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::Timestamp;
use zeroize::Zeroizing;

/// Git cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no `git`.
    #[error("there is no `git` in PATH, and this needs it")]
    Missing,
    /// It cannot be started.
    #[error("git cannot be started")]
    Start(#[source] std::io::Error),
    /// It says no.
    #[error("git {verb}: {said}")]
    Refused {
        /// What was asked.
        verb: String,
        /// Its first line.
        said: String,
    },
}

/// The root of the work tree that a folder lies in: the nearest parent with a `.git`.
pub fn work_tree(folder: &Path) -> Option<PathBuf> {
    let root = folder.ancestors().find(|above| above.join(".git").exists());
    root.map(Path::to_owned)
}

/// Runs `git` in a folder and gives what it prints.
///
/// # Errors
///
/// [`GitError`].
pub fn ask<I: AsRef<OsStr>>(folder: &Path, words: &[I]) -> Result<Vec<u8>, GitError> {
    let output = command(folder, words)?.output().map_err(GitError::Start)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(GitError::Refused {
        verb: words
            .first()
            .map_or_else(String::new, |w| w.as_ref().to_string_lossy().into_owned()),
        said: said.lines().next().unwrap_or("it failed").to_owned(),
    })
}

/// Does Git leave this file alone, because a `.gitignore` names it and it is not committed? Not if
/// there is no `git` to ask.
pub fn ignores(file: &Path) -> bool {
    let folder = file.parent().unwrap_or(Path::new("."));
    ask(
        folder,
        &[
            OsStr::new("check-ignore"),
            OsStr::new("-q"),
            file.as_os_str(),
        ],
    )
    .is_ok()
}

/// Is the file committed, or about to be?
pub fn tracks(file: &Path) -> bool {
    let folder = file.parent().unwrap_or(Path::new("."));
    let words = ["ls-files", "--error-unmatch", "--"].map(OsStr::new);
    ask(folder, &[&words[..], &[file.as_os_str()]].concat()).is_ok()
}

/// What would be committed of a file, whatever the work tree holds by now. Its path counts from the
/// folder, which lies in the work tree. The bytes may be plain values.
///
/// # Errors
///
/// [`GitError`]: nothing is staged there, too.
pub fn staged(folder: &Path, file: &Path) -> Result<Zeroizing<Vec<u8>>, GitError> {
    // Without its stage, a file that is called `1:a.yaml` would be another one's.
    let mut name = OsString::from(":0:./");
    name.push(file);
    let words = ["cat-file", "blob"].map(OsStr::new);
    ask(folder, &[&words[..], &[name.as_os_str()]].concat()).map(Zeroizing::new)
}

/// When each line of a file was last committed; nothing for lines that are not committed, and for
/// files that Git does not know.
pub fn line_times(file: &Path) -> Vec<Option<Timestamp>> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let name = Path::new(file.file_name().unwrap_or_default());
    let words = ["blame", "--line-porcelain", "--"].map(OsStr::new);
    let blame = ask(folder, &[&words[..], &[name.as_os_str()]].concat()).unwrap_or_default();
    let (mut times, mut time, mut committed) = (Vec::new(), None, true);
    for line in String::from_utf8_lossy(&blame).lines() {
        if line.starts_with('\t') {
            times.push(time.filter(|_| committed));
            committed = true;
        } else if let Some(seconds) = line.strip_prefix("committer-time ") {
            time = seconds
                .parse()
                .ok()
                .and_then(|s| Timestamp::from_second(s).ok());
        } else if line.bytes().take_while(|b| *b == b'0').count() >= 40 {
            committed = false;
        }
    }
    times
}

fn command<I: AsRef<OsStr>>(folder: &Path, words: &[I]) -> Result<Command, GitError> {
    let program = crate::programs::find("git").ok_or(GitError::Missing)?;
    let mut command = Command::new(program);
    command
        .arg("-C")
        .arg(if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        })
        .args(words)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null());
    Ok(command)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_staged_is_read_and_not_what_lies_in_the_work_tree() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        ask(folder.path(), &["init", "-q"]).unwrap();
        for name in ["a.yaml", "with a space.yaml", "1:a.yaml"] {
            fs::write(below.join(name), name).unwrap();
            ask(folder.path(), &["add", "below"]).unwrap();
            fs::write(below.join(name), "changed").unwrap();
            let from_below = staged(&below, Path::new(name)).unwrap();
            let from_top = staged(folder.path(), &Path::new("below").join(name)).unwrap();
            assert_eq!(*from_below, name.as_bytes());
            assert_eq!(*from_top, name.as_bytes());
            fs::remove_file(below.join(name)).unwrap();
            assert_eq!(*staged(&below, Path::new(name)).unwrap(), name.as_bytes());
        }
        fs::write(below.join("new.yaml"), "not added").unwrap();
        assert!(staged(&below, Path::new("new.yaml")).is_err());
    }
}
