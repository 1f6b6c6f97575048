//! The target directory of an agent. It is updated like a volume of the kubelet:
//!
//! ```text
//! /secrets/
//!     ..seal_1796011506.5f1c09a2/     one version, with directories and files
//!     ..data   -> ..seal_1796011506.5f1c09a2
//!     password -> ..data/password
//!     db       -> ..data/db
//! ```
//!
//! A version is complete and on disk before one rename lets `..data` point to it, so a crash at any time leaves either
//! all old or all new files. The next start or change removes the leftovers of a killed process.

mod directory;
mod tree;
mod versions;

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

use directory::Directory;
use versions::Versions;

const DATA: &str = "..data";
/// The temporary name of the link that is then renamed to [`DATA`].
const NEXT_DATA: &str = "..data_next";
/// The prefix of the names of versions. The names that the kubelet uses begin with `..` and a year.
const VERSION_PREFIX: &str = "..seal_";

/// How long a former version is kept for programs that have resolved `..data` and have not opened their file yet.
pub const FORMER_VERSION_LIFETIME: Duration = Duration::from_millis(100);

/// A numeric user ID and group ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user ID.
    pub user: u32,
    /// The group ID.
    pub group: u32,
}

/// The string is not of the form `UID:GID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected UID:GID, two numbers")]
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

/// Why files cannot be written to the target directory. No message contains a value, or depends on which file could not
/// be written: the sizes of values can determine the file for which no space is left.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A system call failed.
    #[error("cannot {verb} {}", path.display())]
    System {
        /// The operation, as in "cannot VERB PATH".
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The owner of files cannot be changed.
    #[error(
        "cannot change the owner of files in {}\nhint: --owner needs root or the capability CHOWN; without it, use `fsGroup` of the Pod",
        path.display()
    )]
    Owner {
        /// The target directory, or the parent directory of a single file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The files cannot be replaced.
    #[error("cannot write files to {}", path.display())]
    Files {
        /// The target directory.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// Another program manages the directory.
    #[error(
        "another program manages {}: its `..data` was not created by `seal agent`\n\
         hint: use a separate directory, such as an `emptyDir: {{medium: Memory}}` volume",
        .0.display()
    )]
    Managed(PathBuf),
    /// An entry that another program created has the name of a delivered file, or of its top directory.
    #[error(
        "{} already exists and was not created by `seal agent`\n\
         hint: remove the existing entry, or choose a different path",
        .0.display()
    )]
    Exists(PathBuf),
    /// Another process holds the lock of the directory.
    #[error("another `seal agent` is writing to {}\nhint: use a separate directory for each agent", .0.display())]
    Locked(PathBuf),
}

impl TargetError {
    fn system(verb: &'static str, path: &Path, errno: Errno) -> Self {
        let path = path.to_owned();
        let source = errno.into();
        Self::System { verb, path, source }
    }

    /// Replaces the path of a file, directory or link with the path of the target directory.
    fn without_file(self, target: &Path) -> Self {
        let path = target.to_owned();
        match self {
            Self::System { source, .. } => Self::Files { path, source },
            Self::Owner { source, .. } => Self::Owner { path, source },
            other => other,
        }
    }
}

/// The outcome of [`Target::write`]. It depends on the versions of the files and not on their contents, because it is
/// logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The last call wrote files of the same versions.
    Unchanged,
    /// The first complete version was written.
    First,
    /// The paths of files that were added or removed, or have another version. If the directory has files of an earlier
    /// process, whose versions are unknown, the paths of all files.
    Changed(BTreeSet<String>),
}

/// A target directory, locked by this process.
#[derive(Debug)]
pub struct Target {
    directory: Directory,
    owner: Option<Owner>,
    /// The versions of the files that this process wrote last.
    versions: Option<Versions>,
}

/// The files to write, by path.
type WantedFiles<'a> = BTreeMap<&'a str, &'a DeliveredFile>;

