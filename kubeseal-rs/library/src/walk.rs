//! Finds manifests: files that the user names and, below directories, files that are tracked by
//! Git or not ignored.

mod search;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context as _;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use memchr::memmem;
use shared::error_chain;
use shared::manifest::{self, Document, Node, ReadError, ReadProblem, Reading, Value};
use shared::resource::{DocumentError, SealedSecret};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::git::{GitError, Repository};
use crate::notice::Notice;
use crate::repeated::{self, RepeatedKeyError};
use crate::shown::ShowPath as _;
use search::Search;

/// The size limit for an ignore file, in bytes. Git itself reads up to 100 MiB.
const MAX_IGNORE_FILE: u64 = 1 << 20;

/// Why a directory or a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A directory cannot be read.
    #[error("cannot read the directory {}", path.shown())]
    Directory {
        /// The path of the directory.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is malformed.
    #[error("{}", path.shown())]
    Malformed {
        /// The malformed file.
        path: PathBuf,
        /// The parser's error.
        source: ReadError,
    },
    /// A key is repeated in a file with v2 values, or overridden by a merge.
    #[error("{}", path.shown())]
    Repeated {
        /// The file with the repeated or overridden key.
        path: PathBuf,
        /// The repeated or overridden key.
        source: RepeatedKeyError,
    },
}

/// A file that may contain manifests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The path as named by the user, or as found below a directory.
    pub path: PathBuf,
    /// Whether the user named the file. Otherwise, the file was found below a directory. An unusable named file is
    /// always an error; for a found file, see [`read`].
    pub named: bool,
}

/// Returns the named files and, below directories, every `.yaml`, `.yml`, `.json` and `Kustomization` that Git tracks
/// or that no ignore rule of the work tree or the user matches. Sorted by path. Other repositories below a directory,
/// such as submodules, have their own index and rules. Without paths, searches the current directory.
///
/// A symbolic link that no ignore rule matches is followed to files of the same work tree or, without Git, of the
/// directory. Each file is returned once, under its own name if that is below a directory. Directories that cannot be
/// read and links that lead out of the tree are reported as notices, and the search continues.
///
/// # Errors
///
/// Fails if a path does not exist or cannot be opened.
pub fn candidates(
    paths: &[PathBuf],
    notices: &mut dyn FnMut(Notice),
) -> Result<Vec<Candidate>, WalkError> {
    let mut search = Search::new(notices);
    let default = [PathBuf::from(".")];
    for path in if paths.is_empty() { &default } else { paths } {
        if path.is_dir() {
            search.walk(path)?;
        } else {
            files::check(path)?;
            search.add_named(path);
        }
    }
    search.follow_links()?;
    Ok(sort_candidates(search.candidates))
}

/// Sorts candidates by path and removes duplicates, of which a named one is kept.
pub fn sort_candidates(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| a.path.cmp(&b.path).then(b.named.cmp(&a.named)));
    candidates.dedup_by(|later, first| later.path == first.path);
    candidates
}

/// Returns every `.yaml`, `.yml`, `.json` and `Kustomization` below a directory, regardless of ignore files, sorted by
/// path. Use it for directories that a controller reads, where an ignored key or object would be lost. Links are not
/// followed.
///
/// # Errors
///
/// Fails if the directory, or one below it, cannot be read.
pub fn all_manifests(directory: &Path) -> Result<Vec<Candidate>, WalkError> {
    // Every error ends the walk, so there are no notices.
    let mut notices = |_| ();
    let mut walk = Walk::new(directory, None, &mut notices)?;
    walk.enter(Path::new(""))?;
    Ok(walk.candidates().collect())
}

