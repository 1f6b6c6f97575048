//! Finds the kustomizations in the Git index that generate or patch Secrets from staged files. Such a file is often
//! staged alone, and is not a manifest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use kubeseal_library::git::{Repository, StagedLinks};
use kubeseal_library::walk;
use shared::manifest::{self, Document, Node, folded};
use zeroize::Zeroizing;

use super::template::Literals;
use super::{named, plain, unrendered};

/// The names of kustomization files, in lower case.
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "kustomization"];

/// Returns the paths of kustomizations, staged or committed, whose `secretGenerator` or patches of Secrets read one of
/// the staged files, or that name a staged file without the name of a manifest. A generator in a file with another name
/// counts if it is in the directory of the staged file or of a link to it, or in a directory above.
pub(super) fn readers(repository: &Repository, staged: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let links = repository.staged_links()?;
    let near = related_paths(&links, staged);
    let may_read = |path: &Path| {
        let is_near = || {
            path.parent()
                .is_some_and(|directory| near.contains(directory))
        };
        is_kustomization(path) || walk::is_manifest_name(path) && is_near()
    };
    let staged: BTreeSet<&PathBuf> = staged.iter().collect();
    let contents = repository.indexed_files(may_read)?.into_iter();
    let reads_staged = |(path, bytes): &(PathBuf, Zeroizing<Vec<u8>>)| {
        let passes_staged = |source: &PathBuf| {
            links
                .route(source)
                .all_paths()
                .any(|path| staged.contains(path))
        };
        sources(&links, path, bytes).iter().any(passes_staged)
    };
    Ok(contents
        .filter(reads_staged)
        .map(|(path, _)| path)
        .collect())
}

/// Returns the staged files, the links that lead to them or to their directories, and the directories above all these.
fn related_paths(links: &StagedLinks<'_>, staged: &[PathBuf]) -> BTreeSet<PathBuf> {
    let add = |near: &mut BTreeSet<PathBuf>, path: &Path| {
        near.extend(path.ancestors().map(Path::to_owned));
    };
    let mut near = BTreeSet::new();
    for path in staged {
        add(&mut near, path);
    }
    let leads_near = |link: &PathBuf| {
        links
            .route(link)
            .all_paths()
            .any(|path| near.contains(path))
    };
    let leading: Vec<PathBuf> = links.paths().filter(leads_near).collect();
    for link in leading {
        add(&mut near, &link);
    }
    near
}

/// Returns whether the file has the name of a kustomization file, ignoring case.
pub(super) fn is_kustomization(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_ascii_lowercase();
    NAMES.iter().any(|other| name == *other)
}

/// Returns the files that the generators and patches of Secrets in a manifest read, and the files that a kustomization
/// names and that do not have names of manifests.
fn sources(links: &StagedLinks<'_>, path: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let text = folded(&String::from_utf8_lossy(&walk::without_nulls(bytes)));
    if !text.contains("secretgenerator") && !is_kustomization(path) {
        return Vec::new();
    }
    let mut sources = Vec::new();
    for root in documents(bytes).iter().map(|document| &document.root) {
        for directory in plain::base_directories(root, path) {
            let files = plain::generator_files(root);
            sources.extend(files.iter().map(|file| directory.join(file.path)));
        }
        if is_kustomization(path) {
            sources.extend(named_sources(links, path, root));
        }
    }
    sources
}

/// Returns the files without names of manifests that a kustomization names, and the files that generators in them read.
fn named_sources(links: &StagedLinks<'_>, path: &Path, root: &Node) -> Vec<PathBuf> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let paths = |node| {
        let names = named::names(node).into_iter();
        let paths = names.map(|name| directory.join(name));
        paths.filter(|path| !walk::is_manifest_name(path))
    };
    let mut sources: Vec<PathBuf> = paths(root).collect();
    for generator in root.fields("generators").flat_map(paths) {
        let target = links.route(&generator).target;
        let bytes = target.and_then(|target| links.repository().staged_content(&target).ok());
        for document in documents(&bytes.unwrap_or_default()) {
            let files = plain::generator_files(&document.root);
            sources.extend(files.iter().map(|file| directory.join(file.path)));
        }
    }
    sources
}

/// Returns the documents of a file, with placeholders for the actions of a template.
fn documents(bytes: &[u8]) -> Vec<Document> {
    manifest::read(bytes).unwrap_or_else(|_| {
        let text = manifest::as_utf8(bytes);
        let text = Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
        let mut documents = manifest::read_well_formed(bytes);
        let literals = Literals::of(&text);
        documents.extend(unrendered::documents(&text, &literals, &documents).documents);
        documents
    })
}
