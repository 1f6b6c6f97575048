//! The file of the socket. Only its owner can connect, which must be root or the user of the driver.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Other users may neither read nor write the socket.
const MASK: u32 = 0o177;
/// The write permissions of group and others.
const SHARED: u32 = 0o022;

/// The socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path has no folder or no name.
    #[error("the path {} is not that of a file", .0.display())]
    Path(PathBuf),
    /// The folder does not exist.
    #[error(
        "the folder {} does not exist, so no CSI driver uses it\n\
         hint: install the Secrets Store CSI driver first, and mount its folder of providers there (`csi.providersDir` of the \
         chart)",
        .0.display()
    )]
    NoFolder(PathBuf),
    /// The folder belongs to another user, or others may write to it.
    #[error(
        "the folder {} could be changed by other users, who would receive the tokens of Pods\n\
         hint: let root own it, with the mode 0755",
        .0.display()
    )]
    Shared(PathBuf),
    /// Something else has the name of the socket.
    #[error("{} exists and is not a socket\nhint: remove it", .0.display())]
    Occupied(PathBuf),
    /// The operating system refuses.
    #[error("cannot create the socket {}", .path.display())]
    System {
        /// The path of the socket.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The file of a socket, which is removed when this value is dropped, unless another process has replaced it.
pub(crate) struct Socket {
    folder: File,
    name: PathBuf,
    /// The number of the file in its file system.
    inode: u64,
}

impl Socket {
    /// Creates a socket, in place of one that an earlier process has left. There is no moment without a socket.
    pub(crate) fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let (folder, name) = open_folder(path)?;
        let system = |source| SocketError::System {
            path: path.to_owned(),
            source,
        };
        let target = inside(&folder, &name);
        match fs::symlink_metadata(&target) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::Occupied(path.to_owned()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
            _ => {}
        }
        let (listener, inode) = replace(&folder, &name, &target).map_err(system)?;
        let socket = Self {
            folder,
            name,
            inode,
        };
        Ok((socket, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let path = inside(&self.folder, &self.name);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens the folder once, so that all steps use the same one.
fn open_folder(path: &Path) -> Result<(File, PathBuf), SocketError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SocketError::Path(path.to_owned()));
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let system = |source| SocketError::System {
        path: path.to_owned(),
        source,
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let opened = rustix::fs::open(folder, flags, Mode::empty());
    let opened = opened.map_err(|error| match error {
        Errno::NOENT => SocketError::NoFolder(folder.to_owned()),
        error => system(error.into()),
    });
    let opened = File::from(opened?);
    let found = opened.metadata().map_err(system)?;
    let is_trusted = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    if !is_trusted || found.mode() & SHARED != 0 {
        return Err(SocketError::Shared(folder.to_owned()));
    }
    Ok((opened, name.into()))
}

/// Returns a path in an open folder. It is short, as the address of a socket must be, however long that of the folder is.
fn inside(folder: &File, name: &Path) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name)
}

/// Binds to another name, and gives the socket its own name when it listens.
fn replace(folder: &File, name: &Path, target: &Path) -> io::Result<(UnixListener, u64)> {
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".new");
    let new = inside(folder, Path::new(&new));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mask = rustix::process::umask(Mode::from_raw_mode(MASK));
    let listener = UnixListener::bind(&new);
    rustix::process::umask(mask);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    let inode = fs::symlink_metadata(&new)?.ino();
    fs::rename(&new, target)?;
    Ok((listener, inode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn bind(path: &Path) -> Result<(Socket, UnixListener), SocketError> {
        Socket::bind(path)
    }

    #[test]
    fn only_the_owner_can_connect_and_the_file_is_removed_at_the_end() {
        let folder = folder();
        let path = folder.path().join("sealed.sock");
        let (socket, _listener) = bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn replaces_the_socket_of_a_killed_process() {
        let folder = folder();
        let path = folder.path().join("sealed.sock");
        drop(UnixListener::bind(&path).unwrap());
        drop(UnixListener::bind(folder.path().join(".sealed.sock.new")).unwrap());
        let (_socket, _listener) = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn keeps_the_socket_of_its_successor() {
        let folder = folder();
        let path = folder.path().join("sealed.sock");
        let (first, _listener) = bind(&path).unwrap();
        let (_second, _new_listener) = bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }

    /// Attack: another user of the machine replaces the socket or its folder, to receive the tokens of Pods, or lets the
    /// provider overwrite another file.
    #[test]
    fn refuses_folders_that_others_can_change_and_keeps_other_files() {
        let folder = folder();
        let path = folder.path().join("sealed.sock");
        for mode in [0o775, 0o757, 0o1777] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(bind(&path), Err(SocketError::Shared(_))),
                "{mode:o}"
            );
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("file"), "kept").unwrap();
        symlink("file", &path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Occupied(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(matches!(
            bind(&link.join("other.sock")),
            Err(SocketError::System { .. })
        ));
    }

    #[test]
    fn refuses_paths_that_cannot_be_files() {
        assert!(matches!(bind(Path::new("/")), Err(SocketError::Path(_))));
        assert!(matches!(
            bind(Path::new("/none/x.sock")),
            Err(SocketError::NoFolder(_))
        ));
    }
}