/// The entries of a target directory.
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
    /// Opens and locks the directory, and removes the leftovers of a killed process.
    ///
    /// # Errors
    ///
    /// Fails if the directory does not exist, is managed by another program, or is locked by another agent.
    pub fn open(path: &Path, owner: Option<Owner>) -> Result<Self, TargetError> {
        let directory = Directory::open(path)?;
        if !directory.lock()? {
            return Err(TargetError::Locked(path.to_owned()));
        }
        let target = Self {
            directory,
            owner,
            versions: None,
        };
        target.clean_up()?;
        Ok(target)
    }

    /// Returns whether the directory has a complete version. Takes no lock.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be listed, or is managed by another program.
    pub fn is_complete(path: &Path) -> Result<bool, TargetError> {
        Ok(Entries::list(&Directory::open(path)?)?.current().is_some())
    }

    /// Returns whether the file system keeps its files in memory. Otherwise values may reach a disk.
    pub fn is_in_memory(&self) -> bool {
        self.directory.is_in_memory()
    }

    /// Replaces all files if a version changed, or if another program changed the directory.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be written, or another program created a file of the same name. Even then, either all old
    /// or all new files are in place.
    pub fn write(&mut self, files: &[DeliveredFile]) -> Result<WriteOutcome, TargetError> {
        let wanted: WantedFiles<'_> = files
            .iter()
            .map(|file| (file.path.as_str(), file))
            .collect();
        self.clean_up()?;
        let entries = Entries::list(&self.directory)?;
        let top_names = top_level_names(files);
        if let Some(name) = top_names
            .iter()
            .find(|name| entries.is_created_by_other(name))
        {
            return Err(TargetError::Exists(self.directory.path().join(name)));
        }
        let versions = Versions::of(files);
        let outcome = self.outcome(&entries, &versions);
        let is_unchanged = outcome == WriteOutcome::Unchanged;
        if !(is_unchanged && entries.links == top_names && self.has_files(&entries, &wanted)) {
            let replaced = self.replace(&entries, &wanted, &top_names);
            replaced.map_err(|error| error.without_file(self.directory.path()))?;
        }
        self.versions = Some(versions);
        Ok(outcome)
    }

    /// Returns the outcome of writing files of these versions.
    fn outcome(&self, entries: &Entries, versions: &Versions) -> WriteOutcome {
        let changed = match &self.versions {
            Some(old) => versions.changed_since(old),
            None if entries.current().is_none() => return WriteOutcome::First,
            None => return WriteOutcome::Changed(versions.paths()),
        };
        if changed.is_empty() {
            WriteOutcome::Unchanged
        } else {
            WriteOutcome::Changed(changed)
        }
    }

    /// Returns whether the current version has exactly these files.
    fn has_files(&self, entries: &Entries, wanted: &WantedFiles<'_>) -> bool {
        let version = entries.current().map(|name| self.directory.child(name));
        let Some(Ok(version)) = version else {
            return false;
        };
        tree::has_files(&version, wanted, self.owner)
    }

    fn replace(
        &self,
        entries: &Entries,
        wanted: &WantedFiles<'_>,
        top_names: &BTreeSet<String>,
    ) -> Result<(), TargetError> {
        let name = new_version_name();
        self.write_version(&name, wanted)?;
        self.publish(&name, entries, top_names)
    }

    fn write_version(&self, name: &str, wanted: &WantedFiles<'_>) -> Result<(), TargetError> {
        let version = self.directory.child_or_new(name)?;
        for file in wanted.values() {
            tree::write(&version, file, self.owner)?;
        }
        version.sync()
    }

    /// Makes a complete version the current version. Links to new files dangle until `..data` is replaced, and links to
    /// removed files dangle afterwards.
    fn publish(
        &self,
        version: &str,
        entries: &Entries,
        top_names: &BTreeSet<String>,
    ) -> Result<(), TargetError> {
        for name in top_names.difference(&entries.links) {
            self.directory.link(&link_target(name), name)?;
        }
        self.directory.link(version, NEXT_DATA)?;
        self.directory.sync()?;
        self.directory.rename(NEXT_DATA, DATA)?;
        self.directory.sync()?;
        let mut stale = entries.links.difference(top_names);
        stale.try_for_each(|name| self.directory.remove(name))
    }

    /// Removes former and unfinished versions, `NEXT_DATA`, and dangling links.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be listed or is managed by another program, or if an entry cannot be removed.
    pub fn clean_up(&self) -> Result<(), TargetError> {
        let entries = Entries::list(&self.directory)?;
        if entries.has_next_data {
            self.directory.remove(NEXT_DATA)?;
        }
        for name in self.dangling_links(&entries)? {
            self.directory.remove(name)?;
        }
        let current = entries.current();
        let versions = entries.versions.iter();
        let mut former = versions.filter(|version| Some(version.as_str()) != current);
        former.try_for_each(|version| tree::remove(&self.directory, version.as_ref()))
    }

    fn dangling_links<'a>(&self, entries: &'a Entries) -> Result<Vec<&'a String>, TargetError> {
        let present: BTreeSet<OsString> = match entries.current() {
            Some(version) => {
                let entries = self.directory.child(version)?.entries()?;
                entries.into_iter().map(|(name, _)| name).collect()
            }
            None => BTreeSet::new(),
        };
        let is_dangling = |name: &&String| !present.contains(OsStr::new(name.as_str()));
        Ok(entries.links.iter().filter(is_dangling).collect())
    }
}

impl Entries {
    fn list(directory: &Directory) -> Result<Self, TargetError> {
        let mut entries = Self::default();
        for (name, kind) in directory.entries()? {
            entries.add(directory, name, kind);
        }
        let is_other = |name: &str| entries.others.contains(OsStr::new(name));
        if is_other(DATA) || is_other(NEXT_DATA) {
            return Err(TargetError::Managed(directory.path().to_owned()));
        }
        Ok(entries)
    }

    fn add(&mut self, directory: &Directory, name: OsString, kind: FileType) {
        let target = directory.link_target(&name);
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

    fn is_created_by_other(&self, name: &str) -> bool {
        self.others.contains(OsStr::new(name))
    }
}

/// Returns the first component of each path; each becomes a link in the target directory.
fn top_level_names(files: &[DeliveredFile]) -> BTreeSet<String> {
    let top_names = files
        .iter()
        .filter_map(|file| file.path.components().next());
    top_names.map(str::to_owned).collect()
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

/// Returns the name of a new version: the time, so that people can tell versions apart, and a random number.
fn new_version_name() -> String {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = time.unwrap_or_default().as_secs();
    format!("{VERSION_PREFIX}{seconds}.{:08x}", crate::random::number())
}

/// Replaces one file atomically, outside a target directory.
///
/// # Errors
///
/// Fails if the path has no UTF-8 file name, or the file cannot be written. The temporary file is then removed, and the
/// old content stays, unless only the final sync of the directory failed.
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
    let directory = Directory::open(parent.unwrap_or(Path::new(".")))?;
    let next = format!("..{name}_next");
    // A killed process may have left the temporary file behind.
    directory.remove(&next)?;
    let replaced = directory
        .write_new(&next, bytes, mode, owner)
        .and_then(|()| directory.rename(&next, name));
    if replaced.is_err() {
        // The temporary file can contain values. Only the first error is returned.
        let _ = directory.remove(&next);
    }
    replaced?;
    directory.sync()
}

#[cfg(test)]
mod tests;
