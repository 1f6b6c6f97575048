//! Finding manifests: what was named, and what Git would see below folders.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use memchr::memmem;
use shared::manifest::{self, Document, Node, ReadError, Reading};
use shared::resource::{DocumentError, SealedSecret};
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// A tree cannot be walked, or a file not be read.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A folder cannot be read.
    #[error("cannot look through the folder")]
    Folder(#[source] ignore::Error),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is malformed.
    #[error("{}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ReadError,
    },
}

/// A file that may hold manifests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Its path, as it shall be shown.
    pub path: PathBuf,
    /// Was it named, rather than found below a folder? What was named and cannot be used is an
    /// error; what was found is passed over.
    pub named: bool,
}

/// The files that were named, and below folders every `.yaml`, `.yml` and `.json` that Git would
/// see, in order of path. Without paths, below the current folder. Links below folders are not
/// followed.
///
/// # Errors
///
/// A path does not exist, or a folder cannot be read.
pub fn candidates(paths: &[PathBuf]) -> Result<Vec<Candidate>, WalkError> {
    let mut found = Vec::new();
    let here = [PathBuf::from(".")];
    for path in if paths.is_empty() { &here } else { paths } {
        if path.is_dir() {
            below(path, &mut found)?;
        } else {
            files::check(path)?;
            let (path, named) = (path.clone(), true);
            found.push(Candidate { path, named });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path).then(b.named.cmp(&a.named)));
    found.dedup_by(|later, first| later.path == first.path);
    Ok(found)
}

fn below(folder: &Path, found: &mut Vec<Candidate>) -> Result<(), WalkError> {
    let walk = WalkBuilder::new(folder)
        .hidden(false)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk {
        let entry = entry.map_err(WalkError::Folder)?;
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if is_file && is_manifest_name(entry.path()) {
            let path = entry.path().strip_prefix(".").unwrap_or(entry.path());
            found.push(Candidate {
                path: path.to_owned(),
                named: false,
            });
        }
    }
    Ok(())
}

/// Is a file with this name taken for a manifest?
pub fn is_manifest_name(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    ["yaml", "yml", "json"].iter().any(|known| ending == *known)
}

/// The kinds of objects that `seal` works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `v1` Secret: plain.
    Secret,
    /// `bitnami.com/v1alpha1` SealedSecret.
    SealedSecret,
}

impl Kind {
    /// Of an object; none for every other kind, and for a document that names none.
    pub fn of(node: &Node) -> Option<Self> {
        match (node.text("apiVersion")?, node.text("kind")?) {
            ("v1", "Secret") => Some(Self::Secret),
            ("bitnami.com/v1alpha1", "SealedSecret") => Some(Self::SealedSecret),
            _ => None,
        }
    }
}

/// The kinds of lists that objects may stand in.
pub const LISTS: [&str; 3] = ["List", "SecretList", "SealedSecretList"];

/// A file that was read.
#[derive(Debug)]
pub struct ManifestFile {
    /// Its path.
    pub path: PathBuf,
    /// Its bytes. They may hold plain values.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Its documents.
    pub documents: Vec<Document>,
}

impl ManifestFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is malformed.
    pub fn read(path: &Path) -> Result<Self, WalkError> {
        Self::parse(path, files::read(path)?)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// They are malformed.
    pub fn parse(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Self, WalkError> {
        let documents = manifest::read(&bytes).map_err(|source| WalkError::Malformed {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
            documents,
        })
    }

    /// Every object of the file, those in lists too.
    pub fn objects(&self) -> impl Iterator<Item = &Node> {
        self.documents
            .iter()
            .flat_map(|document| document.root.list_items(&LISTS))
    }

    /// The objects of one kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Node> {
        self.objects()
            .filter(move |node| Kind::of(node) == Some(kind))
    }

    /// Its SealedSecrets; what is wrong with one that is malformed.
    pub fn sealed(&self) -> impl Iterator<Item = Result<SealedSecret, DocumentError>> {
        let read = |node: &Node| SealedSecret::from_node(node, &mut Reading::default());
        self.of_kind(Kind::SealedSecret).map(read)
    }
}

/// The SealedSecrets of a file that was named for them.
///
/// # Errors
///
/// It cannot be read, one is malformed, or it holds none.
pub fn sealed_in(path: &Path) -> anyhow::Result<Vec<SealedSecret>> {
    let found: Vec<_> = ManifestFile::read(path)?
        .sealed()
        .collect::<Result<_, _>>()?;
    if found.is_empty() {
        anyhow::bail!("{} holds no SealedSecret", path.display());
    }
    Ok(found)
}

/// Reads a candidate if it can hold an object of that kind: a file that was found and does not name
/// the kind anywhere is not parsed. Nothing for what was found and is malformed, such as a Helm
/// template; see [`Candidate::named`].
///
/// # Errors
///
/// It cannot be read, or was named and is malformed.
pub fn read(candidate: &Candidate, kind: Kind) -> Result<Option<ManifestFile>, WalkError> {
    let bytes = files::read(&candidate.path)?;
    if !candidate.named && !mentions(&bytes, kind) {
        return Ok(None);
    }
    match ManifestFile::parse(&candidate.path, bytes) {
        Ok(file) if candidate.named || file.of_kind(kind).next().is_some() => Ok(Some(file)),
        Err(error) if candidate.named => Err(error),
        _ => Ok(None),
    }
}

/// UTF-16 counts as naming everything: it has a zero byte in every other place.
pub(crate) fn mentions(bytes: &[u8], kind: Kind) -> bool {
    let word: &[u8] = match kind {
        Kind::Secret => b"Secret",
        Kind::SealedSecret => b"SealedSecret",
    };
    memmem::find(bytes, word).is_some()
        || bytes.starts_with(&[0xff, 0xfe])
        || bytes.starts_with(&[0xfe, 0xff])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SEALED: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nspec: {}\n";

    #[test]
    fn finds_what_git_would_see() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.yaml", SEALED),
            ("b/c.yml", SEALED),
            ("b/.hidden/d.json", "{}"),
            ("b/e.txt", SEALED),
            (".git/f.yaml", SEALED),
            ("ignored/g.yaml", SEALED),
            (".gitignore", "ignored/\n"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = candidates(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|c| {
                c.path
                    .strip_prefix(folder.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(names, ["a.yaml", "b/.hidden/d.json", "b/c.yml"]);
        let holding = found
            .iter()
            .filter(|c| read(c, Kind::SealedSecret).unwrap().is_some());
        assert_eq!(holding.count(), 2);
    }

    #[test]
    fn what_was_named_counts_once_and_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.txt");
        fs::write(&file, "a: [").unwrap();
        let found = candidates(&[file.clone(), file.clone()]).unwrap();
        assert_eq!(found.len(), 1);
        assert!(read(&found[0], Kind::Secret).is_err());
        assert!(candidates(&[folder.path().join("none")]).is_err());
    }

    #[test]
    fn sees_objects_in_lists() {
        let text = format!("kind: List\nitems:\n- {{apiVersion: v1, kind: Secret}}\n---\n{SEALED}");
        let bytes = Zeroizing::new(text.into_bytes());
        let file = ManifestFile::parse(Path::new("x"), bytes).unwrap();
        assert_eq!(file.of_kind(Kind::Secret).count(), 1);
        assert_eq!(file.of_kind(Kind::SealedSecret).count(), 1);
    }
}
