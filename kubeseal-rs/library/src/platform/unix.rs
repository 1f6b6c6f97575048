//! Functions for Linux, macOS and other Unix systems.

use std::cell::Cell;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use super::signals::DelayedSignals;

/// Opens a file for reading without blocking. Opening a pipe would otherwise block until another process opens it for
/// writing.
///
/// # Errors
///
/// Returns the I/O error.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, OFlags::RDONLY | flags, Mode::empty())?;
    Ok(File::from(file))
}

/// Creates a file without a name on the directory's file system, for this user only; `None` if that is not possible,
/// for example because the file system does not support it or there is no `/proc`.
#[cfg(target_os = "linux")]
pub fn unnamed_file(directory: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR).ok()?;
    // `give_name` requires `/proc`.
    Path::new("/proc/self/fd")
        .exists()
        .then(|| File::from(file))
}

/// Gives an unnamed file a name that does not exist yet.
///
/// # Errors
///
/// Returns the I/O error.
#[cfg(target_os = "linux")]
pub fn give_name(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    let open = hardening::memory::inherited_path(file);
    Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Exchanges two files atomically. Returns `false` where that is not supported.
///
/// # Errors
///
/// Returns the I/O error.
#[cfg(target_os = "linux")]
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns `None`: this system has no unnamed files.
#[cfg(not(target_os = "linux"))]
pub fn unnamed_file(_: &Path) -> Option<File> {
    None
}

/// Never called, since there are no unnamed files.
///
/// # Errors
///
/// Always fails.
#[cfg(not(target_os = "linux"))]
pub fn give_name(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns `false`: this system cannot exchange files.
///
/// # Errors
///
/// Never fails.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
pub fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Gives a file the owner and group of another file, as far as the user's permissions allow.
pub fn copy_owner(file: &File, like: &fs::Metadata) {
    use std::os::unix::fs::fchown;
    let is_same = file
        .metadata()
        .is_ok_and(|own| (own.uid(), own.gid()) == (like.uid(), like.gid()));
    if !is_same && fchown(file, Some(like.uid()), Some(like.gid())).is_err() {
        let _ = fchown(file, None, Some(like.gid()));
    }
}

/// Returns whether both values are metadata of the same file.
pub fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Makes new directories accessible to this user only.
pub fn restrict_to_user(builder: &mut DirBuilder) {
    builder.mode(0o700);
}

/// Returns whether a file belongs to this user, to root, or to the owner of `directory` (if it does not exist, of its
/// nearest existing parent). `false` for a missing file. The owner of a link decides where it points, and the owner of
/// its target decides the content, so each of them is checked.
pub fn is_trusted(file: &Path, directory: &Path) -> bool {
    // The directory may not exist yet.
    let mut existing = directory
        .ancestors()
        .filter_map(|directory| fs::metadata(directory).ok());
    let owner = existing.next().map(|directory| directory.uid());
    let user = rustix::process::geteuid().as_raw();
    link_chain(file).is_some_and(|chain| {
        chain.iter().all(|path| {
            let metadata = fs::symlink_metadata(path);
            metadata.is_ok_and(|metadata| is_trusted_owner(metadata.uid(), user, owner))
        })
    })
}

/// Returns the file and the target of each link in the chain that starts at it; `None` if 40 links do not lead to the
/// end of the chain, for example in a cycle.
fn link_chain(file: &Path) -> Option<Vec<PathBuf>> {
    // Linux follows 40 links.
    let chain = std::iter::successors(Some(file.to_owned()), |path| next_link(path)).take(41);
    let chain: Vec<PathBuf> = chain.collect();
    chain.last().filter(|end| !end.is_symlink())?;
    Some(chain)
}

/// Returns the target of a link, with links in its directory resolved.
fn next_link(path: &Path) -> Option<PathBuf> {
    let directory = path.parent()?.canonicalize().ok()?;
    let to = directory.join(path.read_link().ok()?);
    Some(to.parent()?.canonicalize().ok()?.join(to.file_name()?))
}

/// Returns whether an owner is trusted. The directory's owner is trusted because in a container, the work tree often
/// belongs to a user other than the current one.
fn is_trusted_owner(owner: u32, user: u32, directory: Option<u32>) -> bool {
    owner == 0 || owner == user || Some(owner) == directory
}

/// Returns the permissions without those of the group and of other users.
pub fn without_other_users(permissions: &Permissions) -> Permissions {
    Permissions::from_mode(permissions.mode() & 0o700)
}

/// Sets the mode of a file to 0755, so that everyone can execute it.
///
/// # Errors
///
/// Returns the I/O error.
pub fn make_executable(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// The terminal, with echo turned off until [`Self::restore`] is called or the value is dropped.
///
/// The echo stays off between questions: pasted text may arrive before a prompt turns the echo off, or after a prompt
/// turns it on again. Input that arrived before the first question is discarded.
pub struct QuietTerminal {
    terminal: File,
    original: Termios,
    /// Whether the terminal encloses pasted text in sequences.
    has_paste_mode: bool,
    is_restored: Cell<bool>,
    /// A signal must not end the process before the terminal is restored.
    signals: DelayedSignals,
}

/// The sequences that turn bracketed paste mode on and off. In this mode, the terminal puts `ESC [ 200 ~` before and
/// `ESC [ 201 ~` after pasted text.
const PASTE_MODE: (&str, &str) = ("\x1b[?2004h", "\x1b[?2004l");
/// The maximum number of input bytes that are discarded before the terminal is restored.
const MAX_DISCARDED: usize = 64 << 20;
/// How long a read waits for a byte, in tenths of a second. After this time, `read_byte` checks for signals, and
/// `discard_input` ends.
const WAIT: u8 = 1;

impl QuietTerminal {
    /// Opens the terminal and turns its echo off. `has_paste_mode` is whether the terminal can enclose pasted text in
    /// sequences.
    ///
    /// # Errors
    ///
    /// Fails if there is no terminal.
    pub fn open(has_paste_mode: bool) -> io::Result<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let original = tcgetattr(&terminal)?;
        let quiet = quiet_settings(&original);
        let quiet_terminal = Self {
            signals: DelayedSignals::new()?,
            terminal,
            original,
            has_paste_mode,
            is_restored: Cell::new(false),
        };
        tcsetattr(&quiet_terminal.terminal, OptionalActions::Flush, &quiet)?;
        if has_paste_mode {
            quiet_terminal.write(PASTE_MODE.0)?;
        }
        Ok(quiet_terminal)
    }

    /// Writes text to the terminal, for example a prompt.
    ///
    /// # Errors
    ///
    /// Fails if the terminal was closed.
    pub fn write(&self, text: &str) -> io::Result<()> {
        (&self.terminal).write_all(text.as_bytes())
    }

    /// Waits for a byte. If a signal arrives that ends the process, restores the terminal first.
    ///
    /// # Errors
    ///
    /// Fails if the terminal was closed.
    pub fn read_byte(&self) -> io::Result<u8> {
        let mut byte = [0];
        loop {
            self.signals.end_if_received(|| {
                self.restore();
            });
            match (&self.terminal).read(&mut byte) {
                // No byte has arrived yet, or the terminal was closed, which is an error here.
                Ok(0) => {
                    tcgetattr(&self.terminal)?;
                }
                Ok(_) => return Ok(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Discards input until none arrives for a moment, and restores the terminal's settings. Returns whether there was
    /// input.
    pub fn restore(&self) -> bool {
        if self.is_restored.replace(true) {
            return false;
        }
        let has_input = self.discard_input();
        // A closed terminal has no settings to restore.
        if self.has_paste_mode {
            let _ = self.write(PASTE_MODE.1);
        }
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.original);
        has_input
    }

    fn discard_input(&self) -> bool {
        let mut buffer = Zeroizing::new([0; 4096]);
        let mut discarded = 0;
        while discarded < MAX_DISCARDED
            && let Ok(count @ 1..) = (&self.terminal).read(&mut *buffer)
        {
            discarded += count;
        }
        discarded > 0
    }
}

impl Drop for QuietTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Returns the settings while questions are asked: bytes arrive one by one and without echo, and Ctrl-C is a byte.
fn quiet_settings(original: &Termios) -> Termios {
    let mut quiet = original.clone();
    let removed = LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
    quiet.local_modes.remove(removed);
    quiet.special_codes[SpecialCodeIndex::VMIN] = 0;
    quiet.special_codes[SpecialCodeIndex::VTIME] = WAIT;
    quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: another user replaces the target of a link with their own file. The link itself belongs to the current
    /// user, so the file would be trusted.
    #[test]
    fn checks_the_owner_of_each_link_and_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("other")).unwrap();
        let path_of = |name: &str| root.join(name);
        fs::write(path_of("other/file"), "").unwrap();
        for (link, to) in [
            ("first", "directory/second"),
            ("directory", "other"),
            ("other/second", "../other/file"),
            ("circle", "circle"),
            ("nowhere", "other/missing"),
        ] {
            std::os::unix::fs::symlink(to, path_of(link)).unwrap();
        }
        let names = ["first", "other/second", "other/file"];
        assert_eq!(
            link_chain(&path_of("first")),
            Some(names.map(path_of).into())
        );
        assert_eq!(link_chain(&path_of("circle")), None);
        for (name, is_trusted_link) in [("first", true), ("circle", false), ("nowhere", false)] {
            assert_eq!(is_trusted(&path_of(name), &root), is_trusted_link, "{name}");
        }
        if rustix::process::geteuid().is_root() {
            let other_user = Some(rustix::fs::Uid::from_raw(12345));
            rustix::fs::chown(path_of("other/file"), other_user, None).unwrap();
            assert!(!is_trusted(&path_of("first"), &root));
        }
    }

    /// Attack: another user places a `.seal.yaml` in a shared directory, to choose the certificate.
    #[test]
    fn distrusts_another_users_file_in_a_shared_directory() {
        for (why, owner, user, directory, want) in [
            ("own", 1000, 1000, Some(0), true),
            ("root's", 0, 1000, Some(1000), true),
            ("a checkout in a container", 1000, 0, Some(1000), true),
            ("another user's in /tmp", 1001, 1000, Some(0), false),
            (
                "another user's, above a directory of this user",
                1001,
                1000,
                Some(1000),
                false,
            ),
            ("another user's, for root", 1001, 0, Some(0), false),
            ("a removed directory", 1001, 1000, None, false),
        ] {
            assert_eq!(is_trusted_owner(owner, user, directory), want, "{why}");
        }
    }
}
