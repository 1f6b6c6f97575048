//! Determines which objects and files need which key, by trial decryption or, on request and for many objects, from the
//! keys that the objects name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::{KeyRing, RingKey};
use shared::needs::{self, Need, needs};
use shared::resource::SealedSecret;
use zeroize::Zeroizing;

use super::{missing, v2};
use crate::cluster::{Authorized, AuthorizedError, KeysOfItems};
use crate::files;
use crate::git::{GitError, Repository};
use crate::loose;
use crate::notice::{Notice, StatusLine};
use crate::parallel;
use crate::progress::Progress;
use crate::repeated;
use crate::rules::RulesFile;
use crate::shown::{ShowPath as _, path_text};
use crate::walk::{self, Candidate, Kind, ManifestFile, WalkError};

/// Where a SealedSecret was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// In the cluster.
    Cluster {
        /// The namespace of the object.
        namespace: String,
        /// The name of the object.
        name: String,
    },
    /// In a controller's directory.
    Directory {
        /// The manifest that contains the object.
        path: PathBuf,
        /// The name of the object.
        name: String,
    },
    /// In a file.
    File {
        /// The manifest that contains the object.
        path: PathBuf,
        /// The name of the object.
        name: String,
    },
    /// In a file of a Git branch.
    Branch {
        /// The root of the repository.
        repository: PathBuf,
        /// The name of the branch.
        branch: String,
        /// The path of the file, relative to the root of the repository.
        path: String,
        /// The name of the object.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { namespace, name } => write!(f, "SealedSecret {namespace}/{name}"),
            Self::Directory { path, name } | Self::File { path, name } => {
                write!(f, "{} ({name})", path.shown())
            }
            Self::Branch {
                branch, path, name, ..
            } => write!(f, "{branch}:{path} ({name})"),
        }
    }
}

/// A SealedSecret and where it was found.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Where the SealedSecret was found.
    pub origin: Origin,
    /// The SealedSecret, with the namespace of its rule if its file sets none.
    pub sealed: SealedSecret,
}

/// A file or object that may be a SealedSecret but cannot be read, so the keys that it needs are
/// unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreadable {
    /// The location, for messages.
    pub location: String,
    /// Why the file or object cannot be read.
    pub why: String,
}

/// The SealedSecrets that may need a key, and the files and objects that cannot be read.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The SealedSecrets that can be read.
    pub holders: Vec<Holder>,
    /// Files and objects that cannot be read.
    pub unreadable: BTreeSet<Unreadable>,
}

impl Inventory {
    /// Returns the number of files and objects that cannot be read. A file or object with several reasons counts once.
    pub fn count_unreadable(&self) -> usize {
        let locations: BTreeSet<&str> = self
            .unreadable
            .iter()
            .map(|u| u.location.as_str())
            .collect();
        locations.len()
    }

    /// Adds the contents of `other`.
    pub fn extend(&mut self, other: Self) {
        self.holders.extend(other.holders);
        self.unreadable.extend(other.unreadable);
    }

    /// Adds the contents of a file. SealedSecrets without a namespace get `namespace`.
    pub(super) fn add(
        &mut self,
        contents: Contents,
        location: &str,
        namespace: Option<&String>,
        origin: impl Fn(String) -> Origin,
    ) {
        for mut sealed in contents.sealed {
            if sealed.metadata.namespace.is_none() {
                sealed.metadata.namespace = namespace.cloned();
            }
            let origin = origin(sealed.name_or_empty().to_owned());
            self.holders.push(Holder { origin, sealed });
        }
        self.unreadable
            .extend(contents.unreadable.into_iter().map(|why| {
                let location = location.to_owned();
                Unreadable { location, why }
            }));
    }
}

/// The SealedSecrets that were found in a file.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The SealedSecrets in the file.
    pub sealed: Vec<SealedSecret>,
    /// Why parts of the file that may contain sealed values cannot be read.
    pub unreadable: Vec<String>,
    /// Whether the file cannot be parsed as manifests.
    pub is_malformed: bool,
    /// Whether other parsers may read objects in the malformed file.
    pub may_hide_objects: bool,
}

/// The keys that a set of SealedSecrets needs.
#[derive(Debug, Default)]
pub struct Survey {
    /// The origin of each SealedSecret, with the key that each item needs.
    pub objects: Vec<(Origin, BTreeMap<String, Need>)>,
    /// The number of objects whose keys are those that they name, without decryption.
    pub unopened: usize,
}

/// The values that a survey decrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All values. The result is certain.
    All,
    /// With more than 200 objects, only values whose object does not name the keys that it needs; otherwise all values.
    Unnamed,
}

