//! Checks files that a `secretGenerator` of kustomize reads, and patches of Secrets. Most are not manifests, so the
//! search for manifests does not find them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kubeseal_library::bounded::Kind;
use kubeseal_library::files;
use kubeseal_library::git::{self, Repository, StagedLinks};
use shared::manifest::Node;
use zeroize::Zeroizing;

use super::object::FindingInFile;
use super::patch;
use super::plain::{self, FileForm, GeneratorFile, PlainKeys};
use crate::report::ShowPath as _;

/// The files that generators and patches name. A file may be named many times, under different names, but is read once
/// in each form.
#[derive(Default)]
pub(super) struct GeneratedFiles {
    /// The keys of plaintext values, by target file and its form.
    plain: BTreeMap<(PathBuf, FileForm), PlainKeys>,
    trees: Trees,
}

/// The repository of the last file, because most files of a generator are in one directory.
#[derive(Default)]
pub(super) struct Trees {
    last: Option<(PathBuf, Option<Repository>)>,
}

impl GeneratedFiles {
    /// Returns a finding for each file that contains plain values and is named by a generator or by a patch of a Secret
    /// in the document. The author of the document chooses the names, so only regular files of the same tree are read.
    /// Files that Git ignores are skipped, because they are not committed.
    pub(super) fn findings(
        &mut self,
        root: &Node,
        manifest: &Path,
        staged: Option<&StagedLinks<'_>>,
    ) -> Vec<FindingInFile> {
        let mut findings = Vec::new();
        for directory in plain::base_directories(root, manifest) {
            let files = plain::generator_files(root);
            let finding = |file: &GeneratorFile<'_>| {
                let target = match staged {
                    Some(links) => staged_target(links, directory, file.path)?,
                    None => target_in_tree(&directory.join(file.path), manifest)?,
                };
                let shown =
                    files::relative_to_current_directory(&directory.join(file.path)).shown();
                plain::generator_file(file, &shown, self.plain_keys(target, file.form, staged))
            };
            findings.extend(files.iter().filter_map(finding));
        }
        findings
    }

    /// Returns the keys of the plaintext values in a file. The key of a file that is one value is unknown here.
    fn plain_keys(
        &mut self,
        target: PathBuf,
        form: FileForm,
        staged: Option<&StagedLinks<'_>>,
    ) -> &PlainKeys {
        let Self { plain, trees } = self;
        plain
            .entry((target, form))
            .or_insert_with_key(|(target, _)| {
                let bytes = trees.read(target, staged).unwrap_or_default();
                match form {
                    FileForm::Value => {
                        PlainKeys::of(plain::is_plain_file(&bytes).then_some("").into_iter())
                    }
                    FileForm::Variables => plain::plain_variables(&bytes),
                    FileForm::Patch => patch::plain_keys(&bytes),
                }
            })
    }
}

/// Returns the target of a name relative to a directory. Follows symbolic links as they are staged.
fn staged_target(links: &StagedLinks<'_>, directory: &Path, name: &str) -> Option<PathBuf> {
    let directory = staged_directory(links, directory)?;
    links.route(&directory.join(name)).target
}

/// Returns the absolute path of a directory in the work tree of the index.
pub(super) fn staged_directory(links: &StagedLinks<'_>, directory: &Path) -> Option<PathBuf> {
    let repository = links.repository();
    // Use a file name in the directory, because the root itself has no path inside the work tree.
    let file = repository.path_in_work_tree(&directory.join("file"))?;
    Some(repository.root().join(file.parent()?))
}

/// Returns the target of a path, if it is in the tree of the manifest. Without Git, the tree is the current directory,
/// if it contains the manifest, or else the directory of the manifest.
pub(super) fn target_in_tree(path: &Path, manifest: &Path) -> Option<PathBuf> {
    let directory = manifest.parent().unwrap_or(Path::new(""));
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let directory = directory.canonicalize().ok()?;
    let target = path.canonicalize().ok()?;
    let tree = git::work_tree(&directory).or_else(|| {
        let current = std::env::current_dir().ok()?.canonicalize().ok()?;
        directory.starts_with(&current).then_some(current)
    });
    target
        .starts_with(tree.unwrap_or(directory))
        .then_some(target)
}

impl Trees {
    /// Returns the content of a regular file, as staged or of the work tree. `None` if Git ignores the file, or it is
    /// too large.
    pub(super) fn read(
        &mut self,
        file: &Path,
        staged: Option<&StagedLinks<'_>>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        if let Some(links) = staged {
            return links.repository().staged_content(file).ok();
        }
        if self.ignores(file) {
            return None;
        }
        files::read_regular(file, Kind::Value.limit()).ok()
    }

    /// Returns whether Git ignores a file; `false` if the repository cannot be read.
    fn ignores(&mut self, file: &Path) -> bool {
        let parent = file.parent().unwrap_or(Path::new("/"));
        let last = self
            .last
            .take()
            .filter(|(directory, _)| directory == parent);
        let open = || (parent.to_owned(), Repository::discover(parent).ok());
        let (_, repository) = self.last.insert(last.unwrap_or_else(open));
        let is_ignored = |repository: &Repository| repository.is_ignored(file).unwrap_or(false);
        repository.as_ref().is_some_and(is_ignored)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use shared::manifest;

    use super::*;

    /// Attack: a committer adds many small kustomizations that name one file with thousands of variables, so that lint
    /// needs time and memory for each kustomization.
    #[test]
    fn a_file_that_many_kustomizations_name_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let variables = (0..1000).map(|n| format!("K{n}=hunter2\n"));
        fs::write(
            directory.path().join("a.env"),
            variables.collect::<String>(),
        )
        .unwrap();
        fs::create_dir(directory.path().join("b")).unwrap();
        let mut generated = GeneratedFiles::default();
        for n in 0..100 {
            // Without Git, the tree is the directory of the manifest.
            let manifest = directory.path().join(format!("{n}.yaml"));
            let text = "secretGenerator: [{envs: [a.env, b/.././a.env]}]";
            let documents = manifest::read(text.as_bytes()).unwrap();
            let findings = generated.findings(&documents[0].root, &manifest, None);
            assert_eq!(findings.len(), 2);
            assert!(findings[0].2.contains(": K0, K1, K2, K3, K4 and 995 more;"));
        }
        assert_eq!(generated.plain.len(), 1);
    }
}
