//! Records which directory last contained manifests, also across restarts. This distinguishes the empty mount point of
//! an unmounted directory from a directory whose manifests were all removed.

use crate::folder::{FileError, Folder, OpenEntry};
use crate::poll::Listing;

/// The name of the marker file in `status`. It cannot collide with a namespace, since no namespace begins with a dot.
const MARKER_FILE: &str = ".sealed-folder";

/// The device and inode number of the folder that last contained manifests; `None` if no manifest was ever found.
#[derive(Debug, Default)]
pub(super) struct ManifestFolder(Option<(u64, u64)>);

impl ManifestFolder {
    /// Reads the marker file of an earlier process. An unreadable file counts as missing.
    pub(super) fn read(statuses: &Folder) -> Self {
        let bytes = statuses.open_file(MARKER_FILE).and_then(OpenEntry::read);
        Self(bytes.ok().and_then(|bytes| parse_identity(&bytes)))
    }

    /// Returns whether the listed folder is empty and is not the folder that last contained manifests.
    pub(super) fn is_another_empty_folder(&self, listing: &Listing) -> bool {
        listing.files.is_empty() && self.0 != Some(listing.folder)
    }

    /// Records the listed folder if it contains manifests. Returns whether the recorded folder changed.
    pub(super) fn record(&mut self, listing: &Listing) -> bool {
        let current = Some(listing.folder).filter(|_| !listing.files.is_empty());
        let is_changed = current.is_some() && current != self.0;
        self.0 = current.or(self.0);
        is_changed
    }

    /// Writes the marker file, from which later processes read the identity of the folder.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error. The caller can ignore it: without a marker file, the controller removes no
    /// Secret because of an empty folder.
    pub(super) fn write(&self, statuses: &Folder) -> Result<(), FileError> {
        let Some((device, inode)) = self.0 else {
            return Ok(());
        };
        statuses.replace(MARKER_FILE, format!("{device} {inode}\n").as_bytes())
    }
}

fn parse_identity(marker: &[u8]) -> Option<(u64, u64)> {
    let (device, inode) = std::str::from_utf8(marker)
        .ok()?
        .trim_end()
        .split_once(' ')?;
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
    fn an_empty_directory_is_accepted_only_if_it_contained_manifests_before() {
        let dir = tempfile::tempdir().unwrap();
        let statuses = Folder::open(dir.path()).unwrap();
        let mut folder = ManifestFolder::read(&statuses);
        assert!(
            folder.is_another_empty_folder(&listing(7, &[])),
            "no manifest was ever found"
        );
        assert!(!folder.record(&listing(7, &[])));
        assert!(
            folder.is_another_empty_folder(&listing(7, &[])),
            "an empty folder is not recorded"
        );
        assert!(folder.record(&listing(7, &["a.yaml"])));
        assert!(
            !folder.record(&listing(7, &["a.yaml"])),
            "the folder is recorded only once"
        );
        folder.write(&statuses).unwrap();
        for folder in [folder, ManifestFolder::read(&statuses)] {
            assert!(!folder.is_another_empty_folder(&listing(7, &[])));
            assert!(folder.is_another_empty_folder(&listing(8, &[])));
            assert!(!folder.is_another_empty_folder(&listing(8, &["a.yaml"])));
        }
    }

    #[test]
    fn ignores_an_invalid_marker_file() {
        for marker in ["", "1", "a b", "1 2 3", "-1 2"] {
            assert_eq!(parse_identity(marker.as_bytes()), None, "{marker}");
        }
        assert_eq!(parse_identity(b"1 2\n"), Some((1, 2)));
    }
}
