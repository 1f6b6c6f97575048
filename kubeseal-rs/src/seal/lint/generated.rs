//! Checks files that a `secretGenerator` of kustomize reads. They are not manifests, so the search for manifests does
//! not find them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kubeseal_library::bounded::Kind;
use kubeseal_library::files;
use kubeseal_library::git::{self, Repository, StagedLinks};
use shared::manifest::Node;
use zeroize::Zeroizing;

use super::object::Found;
use super::patch;
use super::plain::{self, FileForm};
use crate::report::ShowPath as _;

/// The files that generators name. A file may be named many times, but is read once.
#[derive(Default)]
pub(super) struct GeneratedFiles {
    /// The keys of plaintext values by path and form of the file.
    plain: BTreeMap<(PathBuf, FileForm), Vec<String>>,
    trees: Trees,
}

/// The repository of the last file, because most files of a generator are in one folder.
#[derive(Default)]
struct Trees {
    last: Option<(PathBuf, Option<Repository>)>,
}

impl GeneratedFiles {
    /// Returns a finding for each file with plain values that a generator of a document names. The author of the
    /// document chooses the names, so only regular files of the same tree are read. Files that Git ignores are skipped,
    /// because they are not committed.
    pub(super) fn findings(
        &mut self,
        root: &Node,
        manifest: &Path,
        staged: Option<&StagedLinks<'_>>,
    ) -> Vec<Found> {
        let Self { plain, trees } = self;
        let mut finding = |folder: &Path, file: &plain::GeneratorFile<'_>| {
            let path = folder.join(file.path);
            let shown = files::from_here(&path).shown();
            let plain = plain
                .entry((path, file.form))
                .or_insert_with_key(|(path, _)| {
                    let bytes = match staged {
                        Some(links) => staged_content(links, folder, file.path),
                        None => trees.read(path, manifest),
                    };
                    plain_keys(&bytes.unwrap_or_default(), file.form)
                });
            plain::generator_file(file, &shown, plain)
        };
        let mut findings = Vec::new();
        for folder in plain::base_folders(root, manifest) {
            let files = plain::generator_files(root);
            findings.extend(files.iter().filter_map(|file| finding(folder, file)));
        }
        findings
    }
}

/// Returns the staged content of a file, by its name relative to a folder, through links as they are staged.
fn staged_content(
    links: &StagedLinks<'_>,
    folder: &Path,
    name: &str,
) -> Option<Zeroizing<Vec<u8>>> {
    let repository = links.repository();
    // The name of any file in the folder: the root alone has no path inside the work tree.
    let file = repository.inside_work_tree(&folder.join("file"))?;
    let folder = repository.root().join(file.parent()?);
    let target = links.route(&folder.join(name)).target?;
    repository.staged_content(&target).ok()
}

/// Returns the keys of the plaintext values in a file. The key of a file that is one value is not known here.
fn plain_keys(bytes: &[u8], form: FileForm) -> Vec<String> {
    match form {
        FileForm::Value => {
            let is_plain = plain::is_plain_file(bytes);
            is_plain.then(String::new).into_iter().collect()
        }
        FileForm::Variables => plain::plain_variables(bytes),
        FileForm::Patch => patch::plain_keys(bytes),
    }
}

impl Trees {
    /// Returns the content of a regular file in the tree of a manifest, unless Git ignores it. Without Git, the tree is
    /// the current folder, if it contains the manifest, or else the folder of the manifest.
    fn read(&mut self, path: &Path, manifest: &Path) -> Option<Zeroizing<Vec<u8>>> {
        let folder = manifest.parent().unwrap_or(Path::new(""));
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let folder = folder.canonicalize().ok()?;
        let path = path.canonicalize().ok()?;
        let tree = git::work_tree(&folder).or_else(|| {
            let current = std::env::current_dir().ok()?.canonicalize().ok()?;
            folder.starts_with(&current).then_some(current)
        });
        let tree = tree.unwrap_or(folder);
        if !path.starts_with(&tree) || self.ignores(&path) {
            return None;
        }
        files::read_regular(&path, Kind::Value.limit()).ok()
    }

    /// Returns whether Git ignores a file; `false` if the repository cannot be read.
    fn ignores(&mut self, file: &Path) -> bool {
        let parent = file.parent().unwrap_or(Path::new("/"));
        let last = self.last.take().filter(|(folder, _)| folder == parent);
        let open = || (parent.to_owned(), Repository::discover(parent).ok());
        let (_, repository) = self.last.insert(last.unwrap_or_else(open));
        let is_ignored = |repository: &Repository| repository.is_ignored(file).unwrap_or(false);
        repository.as_ref().is_some_and(is_ignored)
    }
}