/// A walk below a directory.
struct Walk<'a> {
    /// The directory as the user named it.
    directory: &'a Path,
    /// The directory with symbolic links resolved.
    resolved: PathBuf,
    /// The rules of ignore files that apply, the strongest last; `None` if ignore files have no
    /// effect.
    rules: Option<Vec<Gitignore>>,
    /// Whether a rule of the current repository excluded a file, link or directory.
    has_ignored: bool,
    /// Repositories below the directory that were entered, by path relative to it.
    repositories: BTreeSet<PathBuf>,
    /// The manifests, by path relative to the directory.
    manifests: BTreeSet<PathBuf>,
    /// Links to directories, and links with the names of manifests, by path relative to the directory.
    links: Vec<PathBuf>,
    /// Receives messages about conditions that do not end the walk.
    notices: &'a mut dyn FnMut(Notice),
}

impl<'a> Walk<'a> {
    fn new(
        directory: &'a Path,
        rules: Option<Vec<Gitignore>>,
        notices: &'a mut dyn FnMut(Notice),
    ) -> Result<Self, WalkError> {
        Ok(Self {
            directory,
            resolved: directory
                .canonicalize()
                .map_err(directory_error(directory))?,
            rules,
            has_ignored: false,
            repositories: BTreeSet::new(),
            manifests: BTreeSet::new(),
            links: Vec::new(),
            notices,
        })
    }

    /// Collects the manifests in and below a directory. `below` is relative to the walk's directory.
    fn enter(&mut self, below: &Path) -> Result<(), WalkError> {
        let resolved = self.resolved.join(below);
        let outer = self.rules.as_ref().map(Vec::len);
        if let Some(rules) = &mut self.rules {
            rules.extend(rules_in(&resolved, self.notices));
        }
        // Close the directory before entering its subdirectories: a deep tree would exhaust the limit of open
        // files.
        let directories = match self.files_and_directories(below, &resolved) {
            // In a directory that a controller reads, every error counts.
            Err(error) if self.rules.is_some() => {
                self.report_unreadable(&resolved, error_chain(&error));
                Vec::new()
            }
            directories => directories?,
        };
        for child in directories {
            if self.rules.is_some() && self.is_repository(&child) {
                self.enter_repository(&child)?;
            } else {
                self.enter(&child)?;
            }
        }
        if let (Some(rules), Some(outer)) = (&mut self.rules, outer) {
            rules.truncate(outer);
        }
        Ok(())
    }

    fn is_repository(&self, below: &Path) -> bool {
        self.resolved.join(below).join(".git").exists()
    }

    /// Collects the manifests of another repository, such as a submodule or a linked work tree. The ignore rules around
    /// it do not apply inside.
    fn enter_repository(&mut self, below: &Path) -> Result<(), WalkError> {
        let root = self.resolved.join(below);
        let rules = rules_above(&root, Some(&root), self.notices);
        let outer_rules = self.rules.replace(rules);
        let outer_has_ignored = std::mem::take(&mut self.has_ignored);
        self.repositories.insert(below.to_owned());
        self.enter(below)?;
        if self.has_ignored {
            self.add_tracked(&root)?;
        }
        self.rules = outer_rules;
        self.has_ignored = outer_has_ignored;
        Ok(())
    }

    fn report_unreadable(&mut self, directory: &Path, why: String) {
        let location = directory.shown();
        (self.notices)(Notice::Unreadable { location, why });
    }

    /// Collects the manifests in one directory, and returns its subdirectories.
    fn files_and_directories(
        &mut self,
        below: &Path,
        resolved: &Path,
    ) -> Result<Vec<PathBuf>, WalkError> {
        let mut directories = Vec::new();
        for entry in fs::read_dir(resolved).map_err(directory_error(resolved))? {
            let entry = entry.map_err(directory_error(resolved))?;
            let kind = entry.file_type().map_err(directory_error(resolved))?;
            let path = below.join(entry.file_name());
            let leads_to_directory = kind.is_symlink() && entry.path().is_dir();
            let is_wanted = kind.is_dir() || leads_to_directory || is_manifest_name(&path);
            if !is_wanted || entry.file_name() == ".git" {
                continue;
            }
            if self.is_ignored(&entry.path(), kind.is_dir()) {
                self.has_ignored = true;
                // The rule does not apply to the files of another repository.
                if kind.is_dir() && self.is_repository(&path) {
                    directories.push(path);
                }
            } else if kind.is_dir() {
                directories.push(path);
            } else if kind.is_symlink() {
                self.links.push(path);
            } else if kind.is_file() {
                self.manifests.insert(path);
            }
        }
        Ok(directories)
    }

