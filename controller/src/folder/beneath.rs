//! Paths of several components. Symbolic links are followed as long as they stay inside the folder.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{self, Mode};
use rustix::io::Errno;

use super::error::system;
use super::{FOLDER, FileError, Folder, Opened, READ};

/// Maximum number of links in one path, as in the kernel.
const MAX_LINKS: usize = 40;
/// The top-level folders of a controller's directory. A link in one of them must not lead into another: a
/// status file must not be read as a SealedSecret, nor a value as a manifest.
const APART: [&str; 4] = ["keys", "sealed", "secrets", "status"];

impl Folder {
    /// Opens a path of several components for reading. Links on the way and at its end are followed as long
    /// as they stay inside this folder and do not lead from one of the controller's top-level folders into
    /// another.
    ///
    /// # Errors
    ///
    /// Returns [`FileError::Link`] for a link that leads outside or nowhere, or the operating system's error.
    pub fn open_beneath(&self, path: &Path) -> Result<Opened, FileError> {
        let shown = self.path.join(path);
        let fd = self.walk(path).map_err(|errno| match errno {
            Errno::XDEV | Errno::LOOP => FileError::Link {
                path: shown.clone(),
            },
            errno => system(&shown, errno),
        })?;
        Opened::new(fd, shown)
    }

    /// Opens the path component by component, so that no component can be replaced by a link in between.
    fn walk(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut todo: VecDeque<OsString> = components(path)?.into();
        let mut open = vec![self.fd.try_clone().map_err(|_| Errno::MFILE)?];
        // The names of the open components, without this folder itself.
        let mut names: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                open.pop();
                names.pop();
            } else {
                let here = open.last().ok_or(Errno::XDEV)?;
                let flags = if todo.is_empty() { READ } else { FOLDER };
                match fs::openat(here, &name, flags, Mode::empty()) {
                    Ok(fd) => {
                        open.push(fd);
                        names.push(name);
                    }
                    Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => {
                        let target = fs::readlinkat(here, &name, Vec::new()).map_err(|_| errno)?;
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        let target = Path::new(OsStr::from_bytes(target.to_bytes())).to_owned();
                        for name in components(&target)?.into_iter().rev() {
                            todo.push_front(name);
                        }
                    }
                    Err(Errno::NOENT) if links > 0 => return Err(Errno::LOOP),
                    Err(errno) => return Err(errno),
                }
            }
            if open.is_empty() {
                return Err(Errno::XDEV);
            }
        }
        if is_of_another(path, names.first()) {
            return Err(Errno::XDEV);
        }
        open.pop().ok_or(Errno::XDEV)
    }
}

/// Returns whether a path that starts in one of the top-level folders ends in another one.
fn is_of_another(path: &Path, end: Option<&OsString>) -> bool {
    let is_apart = |name: &OsStr| APART.iter().any(|apart| name == *apart);
    let begin = path.components().next().map(Component::as_os_str);
    let end = end.map(OsString::as_os_str);
    begin != end && begin.is_some_and(is_apart) && end.is_some_and(is_apart)
}

/// Splits a relative path into names and `..`. An absolute path is refused.
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
