//! Finds the files that a kustomization names, such as resources, generators and patches, and whose names are not those
//! of manifests. kustomize reads them like manifests, whatever their names.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use kubeseal_library::git::StagedLinks;
use kubeseal_library::walk;
use shared::manifest::{Node, Value};
use zeroize::Zeroizing;

use super::generated::{self, Trees};

/// The maximum length of a path, as on Linux.
const MAX_PATH: usize = 4096;

/// A file that a kustomization names.
pub(super) struct NamedFile {
    /// The absolute path of the file.
    pub(super) path: PathBuf,
    /// The first kustomization that names it.
    pub(super) kustomization: PathBuf,
}

/// The files that kustomizations name. Each is read once.
#[derive(Default)]
pub(super) struct NamedFiles {
    seen: BTreeSet<PathBuf>,
    /// The files that were not read so far.
    waiting: VecDeque<NamedFile>,
    trees: Trees,
}

impl NamedFiles {
    /// Remembers the files that a kustomization names. Its author chooses the names, so only files of the same tree
    /// count.
    pub(super) fn add(
        &mut self,
        root: &Node,
        kustomization: &Path,
        staged: Option<&StagedLinks<'_>>,
    ) {
        let directory = kustomization.parent().unwrap_or(Path::new(""));
        let staged = staged.and_then(|links| {
            let directory = generated::staged_directory(links, directory)?;
            Some((links, directory))
        });
        for name in names(root) {
            let target = match &staged {
                Some((links, directory)) => links.route(&directory.join(name)).target,
                // Most strings are no paths, so the cheapest check comes first.
                None => Some(directory.join(name))
                    .filter(|path| path.is_file())
                    .and_then(|path| generated::target_in_tree(&path, kustomization)),
            };
            let is_new = |target: &PathBuf| {
                !walk::is_manifest_name(target) && self.seen.insert(target.clone())
            };
            self.waiting
                .extend(target.filter(is_new).map(|path| NamedFile {
                    path,
                    kustomization: kustomization.to_owned(),
                }));
        }
    }

    /// Returns the next file that is not read so far, with its content. Skips files that Git ignores, and all that are
    /// not regular files.
    pub(super) fn next(
        &mut self,
        staged: Option<&StagedLinks<'_>>,
    ) -> Option<(NamedFile, Zeroizing<Vec<u8>>)> {
        while let Some(file) = self.waiting.pop_front() {
            if let Some(bytes) = self.trees.read(&file.path, staged) {
                return Some((file, bytes));
            }
        }
        None
    }
}

/// Returns the strings in a kustomization that may be paths of files. Every string counts, because many fields name
/// files, and new ones are added. `files` of a generator may begin with a key.
pub(super) fn names(root: &Node) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    add_names(root, &mut names);
    names
}

fn add_names<'a>(node: &'a Node, names: &mut BTreeSet<&'a str>) {
    match &node.value {
        Value::Text(text) if text.len() <= MAX_PATH && !text.contains('\n') => {
            names.insert(text.as_str());
            names.extend(text.split_once('=').map(|(_, path)| path));
        }
        Value::List(items) => items.iter().for_each(|item| add_names(item, names)),
        Value::Map(fields) => fields.iter().for_each(|(_, node)| add_names(node, names)),
        _ => {}
    }
}
