//! Files in memory, for plaintext values. Only Linux supports them: the temporary directories of macOS and Windows are
//! on disk.

pub use imp::*;

#[cfg(target_os = "linux")]
mod imp {
    use std::fs::{File, Permissions};
    use std::io::{self, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use rustix::fs::{MemfdFlags, memfd_create, statfs};

    /// Whether this operating system supports files in memory.
    pub const IS_SUPPORTED: bool = true;

    /// The types that `statfs` reports for file systems in memory.
    const TMPFS: i128 = 0x0102_1994;
    const RAMFS: i128 = 0x8584_58f6;

    /// Creates a file that is in no directory. It stays open across `exec`.
    ///
    /// # Errors
    ///
    /// Returns the I/O error.
    pub fn create_file(bytes: &[u8]) -> io::Result<File> {
        let mut file = File::from(memfd_create("seal", MemfdFlags::empty())?);
        // The default is 0777.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        Ok(file)
    }

    /// Returns the path under which a process that inherits the file can open it.
    pub fn inherited_path(file: &File) -> String {
        format!("/proc/self/fd/{}", file.as_raw_fd())
    }

    /// Returns whether the file system of the directory keeps its files in memory.
    pub fn is_in_memory(directory: &Path) -> bool {
        statfs(directory).is_ok_and(|info| [TMPFS, RAMFS].contains(&i128::from(info.f_type)))
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::fs::File;
    use std::io;

    pub const IS_SUPPORTED: bool = false;

    pub fn create_file(_: &[u8]) -> io::Result<File> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    pub fn inherited_path(_: &File) -> String {
        String::new()
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_file_is_accessible_only_to_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = create_file(b"x").unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn distinguishes_memory_from_disks() {
        assert!(is_in_memory(Path::new("/dev/shm")));
        assert!(!is_in_memory(Path::new("/proc")));
        assert!(!is_in_memory(Path::new("/no/where")));
    }
}
