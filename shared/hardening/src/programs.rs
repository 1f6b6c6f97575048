//! Finds external programs by an absolute path, or in absolute directories of `PATH`. A program in the current
//! directory or in a relative directory may come from an untrusted repository and is never found.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Returns the absolute path of an executable program; `None` if there is none. A name that contains a directory has to
/// be absolute.
pub fn find(name: &str) -> Option<PathBuf> {
    find_in(&path_variable(), name)
}

fn find_in(directories: &OsStr, name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    if path.components().count() > 1 {
        return Some(path.to_owned())
            .filter(|path| path.is_absolute())
            .and_then(executable_file);
    }
    absolute_directories(directories).find_map(|directory| executable_file(directory.join(name)))
}

/// Returns `PATH` without relative directories, for child processes.
pub fn search_path() -> OsString {
    // Entries that were split at the separator do not contain it, so this does not fail.
    std::env::join_paths(absolute_directories(&path_variable())).unwrap_or_default()
}

/// Returns the first line of a program's error output that is not blank, truncated. It may contain
/// any characters, so the caller escapes it for display.
pub fn first_line(stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let line = stderr.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or_default().chars().take(300).collect()
}

/// Returns the first lines of a program's error output that are not blank, at most 12 lines and 1500 characters. `…`
/// marks an omission. The caller escapes the lines for display.
pub fn first_lines(stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = stderr.lines().map(str::trim_end).collect();
    let mut lines = lines.into_iter().filter(|line| !line.is_empty());
    let mut text = lines.by_ref().take(12).collect::<Vec<_>>().join("\n");
    let end = text.char_indices().nth(1500).map(|(at, _)| at);
    text.truncate(end.unwrap_or(text.len()));
    if end.is_some() || lines.next().is_some() {
        text.push('…');
    }
    text
}

#[expect(
    clippy::disallowed_methods,
    reason = "programs are found in the PATH of this process"
)]
fn path_variable() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

fn absolute_directories(directories: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(directories).filter(|directory| directory.is_absolute())
}

/// Returns the path if it is an executable file.
#[cfg(unix)]
fn executable_file(path: PathBuf) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let is_program = |metadata: std::fs::Metadata| {
        metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
    };
    path.metadata().is_ok_and(is_program).then_some(path)
}

/// Returns the path with `.exe` if that file exists. Otherwise, returns the path itself if it is a file and has an
/// extension, such as the extension of a script.
#[cfg(not(unix))]
fn executable_file(path: PathBuf) -> Option<PathBuf> {
    let mut with_exe = path.clone().into_os_string();
    with_exe.push(".exe");
    let with_extension = path.extension().is_some().then_some(path);
    let mut candidates = [Some(with_exe.into()), with_extension]
        .into_iter()
        .flatten();
    candidates.find(|path: &PathBuf| path.is_file())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// Attack: a committer places a program where a relative path leads, so that it is run (GHSA-x5c7-x7m2-rhmf).
    #[test]
    fn finds_programs_only_in_absolute_directories() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        let bin = format!("{}bin", "../".repeat(40));
        assert!(Path::new(&bin).join("sh").exists());
        assert_eq!(find("./sh"), None);
        assert_eq!(find(&format!("{bin}/sh")), None);
        assert_eq!(find("no-such-program-anywhere"), None);
        assert_eq!(find("/etc/passwd"), None);
        for (directories, want) in [
            (bin.clone(), None),
            (format!(".:{bin}:/nowhere"), None),
            (format!("{bin}:/bin"), Some("/bin/sh".into())),
        ] {
            let found = find_in(OsStr::new(&directories), "sh");
            assert_eq!(found, want, "{directories}");
        }
    }
}
