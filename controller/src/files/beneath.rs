//! Opens paths of several components below a directory. Follows symbolic links as long as they stay inside the
//! directory.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{self, Mode};
use rustix::io::Errno;

use super::error::system_error;
use super::{DIRECTORY, Directory, FileError, OpenEntry, READ};

/// Maximum number of links in one path, as in the kernel.
const MAX_LINKS: usize = 40;
/// The top-level directories of a controller's directory. A link in one of these directories must not lead to another
/// one, so that status files and values are never parsed as manifests.
const TOP_LEVEL: [&str; 4] = ["keys", "sealed", "secrets", "status"];

impl Directory {
    /// Opens a path of several components for reading. Follows links as long as they stay inside this directory and do
    /// not lead from one of the controller's top-level directories to another one.
    ///
    /// # Errors
    ///
    /// Returns [`FileError::Link`] for a link that is not followed or leads to a missing file, or the operating
    /// system's error.
    pub fn open_beneath(&self, path: &Path) -> Result<OpenEntry, FileError> {
        let full_path = self.path.join(path);
        let fd = self.walk(path).map_err(|errno| match errno {
            Errno::XDEV | Errno::LOOP => FileError::Link {
                path: full_path.clone(),
            },
            errno => system_error(&full_path, errno),
        })?;
        OpenEntry::new(fd, full_path)
    }

    /// Opens the path component by component and resolves links itself, so a link that another process creates in the
    /// meantime does not lead outside.
    fn walk(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut remaining: VecDeque<OsString> = components(path)?.into();
        let mut open_components = vec![self.fd.try_clone().map_err(|_| Errno::MFILE)?];
        // The names of the open components, without this directory itself.
        let mut names: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = remaining.pop_front() {
            if name == ".." {
                open_components.pop();
                names.pop();
            } else {
                let parent = open_components.last().ok_or(Errno::XDEV)?;
                let flags = if remaining.is_empty() {
                    READ
                } else {
                    DIRECTORY
                };
                match fs::openat(parent, &name, flags, Mode::empty()) {
                    Ok(fd) => {
                        open_components.push(fd);
                        names.push(name);
                    }
                    Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => {
                        let target =
                            fs::readlinkat(parent, &name, Vec::new()).map_err(|_| errno)?;
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        let target = Path::new(OsStr::from_bytes(target.to_bytes())).to_owned();
                        for name in components(&target)?.into_iter().rev() {
                            remaining.push_front(name);
                        }
                    }
                    Err(Errno::NOENT) if links > 0 => return Err(Errno::LOOP),
                    Err(errno) => return Err(errno),
                }
            }
            if open_components.is_empty() {
                return Err(Errno::XDEV);
            }
        }
        if is_in_another_top_level_directory(path, names.first()) {
            return Err(Errno::XDEV);
        }
        open_components.pop().ok_or(Errno::XDEV)
    }
}

/// Returns whether a path that begins with one of the top-level directories leads to another one. `end` is the first
/// component of the path with all links resolved.
fn is_in_another_top_level_directory(path: &Path, end: Option<&OsString>) -> bool {
    let is_top_level = |name: &OsStr| TOP_LEVEL.iter().any(|top_level| name == *top_level);
    let begin = path.components().next().map(Component::as_os_str);
    let end = end.map(OsString::as_os_str);
    begin != end && begin.is_some_and(is_top_level) && end.is_some_and(is_top_level)
}

/// Splits a relative path into names and `..`.
///
/// # Errors
///
/// Returns [`Errno::XDEV`] for an absolute path.
fn components(path: &Path) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) | Component::ParentDir => {
                names.push(component.as_os_str().to_owned());
            }
            Component::RootDir | Component::Prefix(_) => return Err(Errno::XDEV),
        }
    }
    Ok(names)
}
