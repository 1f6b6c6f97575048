//! The target folder of an agent. It is updated like a volume of the kubelet:
//!
//! ```text
//! /secrets/
//!     ..seal_1796011506.5f1c09a2/     one version, with folders and files
//!     ..data   -> ..seal_1796011506.5f1c09a2
//!     password -> ..data/password
//!     db       -> ..data/db
//! ```
//!
//! A version is complete and durable before `..data` points to it, by one rename. For a reader that opens files, a crash at
//! any time leaves either the old or the new files. The next start or change removes what a killed process left.

mod folder;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use deliver::DeliveredFile;
use rustix::fs::FileType;
use rustix::io::Errno;

use folder::Folder;

const DATA: &str = "..data";
/// The link that is renamed to [`DATA`].
const NEXT_DATA: &str = "..data_next";
/// The name prefix of versions. Those of the kubelet begin with `..` and a year.
const VERSION_PREFIX: &str = "..seal_";

/// How long a former version stays, for a program that has followed `..data` and not yet opened its file.
pub const FORMER_VERSION_STAYS: Duration = Duration::from_millis(100);

/// A user and group, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The number of the user.
    pub user: u32,
    /// The number of the group.
    pub group: u32,
}

/// A text that is not `UID:GID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected UID:GID, as numbers")]
pub struct MalformedOwner;

impl FromStr for Owner {
    type Err = MalformedOwner;

    fn from_str(text: &str) -> Result<Self, MalformedOwner> {
        let (user, group) = text.split_once(':').ok_or(MalformedOwner)?;
        let number = |text: &str| text.parse().map_err(|_| MalformedOwner);
        Ok(Self {
            user: number(user)?,
            group: number(group)?,
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

impl Owner {
    fn apply_to(self, file: &File) -> io::Result<()> {
        std::os::unix::fs::fchown(file, Some(self.user), Some(self.group))
    }
}

/// Files cannot be written to the target folder. No message contains a value.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The system refuses an operation.
    #[error("cannot {verb} {}", path.display())]
    System {
        /// The operation.
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The system refuses to change the owner.
    #[error(
        "cannot change the owner of {}\nhint: --owner needs root or the capability CHOWN; without it, use `fsGroup` of the Pod",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another program manages the folder.
    #[error(
        "another program manages {}: its `..data` was not created by `seal agent`\n\
         hint: use a folder of its own, such as a volume `emptyDir: {{medium: Memory}}`",
        .0.display()
    )]
    Managed(PathBuf),
    /// Another program created a file or folder with the name of one to deliver.
    #[error(
        "{} exists, and `seal agent` did not create it\nhint: remove it, or choose another path",
        .0.display()
    )]
    Exists(PathBuf),
    /// Another process holds the lock of the folder.
    #[error("another `seal agent` writes to {}\nhint: give each one a folder of its own", .0.display())]
    Locked(PathBuf),
}

impl TargetError {
    fn system(verb: &'static str, path: &Path, errno: Errno) -> Self {
        let path = path.to_owned();
        let source = errno.into();
        Self::System { verb, path, source }
    }
}

/// The outcome of [`Target::write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The folder already had these files.
    Unchanged,
    /// The folder had no complete version before.
    First,
    /// These files are new, have another content or mode, or are gone.
    Changed(BTreeSet<String>),
}

/// A target folder that this process has locked.
#[derive(Debug)]
pub struct Target {
    folder: Folder,
    owner: Option<Owner>,
}

/// Files by path.
type Wanted<'a> = BTreeMap<&'a str, &'a DeliveredFile>;

/// The entries of a target folder.
#[derive(Debug, Default)]
struct Entries {
    /// The version that `..data` points to.
    current: Option<String>,
    /// All versions, including the current one.
    versions: Vec<String>,
    /// Names of links into `..data`.
    links: BTreeSet<String>,
    has_next_data: bool,
    /// Names that other programs created.
    others: BTreeSet<OsString>,
}

impl Target {
    /// Opens and locks the folder, and removes what a killed process left in it.
    ///
    /// # Errors
    ///
    /// Fails if the folder does not exist, another program manages it, or another agent has locked it.
    pub fn open(path: &Path, owner: Option<Owner>) -> Result<Self, TargetError> {
        let folder = Folder::open(path)?;
        if !folder.lock()? {
            return Err(TargetError::Locked(path.to_owned()));
        }
        let target = Self { folder, owner };
        target.clean_up()?;
        Ok(target)
    }

    /// Returns whether the folder has a complete version. It needs no lock.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be listed, or another program manages it.
    pub fn is_complete(path: &Path) -> Result<bool, TargetError> {
        Ok(Entries::list(&Folder::open(path)?)?.current().is_some())
    }

    /// Returns whether the folder is in memory. Otherwise values may reach a disk.
    pub fn is_in_memory(&self) -> bool {
        self.folder.is_in_memory()
    }

    /// Replaces all files. Does nothing if the folder already has these.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written, or another program created one of its name. Either all old or all new files are in place then.
    pub fn write(&self, files: &[DeliveredFile]) -> Result<Written, TargetError> {
        let wanted: Wanted<'_> = files
            .iter()
            .map(|file| (file.path.as_str(), file))
            .collect();
        self.clean_up()?;
        let entries = Entries::list(&self.folder)?;
        let tops = tops(files);
        if let Some(name) = tops.iter().find(|name| entries.is_by_other(name)) {
            return Err(TargetError::Exists(self.folder.path().join(name)));
        }
        let changed = self.differences(&entries, &wanted);
        if changed.as_ref().is_some_and(BTreeSet::is_empty) && entries.links == tops {
            return Ok(Written::Unchanged);
        }
        let version = new_name();
        self.write_version(&version, &wanted)?;
        self.publish(&version, &entries, &tops)?;
        Ok(changed.map_or(Written::First, Written::Changed))
    }