/// Up to this number of objects, all values are decrypted even with [`Depth::Unnamed`], since that takes little time.
const MAX_TO_DECRYPT: usize = 200;

/// An item that needs a key, or may need it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependent {
    /// Where the SealedSecret was found.
    pub origin: Origin,
    /// The item key.
    pub item: String,
    /// Whether the item is known to need this key. If not, no known key decrypts the item, which may need this key.
    pub is_sure: bool,
}

impl Survey {
    /// Determines which key of the ring each item needs, on all processors.
    pub fn run(holders: &[Holder], ring: &KeyRing, depth: Depth, line: Option<StatusLine>) -> Self {
        let is_named = depth == Depth::Unnamed && holders.len() > MAX_TO_DECRYPT;
        let progress = Progress::new("objects", holders.len(), line);
        let needs_of_holders = parallel::map(
            holders,
            || (),
            |(), _, holder| {
                let named_needs = is_named
                    .then(|| needs::from_metadata(&holder.sealed, ring))
                    .flatten();
                let is_unopened = named_needs.is_some();
                let needs = named_needs.unwrap_or_else(|| needs(&holder.sealed, ring));
                progress.step();
                (is_unopened, needs)
            },
        );
        let unopened = needs_of_holders
            .iter()
            .filter(|(is_unopened, _)| *is_unopened)
            .count();
        let origins = holders.iter().map(|holder| holder.origin.clone());
        Self {
            objects: origins
                .zip(needs_of_holders.into_iter().map(|(_, needs)| needs))
                .collect(),
            unopened,
        }
    }