    fn is_ignored(&self, path: &Path, is_directory: bool) -> bool {
        let rules = self.rules.iter().flatten().rev();
        let matches = rules.map(|rules| rules.matched(path, is_directory));
        let deciding = matches.into_iter().find(|rule| !rule.is_none());
        matches!(deciding, Some(Match::Ignore(_)))
    }

    /// Adds manifests and submodules below a directory that Git tracks although they match an ignore rule.
    fn add_tracked(&mut self, directory: &Path) -> Result<(), WalkError> {
        let TrackedPaths { files, submodules } = match tracked_below(directory) {
            Ok(tracked) => tracked,
            Err(error) => {
                let why = format!(
                    "files that match an ignore rule are not read, even if Git tracks them: {}",
                    error_chain(&error)
                );
                self.report_unreadable(directory, why);
                return Ok(());
            }
        };
        let below = |path: &PathBuf| Some(path.strip_prefix(&self.resolved).ok()?.to_owned());
        self.manifests.extend(files.iter().filter_map(below));
        let submodules: Vec<_> = submodules.iter().filter_map(below).collect();
        for submodule in submodules {
            if !self.repositories.contains(&submodule) {
                self.enter_repository(&submodule)?;
            }
        }
        Ok(())
    }

    fn candidates(self) -> impl Iterator<Item = Candidate> {
        let directory = self.directory;
        self.manifests.into_iter().map(move |below| {
            let path = directory.join(below);
            let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
            Candidate { path, named: false }
        })
    }
}

fn directory_error(directory: &Path) -> impl Fn(io::Error) -> WalkError {
    move |source| WalkError::Directory {
        path: directory.to_owned(),
        source,
    }
}

/// The manifests and submodules that Git tracks below a directory, by absolute path.
struct TrackedPaths {
    /// The committed or staged manifests.
    files: Vec<PathBuf>,
    /// The submodules that are checked out.
    submodules: Vec<PathBuf>,
}

/// Returns the manifests and submodules that Git tracks below `directory`, a path without symbolic links. Leaves out
/// paths that are no longer regular files, or that lead through a link.
fn tracked_below(directory: &Path) -> Result<TrackedPaths, GitError> {
    let repository = Repository::discover(directory)?;
    let mut files = repository.staged_files()?;
    if let Some(head) = repository.commit("HEAD") {
        let committed = repository.files(head)?.into_iter();
        files.extend(committed.map(|(path, _)| repository.root().join(path)));
    }
    let is_regular = |path: &PathBuf| {
        is_manifest_name(path)
            && path.is_file()
            && path.canonicalize().is_ok_and(|resolved| resolved == *path)
    };
    files.retain(|path| path.starts_with(directory) && is_regular(path));
    let mut submodules = repository.checked_out_submodules()?;
    submodules.retain(|path| path.starts_with(directory));
    Ok(TrackedPaths { files, submodules })
}

/// Returns the rules that apply to a directory in addition to the rules of its own `.gitignore`: the rules of the user,
/// those of `.git/info/exclude`, and those of the parent directories from the root of the work tree down. Directories
/// above the work tree have no effect, nor do parents outside a work tree.
fn rules_above(
    directory: &Path,
    root: Option<&Path>,
    notices: &mut dyn FnMut(Notice),
) -> Vec<Gitignore> {
    let (user_rules, _) = GitignoreBuilder::new(root.unwrap_or(directory)).build_global();
    let mut rules = vec![user_rules];
    if let Some(root) = root {
        rules.extend(rules_of(root, &root.join(".git/info/exclude"), notices));
        let above = directory.ancestors().skip(1);
        let mut above: Vec<_> = above.take_while(|above| above.starts_with(root)).collect();
        above.reverse();
        rules.extend(
            above
                .into_iter()
                .filter_map(|above| rules_in(above, notices)),
        );
    }
    rules
}

