use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use shared::error_chain;

use crate::files::{Directory, FileError, Stamp};

/// Maximum nesting of directories. Deeper nesting is a mistake or an attack.
const MAX_DEPTH: usize = 64;
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Whether subdirectories are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only the directory itself.
    Flat,
    /// The directory and its subdirectories.
    Deep,
}

/// The manifests in a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Device and inode number of the directory itself.
    pub directory: (u64, u64),
    /// Manifests by path relative to the root.
    pub files: BTreeMap<PathBuf, Stamp>,
    /// Errors by path relative to the root.
    pub problems: BTreeMap<PathBuf, String>,
}

impl Listing {
    /// Returns whether the file may exist although the listing does not contain it: the file itself or a directory
    /// above it has a problem.
    pub fn may_contain(&self, path: &Path) -> bool {
        path.ancestors()
            .any(|ancestor| self.problems.contains_key(ancestor))
    }
}

/// Lists `*.yaml`, `*.yml` and `*.json` in the directory `top` of the root and, with [`Depth::Deep`], in its
/// subdirectories.
///
/// Omits names that begin with a dot: `.git`, an editor's swap file, a kubelet's `..data`. Follows links to manifests
/// and directories as [`Directory::open_beneath`] does. Links that are not followed and manifests that are not regular
/// files are reported as problems. A link to a file or directory that is already listed is omitted.
///
/// # Errors
///
/// Returns an error if `top` itself is missing or cannot be listed.
pub fn list(root: &Directory, top: &str, depth: Depth) -> Result<Listing, FileError> {
    let mut walk = Walk {
        root,
        depth,
        listing: Listing::default(),
        visited: BTreeSet::new(),
        links: Vec::new(),
    };
    let directory = Directory::try_from(root.open_beneath(Path::new(top))?)?;
    walk.listing.directory = directory.stamp()?.identity;
    walk.add_directory(&directory, Path::new(top))?;
    while let Some(link) = walk.links.pop() {
        if let Err(error) = walk.add_link(&link) {
            walk.listing.problems.insert(link, error_chain(&error));
        }
    }
    Ok(walk.listing)
}

struct Walk<'a> {
    root: &'a Directory,
    depth: Depth,
    listing: Listing,
    /// Identities of the files and directories listed so far.
    visited: BTreeSet<(u64, u64)>,
    /// Links are processed last, so that a file is listed by its own name if it has one in the directory.
    links: Vec<PathBuf>,
}

impl Walk<'_> {
    fn add_directory(&mut self, directory: &Directory, path: &Path) -> Result<(), FileError> {
        if !self.visited.insert(directory.stamp()?.identity) {
            return Ok(());
        }
        for (name, kind) in directory.entries()? {
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = path.join(&name);
            let result = match kind {
                FileType::Symlink => {
                    self.links.push(path.clone());
                    Ok(())
                }
                FileType::Directory => self.add_subdirectory(|| directory.child(&name), &path),
                _ if is_manifest(&name) => directory
                    .stat(&name)
                    .and_then(|(stamp, kind)| self.add_file(&path, stamp, kind)),
                _ => Ok(()),
            };
            if let Err(error) = result {
                self.listing.problems.insert(path, error_chain(&error));
            }
        }
        Ok(())
    }

    fn add_subdirectory(
        &mut self,
        open: impl FnOnce() -> Result<Directory, FileError>,
        path: &Path,
    ) -> Result<(), FileError> {
        match self.depth {
            Depth::Flat => Ok(()),
            Depth::Deep if path.components().count() > MAX_DEPTH => Err(FileError::TooDeep {
                path: self.root.path().join(path),
                max: MAX_DEPTH,
            }),
            Depth::Deep => self.add_directory(&open()?, path),
        }
    }

    fn add_file(&mut self, path: &Path, stamp: Stamp, kind: FileType) -> Result<(), FileError> {
        if kind != FileType::RegularFile {
            let path = self.root.path().join(path);
            return Err(FileError::NotRegular { path });
        }
        self.visited.insert(stamp.identity);
        self.listing.files.insert(path.to_owned(), stamp);
        Ok(())
    }

    fn add_link(&mut self, path: &Path) -> Result<(), FileError> {
        let opened = self.root.open_beneath(path)?;
        if opened.kind == FileType::Directory {
            return self.add_subdirectory(|| Directory::try_from(opened), path);
        }
        let name = path.file_name().unwrap_or_default();
        if is_manifest(name) && !self.visited.contains(&opened.stamp.identity) {
            return self.add_file(path, opened.stamp, opened.kind);
        }
        Ok(())
    }
}

fn is_manifest(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}