    /// Asks a controller which key decrypts the items that no local key decrypts. `holders` must be the same as for
    /// [`Self::run`]. Returns the objects that RBAC does not allow the caller to verify; their items remain undecided.
    ///
    /// # Errors
    ///
    /// Fails if the controller cannot be reached, or responds with an error other than a missing permission.
    pub fn ask_controller(
        &mut self,
        holders: &[Holder],
        controller: &Authorized,
    ) -> Result<Vec<(Origin, AuthorizedError)>, AuthorizedError> {
        let mut forbidden = Vec::new();
        for (holder, (origin, needs)) in holders.iter().zip(&mut self.objects) {
            if !needs.values().any(Need::is_undecided) {
                continue;
            }
            match controller.keys(&holder.sealed) {
                Ok(keys) => apply_keys(needs, keys),
                Err(error @ AuthorizedError::Forbidden(_)) => {
                    forbidden.push((origin.clone(), error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(forbidden)
    }

    /// Returns the items that need this key, or may need it.
    pub fn dependents(&self, key: &Fingerprint, modulus_len: usize) -> Vec<Dependent> {
        let mut dependents = Vec::new();
        for (origin, items) in &self.objects {
            for (item, need) in items {
                if need.may_require_key(key, modulus_len) {
                    dependents.push(Dependent {
                        origin: origin.clone(),
                        item: item.clone(),
                        is_sure: matches!(need, Need::Key(_)),
                    });
                }
            }
        }
        dependents.sort();
        dependents
    }

    /// Returns the numbers of objects and of files with items for this key, including v2 items, without undecided
    /// items. `holders` must be the same as for [`Self::run`].
    pub fn count_holders(&self, holders: &[Holder], key: &RingKey) -> (usize, usize) {
        let (need, id) = (Need::Key(key.fingerprint().clone()), key.key_id().short());
        let objects = self.objects.iter().zip(holders);
        let needing = objects.filter(|((_, needs), holder)| {
            needs.values().any(|other| *other == need)
                || !v2::items_for(&holder.sealed, id).is_empty()
        });
        count(needing.map(|((origin, _), _)| origin))
    }

    /// Returns the items whose key is unknown.
    pub fn undecided(&self) -> Vec<(&Origin, &str)> {
        let items = self.objects.iter().flat_map(|(origin, items)| {
            let open = items.iter().filter(|(_, need)| need.is_undecided());
            open.map(move |(item, _)| (origin, item.as_str()))
        });
        items.collect()
    }
}

/// Returns the number of SealedSecrets in the cluster and in a controller's directory, and the number of files with the
/// others. The same file in two branches counts twice.
pub fn count<'a>(origins: impl Iterator<Item = &'a Origin>) -> (usize, usize) {
    let (mut objects, mut files) = (0, BTreeSet::new());
    for origin in origins {
        match origin {
            Origin::Cluster { .. } | Origin::Directory { .. } => objects += 1,
            Origin::File { path, .. } => {
                files.insert(path_text(path.as_os_str()).into_owned());
            }
            Origin::Branch { branch, path, .. } => {
                files.insert(format!("{branch}:{path}"));
            }
        }
    }
    (objects, files.len())
}

fn apply_keys(needs: &mut BTreeMap<String, Need>, keys: KeysOfItems) {
    for (item, key) in keys {
        if let (Some(need), Some(key)) = (needs.get_mut(&item), key)
            && need.is_undecided()
        {
            *need = Need::from(key);
        }
    }
}

/// Returns the SealedSecrets in files and below directories. A SealedSecret without a namespace gets
/// the namespace of the rule for its file.
///
/// # Errors
///
/// Fails if a named file cannot be read or is not a manifest, or if a directory or the rules for a file cannot be read.
pub fn in_files(paths: &[PathBuf], notices: &mut dyn FnMut(Notice)) -> Result<Inventory> {
    let mut inventory = Inventory::default();
    if paths.is_empty() {
        return Ok(inventory);
    }
    inventory.unreadable.extend(missing::submodules(paths));
    let mut unreadable = Vec::new();
    let found = candidates(paths, &mut |notice| match unreadable_part(&notice) {
        Some(part) => unreadable.push(part),
        None => notices(notice),
    });
    inventory.unreadable.extend(unreadable);
    for Candidate { path, named } in found? {
        let location = location(&path);
        let bytes = match files::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if named => return Err(error.into()),
            Err(error) => {
                let why = error_chain(&error);
                inventory.unreadable.insert(Unreadable { location, why });
                continue;
            }
        };
        let contents = Contents::of_file(&path, &bytes, named);
        // Other unreadable parts of a file are recorded, and do not stop the command.
        if let Some(why) = contents.unreadable.first()
            && named
            && contents.is_malformed
        {
            bail!("{location}: {why}");
        }
        let namespace = rule_namespace(&path)?;
        inventory.add(contents, &location, namespace.as_ref(), |name| {
            Origin::File {
                path: path.clone(),
                name,
            }
        });
    }
    for path in paths.iter().filter(|path| path.is_dir()) {
        add_files_of_index(path, &mut inventory)?;
    }
    Ok(inventory)
}

/// Adds files below a directory that are in Git's index and not in the work tree.
fn add_files_of_index(directory: &Path, inventory: &mut Inventory) -> Result<()> {
    let files = || {
        let repository = Repository::discover(directory)?;
        let resolved = directory
            .canonicalize()
            .unwrap_or_else(|_| directory.to_owned());
        repository.files_only_in_index(&resolved, walk::is_manifest_name)
    };
    let files = match files() {
        Ok(files) => files,
        Err(GitError::NoRepository(_)) => return Ok(()),
        Err(error) => {
            let (location, why) = (location(directory), error_chain(&error));
            inventory.unreadable.insert(Unreadable { location, why });
            return Ok(());
        }
    };
    for (path, bytes) in files {
        let location = location(&path);
        let Some(bytes) = bytes else {
            let why = "in the index, but not fetched; fetch all objects with `git fetch --refetch --no-filter`".to_owned();
            inventory.unreadable.insert(Unreadable { location, why });
            continue;
        };
        let contents = Contents::of_file(&path, &bytes, false);
        let namespace = rule_namespace(&path)?;
        inventory.add(contents, &location, namespace.as_ref(), |name| {
            let path = files::relative_to_current_directory(&path);
            Origin::File { path, name }
        });
    }
    Ok(())
}

/// Returns the part of a directory that was not searched, if a notice reports one.
fn unreadable_part(notice: &Notice) -> Option<Unreadable> {
    match notice {
        Notice::Warning(_) => None,
        Notice::Unreadable { location, why } => Some(Unreadable {
            location: location.clone(),
            why: why.clone(),
        }),
        Notice::LinkOutside { link, target } => Some(Unreadable {
            location: location(link),
            why: format!(
                "not read: symbolic link that leads out of the tree, to {}",
                target.shown()
            ),
        }),
    }
}

/// Returns the name of a file for messages. A file below the current directory is always named by its path relative to
/// that directory, so that it is counted once.
fn location(path: &Path) -> String {
    let below = || {
        let here = std::env::current_dir().ok()?;
        let path = std::path::absolute(path).ok()?;
        Some(path.strip_prefix(here).ok()?.shown())
    };
    below().unwrap_or_else(|| path.shown())
}

/// Like [`walk::candidates`], but includes every manifest in a controller's `sealed` directory. The
/// controller reads these objects regardless of ignore files, so their keys are needed.
fn candidates(
    paths: &[PathBuf],
    notices: &mut dyn FnMut(Notice),
) -> Result<Vec<Candidate>, WalkError> {
    let (sealed_directories, other_paths): (Vec<_>, Vec<_>) =
        paths.iter().cloned().partition(|path| {
            let name = path.file_name();
            name.is_some_and(|name| name == "sealed") && path.is_dir()
        });
    let mut candidates = Vec::new();
    for directory in sealed_directories {
        candidates.extend(walk::all_manifests(&directory)?);
    }
    // Without paths, `candidates` would search the current directory.
    if !other_paths.is_empty() {
        candidates.extend(walk::candidates(&other_paths, notices)?);
    }
    Ok(walk::sort_candidates(candidates))
}

/// Returns the namespace that the rule in `.seal.yaml` sets for a file; `None` if no rule sets one.
pub(super) fn rule_namespace(path: &Path) -> Result<Option<String>> {
    let path = std::path::absolute(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let Some(rules) = RulesFile::find(directory)? else {
        return Ok(None);
    };
    let rules = RulesFile::read(&rules)?;
    Ok(rules
        .rule_for(&path)
        .and_then(|rule| rule.namespace.clone()))
}

impl Contents {
    /// Parses the bytes of a file, which the user named or which was found in a directory, branch or commit. Records a
    /// sealed value outside the SealedSecrets, in any file.
    pub(super) fn of_file(path: &Path, bytes: &Zeroizing<Vec<u8>>, is_named: bool) -> Self {
        let may_contain = walk::mentions(bytes, Kind::SealedSecret) || walk::may_hide_kind(bytes);
        let mut contents = match (is_named, may_contain) {
            (true, _) => Self::parse(path, bytes.clone()),
            (false, true) => Self::parse_discovered(path, bytes.clone()),
            (false, false) => Self::default(),
        };
        let sealed: Vec<&SealedSecret> = contents.sealed.iter().collect();
        if let Some(line) = loose::first_line_beside(bytes, &sealed) {
            contents.unreadable.push(if contents.unreadable.is_empty() {
                loose::remark(bytes, line)
            } else {
                // The value may belong to the SealedSecret that cannot be read.
                format!("line {line}: sealed value outside the SealedSecrets that can be read")
            });
        }
        contents
    }

    /// Parses a file as manifests, and records the reason for each part that cannot be read.
    pub fn parse(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Self {
        // The content is unknown until the template is rendered.
        let is_template = memchr::memmem::find(&bytes, b"{{").is_some();
        let why = |error: &dyn std::error::Error| {
            let why = error_chain(error);
            if is_template {
                format!("{TEMPLATE} ({why})")
            } else {
                why
            }
        };
        let mut contents = Self::default();
        match ManifestFile::parse_repeated(path, bytes) {
            Ok(file) => {
                let repeated = repeated::check(&file.bytes, &file.documents).err();
                contents
                    .unreadable
                    .extend(repeated.map(|error| error.problem()));
                file.sealed().for_each(|sealed| match sealed {
                    Ok(sealed) => contents.add(sealed),
                    Err(error) => contents.unreadable.push(why(&error)),
                });
            }
            Err(error) => {
                contents.is_malformed = true;
                contents.may_hide_objects = walk::has_unicode_line_break(&error);
                contents.unreadable.push(match error {
                    WalkError::Malformed { source, .. } => error_chain(&source),
                    error => error_chain(&error),
                });
            }
        }
        contents
    }

    /// Parses the bytes of a file that was found, not named by the user. Many templates contain a backslash or an
    /// exclamation mark, so these characters alone are no reason to report a malformed file.
    pub fn parse_discovered(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Self {
        let is_mentioned = walk::mentions(&bytes, Kind::SealedSecret);
        let bytes_to_check = (!is_mentioned).then(|| bytes.clone());
        let contents = Self::parse(path, bytes);
        let may_contain = || {
            bytes_to_check
                .is_none_or(|bytes| walk::has_well_formed_object(&bytes, Kind::SealedSecret))
        };
        if contents.is_malformed && !contents.may_hide_objects && !may_contain() {
            return Self::default();
        }
        contents
    }

    fn add(&mut self, sealed: SealedSecret) {
        let items = &sealed.spec.encrypted_data;
        if let Some((item, _)) = items.iter().find(|(_, text)| text.contains("{{")) {
            self.unreadable.push(format!("item {item}: {TEMPLATE}"));
        }
        if let Some(item) = v2::unreadable_item(&sealed) {
            let why =
                format!("item {item}: malformed v2 value, so the keys that it names are unknown");
            self.unreadable.push(why);
        }
        self.sealed.push(sealed);
    }
}

const TEMPLATE: &str = "a template; render it first";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::{SignedDuration, Timestamp};
    use shared::hints;
    use shared::key::{KeySize, KeySpec};
    use shared::key_ring::RingKey;

    use super::*;

    fn ring() -> (KeyRing, Fingerprint) {
        let spec = KeySpec {
            size: KeySize::Rsa2048,
            ttl: SignedDuration::from_hours(1),
            common_name: String::new(),
        };
        let now = Timestamp::UNIX_EPOCH;
        let generated = spec.generate(now, &mut shared::random::system()).unwrap();
        let fingerprint = generated.pair.fingerprint().clone();
        let key = RingKey::new("k".into(), now, generated.pair);
        (KeyRing::new([Arc::new(key)]), fingerprint)
    }

    /// Returns a SealedSecret that names this key. Its value has the form of a ciphertext for a key of 2048 bits, but
    /// no key decrypts it.
    fn holder(key: &Fingerprint) -> Holder {
        let bytes = [&[1, 0][..], &[7; 256], &[9; 20]].concat();
        let text = shared::base64::encode(&bytes);
        let manifest = format!(
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db}}\n\
             spec: {{encryptedData: {{a: '{text}'}}}}"
        );
        let mut sealed = contents(&manifest).sealed.remove(0);
        let annotations = sealed.metadata.annotations.get_or_insert_default();
        hints::annotate(annotations, &[("a".to_owned(), key.clone())].into());
        let (path, name) = (PathBuf::from("db.yaml"), "db".to_owned());
        Holder {
            origin: Origin::File { path, name },
            sealed,
        }
    }

    /// Attack: in an annotation, an author names a key that does not decrypt the value, so that the needed key appears
    /// to be unused.
    #[test]
    fn trusts_annotations_only_for_many_objects_and_if_requested() {
        let (ring, key) = ring();
        for (count, depth, unopened) in [
            (MAX_TO_DECRYPT, Depth::Unnamed, 0),
            (MAX_TO_DECRYPT + 1, Depth::Unnamed, MAX_TO_DECRYPT + 1),
            (MAX_TO_DECRYPT + 1, Depth::All, 0),
        ] {
            let holders: Vec<_> = (0..count).map(|_| holder(&key)).collect();
            let survey = Survey::run(&holders, &ring, depth, None);
            assert_eq!(survey.unopened, unopened, "{count} {depth:?}");
            let undecided = survey.undecided().len();
            assert_eq!(undecided, count - unopened, "{count} {depth:?}");
        }
    }

    fn contents(text: &str) -> Contents {
        Contents::parse(Path::new("x"), Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn records_what_cannot_be_read() {
        let head = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n";
        for (why, text, sealed, unreadable) in [
            (
                "well-formed",
                "metadata: {name: a}\nspec: {encryptedData: {a: AAAA}}",
                1,
                "",
            ),
            ("no YAML", "spec: [", 0, "line"),
            (
                "a spec of the wrong type",
                "spec: 1",
                0,
                "spec must be a mapping",
            ),
            (
                "a Helm template",
                "{{- if .Values.on }}\nspec: {}\n{{ end }}",
                0,
                "template; render it first",
            ),
            (
                "a template in YAML",
                "metadata: {name: {{ .x }}}",
                0,
                "template; render it first",
            ),
            (
                "a templated item",
                "spec: {encryptedData: {a: '{{ .Values.a }}'}}",
                1,
                TEMPLATE,
            ),
        ] {
            let contents = contents(&format!("{head}{text}\n"));
            assert_eq!(contents.sealed.len(), sealed, "{why}");
            assert_eq!(
                contents.unreadable.len(),
                usize::from(!unreadable.is_empty()),
                "{why}: {contents:?}"
            );
            assert!(
                contents
                    .unreadable
                    .iter()
                    .all(|why| why.contains(unreadable)),
                "{why}: {contents:?}"
            );
        }
    }

    #[test]
    fn a_named_file_stops_a_survey_only_if_it_is_not_a_manifest() {
        let directory = tempfile::tempdir().unwrap();
        let head = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n";
        for (why, text, unreadable) in [
            (
                "templated",
                "spec: {encryptedData: {a: '{{ .Values.a }}'}}",
                Some(1),
            ),
            ("a spec of the wrong type", "spec: 1", Some(1)),
            ("no YAML", "spec: [", None),
        ] {
            let path = directory.path().join("db.yaml");
            std::fs::write(&path, format!("{head}{text}\n")).unwrap();
            let inventory = in_files(&[path], &mut |_| ()).ok();
            assert_eq!(
                inventory.map(|inventory| inventory.unreadable.len()),
                unreadable,
                "{why}"
            );
        }
    }
}