/// Returns the rules of a directory's `.gitignore`; `None` if there is none or, with a warning, if the file
/// cannot be used. As in Git, a symbolic link is not followed.
fn rules_in(directory: &Path, notices: &mut dyn FnMut(Notice)) -> Option<Gitignore> {
    let file = directory.join(".gitignore");
    if file.is_symlink() {
        let why = "Git does not follow a symbolic link here";
        notices(no_effect_notice(&file, why));
        return None;
    }
    rules_of(directory, &file, notices)
}

/// Returns the rules of an ignore file for a directory; `None` if there is none or, with a warning, if it is not
/// a regular file within the size limit.
fn rules_of(directory: &Path, file: &Path, notices: &mut dyn FnMut(Notice)) -> Option<Gitignore> {
    if !file.exists() {
        return None;
    }
    let bytes = files::read_regular(file, MAX_IGNORE_FILE).map_err(|error| error.to_string());
    let rules = bytes.and_then(|bytes| parse_rules(directory, &bytes).map_err(|e| e.to_string()));
    rules
        .map_err(|why| notices(no_effect_notice(file, &why)))
        .ok()
}

fn parse_rules(directory: &Path, bytes: &[u8]) -> Result<Gitignore, ignore::Error> {
    let mut builder = GitignoreBuilder::new(directory);
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Ok(line) = std::str::from_utf8(line) {
            // A malformed pattern matches nothing. Git does not report it either.
            let _ = builder.add_line(None, line);
        }
    }
    builder.build()
}

fn no_effect_notice(file: &Path, why: &str) -> Notice {
    Notice::Warning(format!("ignore file {} has no effect: {why}", file.shown()))
}

/// Returns whether a file with this name is read as a manifest: by its extension in any case, or as `Kustomization`,
/// one of the file names of kustomize.
pub fn is_manifest_name(path: &Path) -> bool {
    if path.file_name().is_some_and(|name| name == "Kustomization") {
        return true;
    }
    // The whole name may be `.yaml`, which `Path::extension` does not count.
    let name = path.file_name().unwrap_or_default().to_ascii_lowercase();
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| name.as_encoded_bytes().ends_with(ending.as_bytes()))
}

/// The kinds of objects that `seal` works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A `v1` Secret.
    Secret,
    /// A `bitnami.com/v1alpha1` SealedSecret.
    SealedSecret,
}

impl Kind {
    /// Returns the kind of an object; `None` for any other kind, and for a document without one. A
    /// Secret may lack its `apiVersion`, as for `kubeseal`.
    pub fn of(node: &Node) -> Option<Self> {
        match (
            node.text("apiVersion").unwrap_or_default(),
            node.text("kind")?,
        ) {
            ("v1" | "", "Secret") => Some(Self::Secret),
            ("bitnami.com/v1alpha1", "SealedSecret") => Some(Self::SealedSecret),
            _ => None,
        }
    }
}

/// The kinds of lists that may contain Secrets or SealedSecrets.
pub const LISTS: [&str; 3] = ["List", "SecretList", "SealedSecretList"];

/// Sets the kind and `apiVersion` of the items of a `SecretList` or `SealedSecretList`, which may omit them, as in
/// responses of the API server.
fn set_item_kinds(node: &mut Node) {
    let item_type = match node.text("kind") {
        Some("SecretList") => Some(("v1", "Secret")),
        Some("SealedSecretList") => Some(("bitnami.com/v1alpha1", "SealedSecret")),
        Some("List") => None,
        _ => return,
    };
    let Value::Map(fields) = &mut node.value else {
        return;
    };
    let items = fields
        .iter_mut()
        .filter(|(name, _)| manifest::is_same_name(name, "items"));
    for (_, list) in items {
        let Value::List(items) = &mut list.value else {
            continue;
        };
        for item in items {
            set_item_kinds(item);
            if let Some((version, kind)) = item_type {
                set_kind(item, version, kind);
            }
        }
    }
}

