//! The folder with an object's values, updated in the same way as a volume by a kubelet:
//!
//! ```text
//! secrets/<namespace>/<name>/          0700
//!     ..v4f1d…/                        0700, one version
//!         username  password           0600
//!     ..data   -> ..v4f1d…             swapped by one rename
//!     username -> ..data/username
//!     password -> ..data/password
//! ```
//!
//! For a reader that uses open(2), a crash at any time leaves the old or the new values and never a mix: the
//! new version is complete and durable before `..data` points to it, links to new items dangle until then,
//! and links to dropped items dangle from then on. A dangling name counts as absent.
//!
//! The old version stays for a moment: an open(2) that has already followed `..data` still finds its file. A
//! later [`Values::tidy`] removes it, together with what killed processes left behind.

use std::collections::BTreeMap;
use std::ffi::OsString;

use rustix::fs::FileType;
use shared::plain::Plain;
use zeroize::Zeroizing;

use super::names::is_item;
use super::prints::Print;
use crate::folder::{FileError, Folder};

const DATA: &str = "..data";
/// The link that is renamed to [`DATA`].
const NEXT_DATA: &str = "..data_next";
/// Name prefix of versions, followed by 16 hexadecimal digits. The names of a kubelet's versions begin with a
/// year.
const VERSION_PREFIX: &str = "..v";

/// What created the files in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The folder is empty.
    Nobody,
    /// The controller.
    Us,
    /// Another program.
    Other,
}

/// An object's folder, with its entries sorted by what created them.
#[derive(Debug)]
pub(super) struct Values {
    folder: Folder,
    /// The version that `..data` points to, if the controller created it.
    current: Option<String>,
    /// All versions, including the current one.
    versions: Vec<String>,
    /// Items with a link that the controller created.
    links: Vec<String>,
    has_next_data: bool,
    has_data: bool,
    foreign: Vec<OsString>,
}

impl Values {
    /// Lists a folder.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder cannot be listed.
    pub(super) fn of(folder: Folder) -> Result<Self, FileError> {
        let mut values = Self {
            folder,
            current: None,
            versions: Vec::new(),
            links: Vec::new(),
            has_next_data: false,
            has_data: false,
            foreign: Vec::new(),
        };
        for (name, kind) in values.folder.entries()? {
            values.sort(name, kind);
        }
        Ok(values)
    }

