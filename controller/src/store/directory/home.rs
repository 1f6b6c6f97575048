//! Remembers which folder contained manifests last, also across restarts. This distinguishes an empty mount
//! point, which is another folder, from a folder whose manifests were all removed.

use crate::folder::{FileError, Folder, Opened};
use crate::poll::Listing;

/// File in `status`. It cannot collide with a namespace, since none begins with a dot.
const FILE: &str = ".sealed-folder";

/// Device and inode number of the folder; `None` if no manifest was ever seen.
#[derive(Debug, Default)]
pub(super) struct Home(Option<(u64, u64)>);

impl Home {
    /// Reads the note of an earlier process. An unreadable note counts as missing.
    pub(super) fn read(statuses: &Folder) -> Self {
        let bytes = statuses.open_file(FILE).and_then(Opened::read);
        Self(bytes.ok().and_then(|bytes| identity(&bytes)))
    }

    /// Returns whether this folder is empty and not the one that contained manifests last.
    pub(super) fn is_elsewhere(&self, listing: &Listing) -> bool {
        listing.files.is_empty() && self.0 != Some(listing.folder)
    }

    /// Remembers the folder if it contains manifests. Returns whether it is another one than before.
    pub(super) fn see(&mut self, listing: &Listing) -> bool {
        let seen = Some(listing.folder).filter(|_| !listing.files.is_empty());
        let is_new = seen.is_some() && seen != self.0;
        self.0 = seen.or(self.0);
        is_new
    }

    /// Writes the note for later processes.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error. Without a note the controller removes less, not more.
    pub(super) fn write(&self, statuses: &Folder) -> Result<(), FileError> {
        let Some((device, inode)) = self.0 else {
            return Ok(());
        };
        statuses.replace(FILE, format!("{device} {inode}\n").as_bytes())
    }
}

fn identity(note: &[u8]) -> Option<(u64, u64)> {
    let (device, inode) = std::str::from_utf8(note).ok()?.trim_end().split_once(' ')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(inode: u64, files: &[&str]) -> Listing {
        let folder = (1, inode);
        let stamp = Folder::open("/".as_ref()).unwrap().stamp().unwrap();
        let files = files.iter().map(|file| (file.into(), stamp)).collect();
        Listing {
            folder,
            files,
            ..Listing::default()
        }
    }

    #[test]
    fn an_empty_folder_is_trusted_only_if_manifests_were_seen_in_it() {
        let outer = tempfile::tempdir().unwrap();
        let statuses = Folder::open(outer.path()).unwrap();
        let mut home = Home::read(&statuses);
        assert!(home.is_elsewhere(&listing(7, &[])), "none was ever seen");
        assert!(!home.see(&listing(7, &[])));
        assert!(home.is_elsewhere(&listing(7, &[])), "it tells nothing");
        assert!(home.see(&listing(7, &["a.yaml"])));
        assert!(!home.see(&listing(7, &["a.yaml"])), "it is noted once");
        home.write(&statuses).unwrap();
        for home in [home, Home::read(&statuses)] {
            assert!(!home.is_elsewhere(&listing(7, &[])));
            assert!(home.is_elsewhere(&listing(8, &[])));
            assert!(!home.is_elsewhere(&listing(8, &["a.yaml"])));
        }
    }

    #[test]
    fn a_note_that_is_none_counts_as_none() {
        for note in ["", "1", "a b", "1 2 3", "-1 2"] {
            assert_eq!(identity(note.as_bytes()), None, "{note}");
        }
        assert_eq!(identity(b"1 2\n"), Some((1, 2)));
    }
}