fn set_kind(item: &mut Node, version: &str, kind: &str) {
    if item.text("kind").is_some_and(|kind| !kind.is_empty()) {
        return;
    }
    let line = item.line;
    if let Value::Map(fields) = &mut item.value {
        fields.retain(|(name, _)| !manifest::is_same_name(name, "kind"));
        for (name, text) in [("apiVersion", version), ("kind", kind)] {
            if !fields
                .iter()
                .any(|(key, _)| manifest::is_same_name(key, name))
            {
                let value = Value::Text(text.to_owned().into());
                let source = None;
                fields.push((
                    name.to_owned(),
                    Node {
                        value,
                        line,
                        source,
                    },
                ));
            }
        }
    }
}

/// A manifest file and its parsed documents.
#[derive(Debug)]
pub struct ManifestFile {
    /// The path of the manifest.
    pub path: PathBuf,
    /// The content of the file. It may contain plain values.
    pub bytes: Zeroizing<Vec<u8>>,
    /// The documents, in file order. They contain only the last value of a repeated key.
    pub documents: Vec<Document>,
}

impl ManifestFile {
    /// Reads and parses a manifest file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, is not valid YAML or JSON, or has a key that [`repeated::check`] refuses.
    pub fn read(path: &Path) -> Result<Self, WalkError> {
        Self::parse(path, files::read(path)?)
    }