    fn sort(&mut self, name: OsString, kind: FileType) {
        let Some(text) = name.to_str() else {
            return self.foreign.push(name);
        };
        let target = self.folder.link_target(text);
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
            _ => self.foreign.push(name),
        }
    }

    /// Returns what created the files. The folder is the controller's if the controller created anything in
    /// it, finished or not. Additional files of other programs stay untouched, but if another program created
    /// `..data`, the whole folder belongs to it.
    pub(super) fn owner(&self) -> Owner {
        let ours = self.has_data
            || self.has_next_data
            || !self.versions.is_empty()
            || !self.links.is_empty();
        if self.is_foreign(DATA) || self.is_foreign(NEXT_DATA) {
            Owner::Other
        } else if ours {
            Owner::Us
        } else if self.foreign.is_empty() {
            Owner::Nobody
        } else {
            Owner::Other
        }
    }

    /// Returns whether there is anything for [`Self::tidy`] to remove.
    ///
    /// # Errors
    ///
    /// Returns an error if the current version cannot be listed.
    pub(super) fn is_untidy(&self) -> Result<bool, FileError> {
        let old = self.versions.len() > usize::from(self.current().is_some());
        Ok(self.has_next_data || old || !self.dangling()?.is_empty())
    }

    /// Returns the version that readers reach.
    fn current(&self) -> Option<&String> {
        self.current
            .as_ref()
            .filter(|version| self.versions.contains(version))
    }

    /// Returns the controller's links that lead to no file.
    fn dangling(&self) -> Result<Vec<&String>, FileError> {
        let items = match self.current() {
            Some(version) => self.folder.child(version)?.entries()?,
            None => Vec::new(),
        };
        let has_file = |link: &String| items.iter().any(|(name, _)| name == link.as_str());
        Ok(self.links.iter().filter(|link| !has_file(link)).collect())
    }

    fn is_foreign(&self, name: &str) -> bool {
        self.foreign.iter().any(|foreign| foreign == name)
    }

    /// Returns the values that a program can open by their names.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the controller's files cannot be read.
    pub(super) fn read(&self) -> Result<BTreeMap<String, Plain>, FileError> {
        let Some(version) = self.current() else {
            return Ok(BTreeMap::new());
        };
        let version = self.folder.child(version)?;
        let mut values = BTreeMap::new();
        for (name, _) in version.entries()? {
            let Some(name) = name.to_str() else { continue };
            let mut bytes: Zeroizing<Vec<u8>> = version.open_file(name)?.read()?;
            let plain = Plain::from(std::mem::take(&mut *bytes));
            if self.links.iter().any(|link| link == name) {
                values.insert(name.to_owned(), plain);
            }
        }
        Ok(values)
    }

    /// Returns the metadata that shows an edit of the values.
    ///
    /// # Errors
    ///
    /// Returns an error if the current version cannot be listed.
    pub(super) fn print(&self) -> Result<Print, FileError> {
        let mut files = BTreeMap::new();
        if let Some(version) = self.current() {
            let version = self.folder.child(version)?;
            for (name, _) in version.entries()? {
                let (stamp, _) = version.stat(&name)?;
                files.insert(name, stamp);
            }
        }
        Ok(Print {
            owner: self.owner(),
            version: self.current().cloned(),
            links: self.links.clone(),
            files,
        })
    }

    /// Replaces the values with these. `unique` names the version.
    ///
    /// # Errors
    ///
    /// Returns an error, with the old values in place; or with the new values in place, if a link to a
    /// dropped item cannot be removed.
    pub(super) fn write(
        self,
        values: &BTreeMap<String, Plain>,
        unique: u64,
    ) -> Result<(), FileError> {
        if let Some(item) = values.keys().find(|item| self.is_foreign(item)) {
            let path = self.folder.path().join(item);
            return Err(FileError::InTheWay { path });
        }
        let name = format!("{VERSION_PREFIX}{unique:016x}");
        self.write_version(&name, values)?;
        for item in values.keys().filter(|item| !self.links.contains(item)) {
            self.folder.link(&link_target(item), item)?;
        }
        self.folder.sync()?;
        self.folder.remove(NEXT_DATA)?;
        self.folder.link(&name, NEXT_DATA)?;
        self.folder.rename(NEXT_DATA, DATA)?;
        self.folder.sync()?;
        let stale = |link: &&String| !values.contains_key(*link);
        self.links
            .iter()
            .filter(stale)
            .try_for_each(|link| self.folder.remove(link))
    }

    fn write_version(&self, name: &str, values: &BTreeMap<String, Plain>) -> Result<(), FileError> {
        let version = self.folder.child_or_new(name)?;
        for (item, value) in values {
            version.write_new(item, value.expose())?;
        }
        version.sync()
    }

    /// Removes what no reader can reach: versions that `..data` does not point to, and dangling links.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the controller's files cannot be removed.
    pub(super) fn tidy(&self) -> Result<(), FileError> {
        for link in self.dangling()? {
            self.folder.remove(link)?;
        }
        if self.has_next_data {
            self.folder.remove(NEXT_DATA)?;
        }
        let old = self
            .versions
            .iter()
            .filter(|version| Some(*version) != self.current());
        for version in old {
            self.remove_version(version)?;
        }
        Ok(())
    }

    /// Removes everything that the controller created; all values disappear atomically. The folder itself is
    /// left to the caller.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the controller's files cannot be removed.
    pub(super) fn remove(&self) -> Result<(), FileError> {
        if self.has_data {
            self.folder.remove(DATA)?;
            self.folder.sync()?;
        }
        if self.has_next_data {
            self.folder.remove(NEXT_DATA)?;
        }
        for link in &self.links {
            self.folder.remove(link)?;
        }
        for version in &self.versions {
            self.remove_version(version)?;
        }
        self.folder.sync()
    }

    fn remove_version(&self, name: &str) -> Result<(), FileError> {
        let version = self.folder.child(name)?;
        for (item, _) in version.entries()? {
            version.remove(item)?;
        }
        self.folder.remove_folder_if_empty(name)
    }
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
