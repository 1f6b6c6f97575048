//! The directory with the values of an object, which is updated like a volume of the kubelet:
//!
//! ```text
//! secrets/<namespace>/<name>/          0700
//!     ..v4f1d…/                        0700, one version
//!         username  password           0600
//!         ..mark                       0600, the mark of random values, if there are any
//!     ..data   -> ..v4f1d…             swapped by one rename
//!     username -> ..data/username
//!     password -> ..data/password
//! ```
//!
//! For a reader that uses open(2), a crash at any time leaves either the old or the new values: the new version is
//! complete and durable before `..data` points to it, links to new items dangle until then, and links to removed items
//! dangle afterwards. An item whose link dangles counts as absent.
//!
//! The old version is kept briefly, so that an open(2) that has already followed `..data` still finds its file. Later,
//! [`Values::clean_up`] removes the old version, together with leftovers of killed processes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use rustix::fs::FileType;
use shared::plain::Plain;
use zeroize::Zeroizing;

use super::directory_states::DirectoryState;
use super::names::is_item;
use crate::files::{Directory, FileError, OpenEntry};

const DATA: &str = "..data";
/// The link that is renamed to [`DATA`].
const NEXT_DATA: &str = "..data_next";
/// The name prefix of versions, followed by 16 hexadecimal digits. The names of the kubelet's versions begin with `..`
/// and a year.
const VERSION_PREFIX: &str = "..v";
/// The file in a version with the mark of its random values. It is not an item, and has no link.
const MARK: &str = "..mark";
/// Maximum nesting of directories that other programs put into a version. Each level needs an open file.
const MAX_DEPTH: usize = 64;

/// The creator of the files in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The directory is empty.
    None,
    /// The controller created at least one entry, and no other program created `..data` or `..data_next`.
    Controller,
    /// Another program created all entries, or `..data` or `..data_next`.
    Other,
}

/// The directory with an object's values. Its entries are grouped by whether the controller created them.
#[derive(Debug)]
pub(super) struct Values {
    directory: Directory,
    /// The version that `..data` points to, if the controller created it.
    current: Option<String>,
    /// All versions, including the current one.
    versions: Vec<String>,
    /// The items with a link that the controller created.
    links: Vec<String>,
    has_next_data: bool,
    has_data: bool,
    /// Files that the controller did not create.
    other_files: Vec<OsString>,
}

impl Values {
    /// Lists a directory.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be listed.
    pub(super) fn list(directory: Directory) -> Result<Self, FileError> {
        let mut values = Self {
            directory,
            current: None,
            versions: Vec::new(),
            links: Vec::new(),
            has_next_data: false,
            has_data: false,
            other_files: Vec::new(),
        };
        for (name, kind) in values.directory.entries()? {
            values.add_entry(name, kind);
        }
        Ok(values)
    }

    fn add_entry(&mut self, name: OsString, kind: FileType) {
        let Some(text) = name.to_str() else {
            return self.other_files.push(name);
        };
        let target = self.directory.link_target(text);
        let target = target.as_ref().and_then(|target| target.to_str());
        match (text, kind, target) {
            (DATA, FileType::Symlink, Some(version)) if is_version(version) => {
                self.has_data = true;
                self.current = Some(version.to_owned());
            }
            (NEXT_DATA, FileType::Symlink, Some(version)) if is_version(version) => {
                self.has_next_data = true;
            }
            (_, FileType::Directory, _) if is_version(text) => self.versions.push(text.to_owned()),
            (_, FileType::Symlink, Some(to)) if is_item(text) && to == link_target(text) => {
                self.links.push(text.to_owned());
            }
            _ => self.other_files.push(name),
        }
    }

    /// Returns the creator of the files. The directory belongs to the controller if the controller created any entry in
    /// it, even an unfinished one. Additional files of other programs are left unchanged, but if another program
    /// created `..data` or `..data_next`, the entire directory belongs to that program.
    pub(super) fn owner(&self) -> Owner {
        let is_by_controller = self.has_data
            || self.has_next_data
            || !self.versions.is_empty()
            || !self.links.is_empty();
        if self.is_other_file(DATA) || self.is_other_file(NEXT_DATA) {
            Owner::Other
        } else if is_by_controller {
            Owner::Controller
        } else if self.other_files.is_empty() {
            Owner::None
        } else {
            Owner::Other
        }
    }

    /// Returns whether [`Self::clean_up`] has anything to remove.
    ///
    /// # Errors
    ///
    /// Returns an error if the current version cannot be listed.
    pub(super) fn has_leftovers(&self) -> Result<bool, FileError> {
        let has_old_versions = self.versions.len() > usize::from(self.current().is_some());
        Ok(self.has_next_data || has_old_versions || !self.dangling_links()?.is_empty())
    }

    /// Returns the current version; `None` if it does not exist.
    fn current(&self) -> Option<&String> {
        self.current
            .as_ref()
            .filter(|version| self.versions.contains(version))
    }

    /// Returns the controller's links that do not lead to a file.
    fn dangling_links(&self) -> Result<Vec<&String>, FileError> {
        let items = match self.current() {
            Some(version) => self.directory.child(version)?.entries()?,
            None => Vec::new(),
        };
        let has_file = |link: &String| items.iter().any(|(name, _)| name == link.as_str());
        Ok(self.links.iter().filter(|link| !has_file(link)).collect())
    }

    fn is_other_file(&self, name: &str) -> bool {
        self.other_files.iter().any(|file| file == name)
    }

