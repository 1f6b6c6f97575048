//! Follows symbolic links of the index or of a commit. Links in the work tree can differ or be missing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::index::entry::Mode;

use zeroize::Zeroizing;

use super::commits::CommitTree;
use super::{GitError, Repository, to_path};

/// The maximum number of links that are followed in a path. Symlink loops end here.
const MAX_LINKS: usize = 16;

/// The length limit for the target of a link, as on Linux. A blob could hold millions of components.
const MAX_TARGET: usize = 4096;

/// The symbolic links of the index, or of a commit.
pub struct StagedLinks<'a> {
    repository: &'a Repository,
    /// The blobs with the targets, by path from the root.
    blobs: BTreeMap<PathBuf, ObjectId>,
}

/// The files that a path reaches through symbolic links.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The absolute paths of the links, in order.
    pub links: Vec<PathBuf>,
    /// The absolute path of the file, which need not exist. `None` if the path leads out of the repository, or if there
    /// are too many links.
    pub target: Option<PathBuf>,
}

impl Route {
    /// Returns the links and the target.
    pub fn all_paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.links.iter().chain(&self.target)
    }
}

impl Repository {
    /// Reads the symbolic links of the index.
    ///
    /// # Errors
    ///
    /// Fails if the index, or a tree that a sparse index names, cannot be read.
    pub fn staged_links(&self) -> Result<StagedLinks<'_>, GitError> {
        let mut blobs = BTreeMap::new();
        self.visit_index(&mut |path, entry, _| {
            if entry.mode == Mode::SYMLINK {
                blobs.insert(to_path(path), entry.id);
            }
        })?;
        Ok(StagedLinks {
            repository: self,
            blobs,
        })
    }
}

impl Repository {
    /// Returns the content of a file in a commit, at a path from the root that may contain `..` and symbolic links;
    /// `None` if there is no such file, or the path leads out of the repository.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, or the file was never fetched.
    pub fn file_through_links(
        &self,
        tree: &CommitTree,
        path: &Path,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, GitError> {
        let links = StagedLinks {
            repository: self,
            blobs: tree.links.clone(),
        };
        let route = follow(&self.root.join(path), &|path| links.target(path));
        let target = route.target.and_then(|target| {
            let inside = target.strip_prefix(&self.root).ok()?;
            Some(inside.to_owned())
        });
        let is_target =
            |(path, _): &&(String, ObjectId)| Some(Path::new(path)) == target.as_deref();
        let file = tree.files.iter().find(is_target);
        file.map(|(_, id)| self.blob(*id)).transpose()
    }
}

impl<'a> StagedLinks<'a> {
    /// Returns the repository that contains the links.
    pub fn repository(&self) -> &'a Repository {
        self.repository
    }

    /// Returns the absolute paths of all links.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.blobs
            .keys()
            .map(|path| self.repository.root.join(path))
    }

    /// Follows the links in an absolute path. As in kustomize, `..` in the path itself removes the component before it,
    /// even if that is a link.
    pub fn route(&self, path: &Path) -> Route {
        let mut route = follow(&normalize(path), &|path| self.target(path));
        let is_inside = |target: &PathBuf| target.starts_with(&self.repository.root);
        route.target = route.target.filter(is_inside);
        route
    }

    fn target(&self, link: &Path) -> Option<PathBuf> {
        let path = link.strip_prefix(&self.repository.root).ok()?;
        let bytes = self.repository.blob(*self.blobs.get(path)?).ok()?;
        if bytes.len() > MAX_TARGET {
            return None;
        }
        Some(to_path(bytes.as_slice().as_bstr()))
    }
}

/// Follows the links in an absolute path. `target_of` returns the target of a link, and `None` for other paths.
fn follow(path: &Path, target_of: &dyn Fn(&Path) -> Option<PathBuf>) -> Route {
    let mut route = Route::default();
    let mut followed = PathBuf::new();
    let mut rest = reversed_components(path);
    while let Some(component) = rest.pop() {
        match component.to_str() {
            Some(".") => continue,
            Some("..") => drop(followed.pop()),
            _ => followed.push(component),
        }
        let Some(target) = target_of(&followed) else {
            continue;
        };
        if route.links.len() == MAX_LINKS {
            return route;
        }
        route.links.push(followed.clone());
        followed.pop();
        rest.extend(reversed_components(&target));
    }
    route.target = Some(followed);
    route
}

fn reversed_components(path: &Path) -> Vec<OsString> {
    let components = path.components().rev();
    components.map(|c| c.as_os_str().to_owned()).collect()
}

/// Returns a path without `.` and `..`. Does not access the file system.
fn normalize(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(normalized.pop()),
            other => normalized.push(other),
        }
    }
    normalized
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn route_of(path: &str) -> (usize, Option<String>) {
        let target_of = |path: &Path| {
            let target = match path.to_str()? {
                "/r/a/link" => "file",
                "/r/a/chain" => "link",
                "/r/directory" => "a",
                "/r/a/up" => "../b/./file",
                "/r/a/absolute" => "/r/directory/link",
                "/r/a/out" => "../../etc/passwd",
                "/r/circle" => "circle",
                "/r/a/mutual" => "../a/mutual2",
                "/r/a/mutual2" => "mutual",
                _ => return None,
            };
            Some(PathBuf::from(target))
        };
        let route = follow(Path::new(path), &target_of);
        let target = route.target.map(|target| target.display().to_string());
        (route.links.len(), target)
    }

    #[test]
    fn follows_links_to_files_and_directories() {
        for (path, links, target) in [
            ("/r/a/file", 0, "/r/a/file"),
            ("/r/a/link", 1, "/r/a/file"),
            ("/r/a/chain", 2, "/r/a/file"),
            ("/r/directory/file", 1, "/r/a/file"),
            ("/r/directory/chain", 3, "/r/a/file"),
            ("/r/a/up", 1, "/r/b/file"),
            ("/r/a/absolute", 3, "/r/a/file"),
            ("/r/a/out", 1, "/etc/passwd"),
        ] {
            assert_eq!(route_of(path), (links, Some(target.to_owned())), "{path}");
        }
    }

    /// Attack: a committer adds symbolic links that form a loop, so that the hook never ends.
    #[test]
    fn stops_at_symlink_loops() {
        for path in ["/r/circle", "/r/a/mutual", "/r/circle/x"] {
            assert_eq!(route_of(path), (MAX_LINKS, None), "{path}");
        }
    }
}