    /// Parses the content of a file.
    ///
    /// # Errors
    ///
    /// Fails if the content is malformed, or has a key that [`repeated::check`] refuses.
    pub fn parse(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Self, WalkError> {
        let file = Self::parse_repeated(path, bytes)?;
        match repeated::check(&file.bytes, &file.documents) {
            Ok(()) => Ok(file),
            Err(source) => Err(WalkError::Repeated {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Like [`Self::parse`], for callers that must find every value: accepts repeated keys. The documents contain the
    /// last value of a repeated key.
    ///
    /// # Errors
    ///
    /// Fails if the content is malformed.
    pub fn parse_repeated(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Self, WalkError> {
        let documents = manifest::read(&bytes).map_err(|source| WalkError::Malformed {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self::of(path, bytes, documents))
    }

    /// Returns the file with these parsed documents; sets the kind of the items of typed lists.
    pub fn of(path: &Path, bytes: Zeroizing<Vec<u8>>, mut documents: Vec<Document>) -> Self {
        for document in &mut documents {
            set_item_kinds(&mut document.root);
        }
        Self {
            path: path.to_owned(),
            bytes,
            documents,
        }
    }

    /// Returns every object in the file, including those in lists.
    pub fn objects(&self) -> impl Iterator<Item = &Node> {
        self.documents
            .iter()
            .flat_map(|document| document.root.list_items(&LISTS))
    }

    /// Returns the objects of one kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Node> {
        self.objects()
            .filter(move |node| Kind::of(node) == Some(kind))
    }

    /// Returns the SealedSecrets in the file; an error for each malformed one.
    pub fn sealed(&self) -> impl Iterator<Item = Result<SealedSecret, DocumentError>> {
        let read = |node: &Node| SealedSecret::from_node(node, &mut Reading::default());
        self.of_kind(Kind::SealedSecret).map(read)
    }
}

/// Returns the SealedSecrets in a file that the user named.
///
/// # Errors
///
/// Fails if the file cannot be read, contains no SealedSecret, or contains a malformed one.
pub fn sealed_in(path: &Path) -> anyhow::Result<Vec<SealedSecret>> {
    let sealed = ManifestFile::read(path)?.sealed().collect();
    let sealed: Result<Vec<_>, DocumentError> = sealed;
    let sealed = sealed.with_context(|| path.shown())?;
    if sealed.is_empty() {
        anyhow::bail!("{} contains no SealedSecret", path.shown());
    }
    Ok(sealed)
}

/// Reads a candidate if it can contain an object of that kind. A found file that cannot contain the kind's name is not
/// parsed. Returns `None` for a found file without such an object.
///
/// # Errors
///
/// Fails if the file cannot be read. Fails too if the file is malformed, and was named or may contain
/// an object of that kind: the contents of a template, or of text after a syntax error, are unknown.
pub fn read(candidate: &Candidate, kind: Kind) -> Result<Option<ManifestFile>, WalkError> {
    let bytes = files::read(&candidate.path)?;
    let is_wanted = candidate.named || may_contain(&bytes, kind);
    if !is_wanted && !may_hide_kind(&bytes) {
        return Ok(None);
    }
    let bytes_to_check = (!is_wanted).then(|| bytes.clone());
    let is_wanted = || bytes_to_check.is_none_or(|bytes| has_well_formed_object(&bytes, kind));
    match ManifestFile::parse(&candidate.path, bytes) {
        Ok(file) if candidate.named || file.of_kind(kind).next().is_some() => Ok(Some(file)),
        // Other programs may read objects behind a line break that this parser refuses.
        Err(error) if is_wanted() || has_unicode_line_break(&error) => Err(error),
        // Many templates contain a backslash or an exclamation mark, so a malformed file with only that is skipped.
        _ => Ok(None),
    }
}

/// Returns whether a file is malformed because of a character that other parsers read as a line break.
pub(crate) fn has_unicode_line_break(error: &WalkError) -> bool {
    let WalkError::Malformed { source, .. } = error else {
        return false;
    };
    matches!(source.problem, ReadProblem::LineBreak(_))
}

/// Formats an error and its causes. Removes the path of the file from the beginning, for a line that already begins
/// with the path.
pub fn without_path(path: &Path, error: &anyhow::Error) -> String {
    let text = error_chain(error.as_ref());
    let stripped = text.strip_prefix(&format!("{}: ", path.shown()));
    stripped.map(str::to_owned).unwrap_or(text)
}

/// Some files could not be read; each was reported with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0} could not be read (see above); all other files were processed")]
pub struct SkippedFiles(String);

impl SkippedFiles {
    /// Checks the number of skipped files.
    ///
    /// # Errors
    ///
    /// Fails if `count` is not zero.
    pub fn check(count: usize) -> Result<(), Self> {
        match count {
            0 => Ok(()),
            1 => Err(Self("1 file".to_owned())),
            n => Err(Self(format!("{n} files"))),
        }
    }
}

/// Returns whether a file may contain an object of this kind, from its text alone. Many templates mention Secrets, so a
/// Secret needs a `kind` in the text; for a SealedSecret, a mention is enough.
fn may_contain(bytes: &[u8], kind: Kind) -> bool {
    mentions(bytes, kind)
        && (kind == Kind::SealedSecret || names_kind(bytes, &["Secret", "SecretList"]))
}

/// Returns whether a file contains a `kind` field with one of these kinds. Always true for UTF-16 with a
/// byte order mark, which is not searched.
pub fn names_kind(text: &[u8], kinds: &[&str]) -> bool {
    let text = &*without_nulls(text);
    is_utf16(text)
        || memmem::find_iter(text, b"kind").any(|at| {
            let (before, rest) = text.split_at(at);
            let word = word_after(&rest[b"kind".len()..]);
            before.last().is_none_or(|byte| !is_word_byte(*byte))
                && word.is_some_and(|word| kinds.iter().any(|kind| kind.as_bytes() == word))
        })
}

/// Returns the value after a key, if it is a word. Key and value may be quoted.
fn word_after(key: &[u8]) -> Option<&[u8]> {
    let value = without_quote(key).trim_ascii_start().strip_prefix(b":")?;
    let word = without_quote(value.trim_ascii_start());
    let end = word.iter().position(|byte| !is_word_byte(*byte));
    Some(&word[..end.unwrap_or(word.len())])
}

fn without_quote(text: &[u8]) -> &[u8] {
    match text {
        [b'"' | b'\'', rest @ ..] => rest,
        _ => text,
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Returns the bytes without zeros, which only UTF-16, UTF-32 and binary files contain, so that ASCII
/// words are found in any of them.
pub fn without_nulls(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(0, bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(bytes.iter().copied().filter(|byte| *byte != 0).collect())
}

/// Returns whether the bytes contain the kind's name. Always true for UTF-16 with a byte order mark.
pub fn mentions(bytes: &[u8], kind: Kind) -> bool {
    let word: &[u8] = match kind {
        Kind::Secret => b"Secret",
        Kind::SealedSecret => b"SealedSecret",
    };
    memmem::find(&without_nulls(bytes), word).is_some() || is_utf16(bytes)
}

fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])
}

/// Returns whether a kind may be written without its literal name, with an escape such as
/// `"\x53ecret"` or a tag such as `!!binary`.
pub fn may_hide_kind(bytes: &[u8]) -> bool {
    memchr::memchr2(b'\\', b'!', bytes).is_some()
}

/// Returns the line of the first object of kind `SealedSecret` whose `apiVersion` is not `bitnami.com/v1alpha1`, and a
/// phrase that describes its `apiVersion`, for messages; `None` if there is no such object.
pub fn first_with_wrong_version(bytes: &[u8]) -> Option<(usize, String)> {
    let mut documents = manifest::read_well_formed(bytes);
    for document in &mut documents {
        set_item_kinds(&mut document.root);
    }
    let objects = documents
        .iter()
        .flat_map(|document| document.root.list_items(&LISTS));
    let mut wrong_versions = objects
        .filter(|node| node.text("kind") == Some("SealedSecret") && Kind::of(node).is_none());
    wrong_versions.next().map(|node| {
        let version = node.text("apiVersion").unwrap_or_default();
        let version = match version {
            "" => "no apiVersion".to_owned(),
            other => format!("the apiVersion {other:?}"),
        };
        (node.line, version)
    })
}

/// Returns whether a well-formed document of a malformed file contains an object of this kind. Other programs may apply
/// such documents although the file is malformed.
pub fn has_well_formed_object(bytes: &[u8], kind: Kind) -> bool {
    let is_of_kind = |node: &&Node| Kind::of(node) == Some(kind);
    manifest::read_well_formed(bytes)
        .iter()
        .any(|document| document.root.list_items(&LISTS).iter().any(is_of_kind))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SEALED: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nspec: {}\n";

    #[test]
    fn finds_the_files_that_git_does_not_ignore() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.yaml", SEALED),
            ("b/c.yml", SEALED),
            ("b/.hidden/d.json", "{}"),
            ("b/e.txt", SEALED),
            (".git/f.yaml", SEALED),
            ("ignored/g.yaml", SEALED),
            (".gitignore", "ignored/\n"),
        ] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let manifests = candidates(&[directory.path().to_owned()], &mut |_| ()).unwrap();
        let names: Vec<_> = manifests
            .iter()
            .map(|c| {
                c.path
                    .strip_prefix(directory.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(names, ["a.yaml", "b/.hidden/d.json", "b/c.yml"]);
        let with_sealed_secret = manifests
            .iter()
            .filter(|c| read(c, Kind::SealedSecret).unwrap().is_some());
        assert_eq!(with_sealed_secret.count(), 2);
    }

    /// Attack: a committer uses an ignore file to hide manifests that a controller reads.
    #[test]
    fn ignore_files_hide_nothing_that_a_controller_reads() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        fs::create_dir_all(inner.join("sub")).unwrap();
        for directory in [directory.path(), &inner] {
            for list in [".gitignore", ".ignore"] {
                fs::write(directory.join(list), "*\n").unwrap();
            }
        }
        for name in ["a.yaml", "sub/b.yml", "c.txt"] {
            fs::write(inner.join(name), SEALED).unwrap();
        }
        let manifests = all_manifests(&inner).unwrap();
        let paths: Vec<_> = manifests
            .into_iter()
            .map(|candidate| candidate.path)
            .collect();
        assert_eq!(paths, [inner.join("a.yaml"), inner.join("sub/b.yml")]);
    }

    #[test]
    fn the_nearest_ignore_rule_applies() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        fs::write(directory.path().join(".gitignore"), "*.yaml\n!b.yaml\n").unwrap();
        fs::write(directory.path().join("sub/.gitignore"), "!a.yaml\r\n/b.*\n").unwrap();
        for name in ["a.yaml", "b.yaml", "sub/a.yaml", "sub/b.yaml", "sub/c.yaml"] {
            fs::write(directory.path().join(name), SEALED).unwrap();
        }
        let manifests = candidates(&[directory.path().to_owned()], &mut |_| ()).unwrap();
        let paths: Vec<_> = manifests
            .into_iter()
            .map(|candidate| candidate.path)
            .collect();
        let want = ["b.yaml", "sub/a.yaml"].map(|name| directory.path().join(name));
        assert_eq!(paths, want);
    }

    /// Attack: a committer writes the kind of an object so that a search for its name does not find it.
    #[test]
    fn finds_an_object_with_an_escaped_kind() {
        let directory = tempfile::tempdir().unwrap();
        for (kind, is_secret) in [
            (r#""\x53ecret""#, true),
            ("!!binary U2VjcmV0", true),
            ("!x Secret", true),
            ("ConfigMap", false),
        ] {
            let path = directory.path().join("x.yaml");
            fs::write(&path, format!("apiVersion: v1\nkind: {kind}\n")).unwrap();
            let candidate = Candidate { path, named: false };
            let file = read(&candidate, Kind::Secret).unwrap();
            assert_eq!(file.is_some(), is_secret, "{kind}");
        }
    }

    #[test]
    fn a_named_file_counts_once_and_must_exist() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.txt");
        fs::write(&file, "a: [").unwrap();
        let manifests = candidates(&[file.clone(), file.clone()], &mut |_| ()).unwrap();
        assert_eq!(manifests.len(), 1);
        assert!(read(&manifests[0], Kind::Secret).is_err());
        assert!(candidates(&[directory.path().join("none")], &mut |_| ()).is_err());
    }

    #[test]
    fn finds_objects_in_lists() {
        let text = format!("kind: List\nitems:\n- {{apiVersion: v1, kind: Secret}}\n---\n{SEALED}");
        let bytes = Zeroizing::new(text.into_bytes());
        let file = ManifestFile::parse(Path::new("x"), bytes).unwrap();
        assert_eq!(file.of_kind(Kind::Secret).count(), 1);
        assert_eq!(file.of_kind(Kind::SealedSecret).count(), 1);
    }

    #[test]
    fn finds_the_kind_in_malformed_text_with_any_quotes() {
        const SECRETS: [&str; 4] = ["Secret", "SealedSecret", "SecretList", "SealedSecretList"];
        for (text, want) in [
            ("kind: Secret\na: [", true),
            ("a: [\nkind:  SealedSecret", true),
            ("- kind: 'Secret'\n", true),
            ("kind: \"Secret\" # x\n", true),
            ("{\"kind\": \"Secret\",", true),
            ("{\"kind\":\"SealedSecret\"", true),
            ("{\"kind\" :\n \"Secret\"}}", true),
            ("'kind': Secret\r\n", true),
            ("kind: SecretList\n", true),
            ("kind: SecretStore\n---\nkind: Secret\n", true),
            ("kind: SecretStore\n", false),
            ("kind: ClusterSecretStore\n", false),
            ("\"kind\": \"SecretProviderClass\"", false),
            ("kind: Secret-of-mine\n", false),
            ("mankind: Secret\n", false),
            ("kind of Secret\n", false),
            ("kinds: Secret\n", false),
            ("kind:", false),
            ("kind", false),
            ("Secret", false),
        ] {
            assert_eq!(names_kind(text.as_bytes(), &SECRETS), want, "{text:?}");
        }
    }
}