    /// Returns the values that a program can open by the names of their items. Omits files that another program removed
    /// or made unreadable (see [`FileError::shows_lost_value_file`]), so that this counts as an edit.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the controller's files cannot be read.
    pub(super) fn read(&self) -> Result<BTreeMap<String, Plain>, FileError> {
        let Some(version) = self.current() else {
            return Ok(BTreeMap::new());
        };
        let version = self.directory.child(version)?;
        let mut values = BTreeMap::new();
        for (name, _) in version.entries()? {
            let linked = self.links.iter().find(|link| name == link.as_str());
            let Some(name) = linked else { continue };
            let bytes = version.open_file(name).and_then(OpenEntry::read);
            let mut bytes: Zeroizing<Vec<u8>> = match bytes {
                Err(error) if error.shows_lost_value_file() => continue,
                bytes => bytes?,
            };
            values.insert(name.clone(), Plain::from(std::mem::take(&mut *bytes)));
        }
        Ok(values)
    }

    /// Returns the mark of the random values of the current version; `None` if it is missing or unreadable.
    pub(super) fn mark(&self) -> Option<String> {
        let version = self.directory.child(self.current()?).ok()?;
        let bytes = version.open_file(MARK).and_then(OpenEntry::read).ok()?;
        std::str::from_utf8(&bytes).ok().map(str::to_owned)
    }

    /// Returns the file metadata that shows an edit of the values.
    ///
    /// # Errors
    ///
    /// Returns an error if the current version cannot be listed.
    pub(super) fn directory_state(&self) -> Result<DirectoryState, FileError> {
        let mut files = BTreeMap::new();
        if let Some(version) = self.current() {
            let version = self.directory.child(version)?;
            for (name, _) in version.entries()? {
                let (stamp, _) = version.stat(&name)?;
                files.insert(name, stamp);
            }
        }
        Ok(DirectoryState {
            owner: self.owner(),
            version: self.current().cloned(),
            links: self.links.clone(),
            files,
        })
    }

    /// Replaces the values and the mark of the random values. `unique` is a number that becomes part of the name of the
    /// new version.
    ///
    /// # Errors
    ///
    /// Fails if an item has the name of another program's file, if a file cannot be written, or if a link cannot be
    /// removed. In each case, either all old or all new values are in place.
    pub(super) fn write(
        self,
        values: &BTreeMap<String, Plain>,
        mark: Option<&str>,
        unique: u64,
    ) -> Result<(), FileError> {
        if let Some(item) = values.keys().find(|item| self.is_other_file(item)) {
            let path = self.directory.path().join(item);
            return Err(FileError::AlreadyExists { path });
        }
        let name = format!("{VERSION_PREFIX}{unique:016x}");
        self.write_version(&name, values, mark)?;
        for item in values.keys().filter(|item| !self.links.contains(item)) {
            self.directory.link(&link_target(item), item)?;
        }
        self.directory.sync()?;
        self.directory.remove(NEXT_DATA)?;
        self.directory.link(&name, NEXT_DATA)?;
        self.directory.rename(NEXT_DATA, DATA)?;
        self.directory.sync()?;
        let is_stale = |link: &&String| !values.contains_key(*link);
        self.links
            .iter()
            .filter(is_stale)
            .try_for_each(|link| self.directory.remove(link))
    }

    fn write_version(
        &self,
        name: &str,
        values: &BTreeMap<String, Plain>,
        mark: Option<&str>,
    ) -> Result<(), FileError> {
        let version = self.directory.child_or_new(name)?;
        if let Some(mark) = mark {
            version.write_new(MARK, mark.as_bytes())?;
        }
        for (item, value) in values {
            version.write_new(item, value.expose())?;
        }
        version.sync()
    }

    /// Removes files that readers cannot reach: versions that `..data` does not point to, dangling links, and an unused
    /// `..data_next`.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the controller's files cannot be removed.
    pub(super) fn clean_up(&self) -> Result<(), FileError> {
        for link in self.dangling_links()? {
            self.directory.remove(link)?;
        }
        if self.has_next_data {
            self.directory.remove(NEXT_DATA)?;
        }
        let old_versions = self
            .versions
            .iter()
            .filter(|version| Some(*version) != self.current());
        for version in old_versions {
            self.remove_version(version)?;
        }
        Ok(())
    }

    /// Removes all entries that the controller created. All values disappear atomically. Does not remove the directory
    /// itself.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the controller's files cannot be removed.
    pub(super) fn remove(&self) -> Result<(), FileError> {
        if self.has_data {
            self.directory.remove(DATA)?;
            self.directory.sync()?;
        }
        if self.has_next_data {
            self.directory.remove(NEXT_DATA)?;
        }
        for link in &self.links {
            self.directory.remove(link)?;
        }
        for version in &self.versions {
            self.remove_version(version)?;
        }
        self.directory.sync()
    }

    fn remove_version(&self, name: &str) -> Result<(), FileError> {
        remove_directory(&self.directory, name.as_ref(), 0)
    }
}

/// Removes a directory with its content, which can include directories of other programs.
fn remove_directory(parent: &Directory, name: &OsStr, depth: usize) -> Result<(), FileError> {
    let directory = parent.child(name)?;
    if depth > MAX_DEPTH {
        let (path, max) = (directory.path().to_owned(), MAX_DEPTH);
        return Err(FileError::TooDeep { path, max });
    }
    for (entry, kind) in directory.entries()? {
        match kind {
            FileType::Directory => remove_directory(&directory, &entry, depth + 1)?,
            _ => directory.remove(entry)?,
        }
    }
    parent.remove_directory_if_empty(name)
}

fn link_target(item: &str) -> String {
    format!("{DATA}/{item}")
}

fn is_version(name: &str) -> bool {
    let digits = name.strip_prefix(VERSION_PREFIX).unwrap_or_default();
    digits.len() == 16
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
