//! The socket file. Only its owner can connect, so the driver must run as root or as the same user as the provider.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The umask for the socket: no other user may read or write it.
const UMASK: u32 = 0o177;
/// The write permissions of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why the socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path has no parent directory or no file name.
    #[error("{} is not the path of a file\nhint: pass a path such as /var/run/secrets-store-csi-providers/sealed.sock", .0.display())]
    Path(PathBuf),
    /// The directory does not exist.
    #[error(
        "the directory {} does not exist, so no CSI driver uses it\n\
         hint: install the Secrets Store CSI driver first, and mount its directory of providers there (`csi.providersDir` of the \
         chart)",
        .0.display()
    )]
    NoDirectory(PathBuf),
    /// The directory belongs to another user, or other users may write to it.
    #[error(
        "other users can write to the directory {}, so they could receive the tokens of Pods\n\
         hint: `chown root` and `chmod 0755` the directory",
        .0.display()
    )]
    Shared(PathBuf),
    /// A file that is not a socket has this path.
    #[error(
        "{} exists and is not a socket\nhint: remove the existing file, or pass a different --socket",
        .0.display()
    )]
    Occupied(PathBuf),
    /// A system call failed.
    #[error("cannot create the socket {}", .path.display())]
    System {
        /// The path of the socket.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

/// A socket file. It is removed on drop, unless another process has replaced it.
pub(crate) struct Socket {
    directory: File,
    name: PathBuf,
    /// The inode number of the socket file, to recognize it.
    inode: u64,
}

impl Socket {
    /// Creates a socket. A socket that an earlier process left behind is replaced atomically.
    pub(crate) fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let (directory, name) = open_directory(path)?;
        let system = |source| SocketError::System {
            path: path.to_owned(),
            source,
        };
        let target = path_inside(&directory, &name);
        match fs::symlink_metadata(&target) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::Occupied(path.to_owned()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
            _ => {}
        }
        let (listener, inode) = replace(&directory, &name, &target).map_err(system)?;
        let socket = Self {
            directory,
            name,
            inode,
        };
        Ok((socket, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let path = path_inside(&self.directory, &self.name);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens the directory once, so that all steps use the same directory.
fn open_directory(path: &Path) -> Result<(File, PathBuf), SocketError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SocketError::Path(path.to_owned()));
    };
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let system = |source| SocketError::System {
        path: path.to_owned(),
        source,
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let opened = rustix::fs::open(directory, flags, Mode::empty());
    let opened = opened.map_err(|error| match error {
        Errno::NOENT => SocketError::NoDirectory(directory.to_owned()),
        error => system(error.into()),
    });
    let opened = File::from(opened?);
    let found = opened.metadata().map_err(system)?;
    let is_trusted = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    if !is_trusted || found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(SocketError::Shared(directory.to_owned()));
    }
    Ok((opened, name.into()))
}

/// Returns a path for a name in an open directory. The path is short, as the address of a socket must be, even if the
/// path of the directory is long.
fn path_inside(directory: &File, name: &Path) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name)
}

/// Binds to a temporary name, and renames the socket when it listens.
fn replace(directory: &File, name: &Path, target: &Path) -> io::Result<(UnixListener, u64)> {
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".new");
    let new = path_inside(directory, Path::new(&new));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mask = rustix::process::umask(Mode::from_raw_mode(UMASK));
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

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn bind(path: &Path) -> Result<(Socket, UnixListener), SocketError> {
        Socket::bind(path)
    }

    #[test]
    fn only_the_owner_can_connect_and_the_file_is_removed_at_the_end() {
        let directory = directory();
        let path = directory.path().join("sealed.sock");
        let (socket, _listener) = bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn replaces_the_socket_of_a_killed_process() {
        let directory = directory();
        let path = directory.path().join("sealed.sock");
        drop(UnixListener::bind(&path).unwrap());
        drop(UnixListener::bind(directory.path().join(".sealed.sock.new")).unwrap());
        let (_socket, _listener) = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn keeps_the_socket_of_its_successor() {
        let directory = directory();
        let path = directory.path().join("sealed.sock");
        let (first, _listener) = bind(&path).unwrap();
        let (_second, _new_listener) = bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }

    /// Attack: another user of the machine replaces the socket or its directory, to receive the tokens of Pods, or
    /// makes the provider overwrite another file.
    #[test]
    fn refuses_directories_that_others_can_change_and_keeps_other_files() {
        let directory = directory();
        let path = directory.path().join("sealed.sock");
        for mode in [0o775, 0o757, 0o1777] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(bind(&path), Err(SocketError::Shared(_))),
                "{mode:o}"
            );
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.path().join("file"), "kept").unwrap();
        symlink("file", &path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::Occupied(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        let link = directory.path().join("link");
        symlink(directory.path(), &link).unwrap();
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
            Err(SocketError::NoDirectory(_))
        ));
    }
}
