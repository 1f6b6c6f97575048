//! Records which directory last contained manifests, also across restarts. This distinguishes the empty mount point of
//! an unmounted directory from a directory whose manifests were all removed.

use crate::files::{Directory, FileError, OpenEntry};
use crate::poll::Listing;

/// The name of the marker file in `status`. It cannot collide with a namespace, since no namespace begins with a dot.
const MARKER_FILE: &str = ".sealed-folder";

/// The device and inode number of the directory that last contained manifests; `None` if no manifest was ever found.
#[derive(Debug, Default)]
pub(super) struct ManifestDirectory(Option<(u64, u64)>);

impl ManifestDirectory {
    /// Reads the marker file of an earlier process. An unreadable file counts as missing.
    pub(super) fn read(statuses: &Directory) -> Self {
        let bytes = statuses.open_file(MARKER_FILE).and_then(OpenEntry::read);
        Self(bytes.ok().and_then(|bytes| parse_identity(&bytes)))
    }

    /// Returns whether the listed directory is empty and is not the directory that last contained manifests.
    pub(super) fn is_another_empty_directory(&self, listing: &Listing) -> bool {
        listing.files.is_empty() && self.0 != Some(listing.directory)
    }

    /// Records the listed directory if it contains manifests. Returns whether the recorded directory changed.
    pub(super) fn record(&mut self, listing: &Listing) -> bool {
        let current = Some(listing.directory).filter(|_| !listing.files.is_empty());
        let is_changed = current.is_some() && current != self.0;
        self.0 = current.or(self.0);
        is_changed
    }

    /// Writes the marker file, from which later processes read the identity of the directory.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error. The caller can ignore it: without a marker file, the controller removes no
    /// Secret because of an empty directory.
    pub(super) fn write(&self, statuses: &Directory) -> Result<(), FileError> {
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
        let directory = (1, inode);
        let stamp = Directory::open("/".as_ref()).unwrap().stamp().unwrap();
        let files = files.iter().map(|file| (file.into(), stamp)).collect();
        Listing {
            directory,
            files,
            ..Listing::default()
        }
    }

    #[test]
    fn an_empty_directory_is_accepted_only_if_it_contained_manifests_before() {
        let dir = tempfile::tempdir().unwrap();
        let statuses = Directory::open(dir.path()).unwrap();
        let mut directory = ManifestDirectory::read(&statuses);
        assert!(
            directory.is_another_empty_directory(&listing(7, &[])),
            "no manifest was ever found"
        );
        assert!(!directory.record(&listing(7, &[])));
        assert!(
            directory.is_another_empty_directory(&listing(7, &[])),
            "an empty directory is not recorded"
        );
        assert!(directory.record(&listing(7, &["a.yaml"])));
        assert!(
            !directory.record(&listing(7, &["a.yaml"])),
            "the directory is recorded only once"
        );
        directory.write(&statuses).unwrap();
        for directory in [directory, ManifestDirectory::read(&statuses)] {
            assert!(!directory.is_another_empty_directory(&listing(7, &[])));
            assert!(directory.is_another_empty_directory(&listing(8, &[])));
            assert!(!directory.is_another_empty_directory(&listing(8, &["a.yaml"])));
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