    /// Returns the paths that differ from those of the current version; `None` if there is no version.
    fn differences(&self, entries: &Entries, wanted: &Wanted<'_>) -> Option<BTreeSet<String>> {
        let version = self.folder.child(entries.current()?).ok()?;
        Some(tree::differences(&version, wanted, self.owner))
    }

    fn write_version(&self, name: &str, wanted: &Wanted<'_>) -> Result<(), TargetError> {
        let version = self.folder.child_or_new(name)?;
        for file in wanted.values() {
            tree::write(&version, file, self.owner)?;
        }
        version.sync()
    }

    /// Makes a complete version the current one. Links to new files lead nowhere until then, and links to removed files
    /// afterwards.
    fn publish(
        &self,
        version: &str,
        entries: &Entries,
        tops: &BTreeSet<String>,
    ) -> Result<(), TargetError> {
        for name in tops.difference(&entries.links) {
            self.folder.link(&link_target(name), name)?;
        }
        self.folder.link(version, NEXT_DATA)?;
        self.folder.sync()?;
        self.folder.rename(NEXT_DATA, DATA)?;
        self.folder.sync()?;
        let mut stale = entries.links.difference(tops);
        stale.try_for_each(|name| self.folder.remove(name))
    }

    /// Removes former and unfinished versions, and links that lead nowhere.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be listed, another program manages it, or an entry cannot be removed.
    pub fn clean_up(&self) -> Result<(), TargetError> {
        let entries = Entries::list(&self.folder)?;
        if entries.has_next_data {
            self.folder.remove(NEXT_DATA)?;
        }
        for name in self.dangling_links(&entries)? {
            self.folder.remove(name)?;
        }
        let current = entries.current();
        let versions = entries.versions.iter();
        let mut former = versions.filter(|version| Some(version.as_str()) != current);
        former.try_for_each(|version| tree::remove(&self.folder, version.as_ref()))
    }

    fn dangling_links<'a>(&self, entries: &'a Entries) -> Result<Vec<&'a String>, TargetError> {
        let present: BTreeSet<OsString> = match entries.current() {
            Some(version) => {
                let entries = self.folder.child(version)?.entries()?;
                entries.into_iter().map(|(name, _)| name).collect()
            }
            None => BTreeSet::new(),
        };
        let is_dangling = |name: &&String| !present.contains(OsStr::new(name.as_str()));
        Ok(entries.links.iter().filter(is_dangling).collect())
    }
}

impl Entries {
    fn list(folder: &Folder) -> Result<Self, TargetError> {
        let mut entries = Self::default();
        for (name, kind) in folder.entries()? {
            entries.add(folder, name, kind);
        }
        let is_other = |name: &str| entries.others.contains(OsStr::new(name));
        if is_other(DATA) || is_other(NEXT_DATA) {
            return Err(TargetError::Managed(folder.path().to_owned()));
        }
        Ok(entries)
    }

    fn add(&mut self, folder: &Folder, name: OsString, kind: FileType) {
        let target = folder.link_target(&name);
        let target = target.as_ref().and_then(|target| target.to_str());
        match (name.to_str(), kind, target) {
            (Some(DATA), FileType::Symlink, Some(version)) if is_version(version) => {
                self.current = Some(version.to_owned());
            }
            (Some(NEXT_DATA), FileType::Symlink, Some(version)) if is_version(version) => {
                self.has_next_data = true;
            }
            (Some(name), FileType::Directory, _) if is_version(name) => {
                self.versions.push(name.to_owned());
            }
            (Some(name), FileType::Symlink, Some(to)) if to == link_target(name) => {
                self.links.insert(name.to_owned());
            }
            _ => {
                self.others.insert(name);
            }
        }
    }

    /// Returns the current version; `None` if it does not exist.
    fn current(&self) -> Option<&str> {
        let current = self.current.as_ref()?;
        self.versions.contains(current).then_some(current)
    }

    fn is_by_other(&self, name: &str) -> bool {
        self.others.contains(OsStr::new(name))
    }
}

/// Returns the first components of the paths: each gets a link in the target folder.
fn tops(files: &[DeliveredFile]) -> BTreeSet<String> {
    let tops = files
        .iter()
        .filter_map(|file| file.path.components().next());
    tops.map(str::to_owned).collect()
}

fn link_target(name: &str) -> String {
    format!("{DATA}/{name}")
}

fn is_version(name: &str) -> bool {
    let rest = name.strip_prefix(VERSION_PREFIX);
    let parts = rest.and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(seconds, random)| {
        !seconds.is_empty()
            && seconds.bytes().all(|byte| byte.is_ascii_digit())
            && random.len() == 8
            && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Returns the name of a new version: the time, for people, and a random number.
fn new_name() -> String {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = time.unwrap_or_default().as_secs();
    format!("{VERSION_PREFIX}{seconds}.{:08x}", crate::random::number())
}

/// Replaces one file atomically, outside a target folder.
///
/// # Errors
///
/// Fails if the path has no file name, or the file cannot be written. The old content is in place then.
pub fn replace_file(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<Owner>,
) -> Result<(), TargetError> {
    let no_name = || TargetError::system("write", path, Errno::ISDIR);
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(no_name)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = Folder::open(parent.unwrap_or(Path::new(".")))?;
    let next = format!("..{name}_next");
    // A killed process may have left it.
    folder.remove(&next)?;
    folder.write_new(&next, bytes, mode, owner)?;
    folder.rename(&next, name)?;
    folder.sync()
}

#[cfg(test)]
mod tests;
