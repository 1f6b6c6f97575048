//! Finding other people's programs: in absolute folders of `PATH` alone. What lies in the current
//! folder, or in a relative one, may have come with somebody's repository and is never run.

use std::path::{Path, PathBuf};

/// The program of that name, by its absolute path. A name with a slash has to be absolute already.
pub fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_absolute() && is_program(path));
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_by_absolute_paths_only() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("./sh"), None);
        assert_eq!(find("no-such-program-anywhere"), None);
        assert_eq!(find("/etc/passwd"), None);
    }
}
