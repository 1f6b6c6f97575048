//! The key Secrets in a cluster or directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value as Json, json};
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_secret;
use shared::manifest::{self, Node, Reading};
use shared::resource::{KEY_ACTIVE, KEY_LABEL, KEY_RETIRED, SealedSecret, V2_KEY_LABEL};
use shared::secret::Secret;
use shared::v2::KeyId;

use super::directory;
use super::record::{KeyRecord, LEGACY_NAME};
use super::survey::{Holder, Inventory, Origin, Unreadable};
use super::v2::{self, V2KeyRecord};
use crate::cluster::{Access, ApiPath, ClusterError, Clusters, CreateOutcome, Objects};
use crate::files;
use crate::notice::Notice;
use crate::shown::ShowPath as _;
use shared::names;

/// The API group of SealedSecrets, with its version.
const GROUP: &str = "/apis/bitnami.com/v1alpha1";
const ALL_SEALED_SECRETS: &str = "/apis/bitnami.com/v1alpha1/sealedsecrets";

/// A cluster or a directory that contains key Secrets.
#[allow(clippy::large_enum_variant, reason = "a run has only one store")]
pub enum KeyStore {
    /// Secrets in the controller's namespace.
    Cluster {
        /// The client of the API server.
        objects: Box<Objects>,
        /// The controller's namespace.
        namespace: String,
    },
    /// Manifests in a directory.
    Directory {
        /// The directory of the key manifests.
        keys: PathBuf,
        /// The directory of the SealedSecrets that these keys unseal; `None` if there is none.
        sealed: Option<PathBuf>,
    },
}

/// A change to metadata. `None` removes an entry.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Changes to annotations.
    pub annotations: Vec<(&'static str, Option<String>)>,
    /// Changes to labels.
    pub labels: Vec<(&'static str, Option<String>)>,
}

impl Change {
    /// Returns a change that sets one annotation.
    pub fn annotation(name: &'static str, value: String) -> Self {
        Self {
            annotations: vec![(name, Some(value))],
            labels: Vec::new(),
        }
    }

    /// Returns a change that sets one label.
    pub fn label(name: &'static str, value: &str) -> Self {
        Self {
            annotations: Vec::new(),
            labels: vec![(name, Some(value.to_owned()))],
        }
    }

    /// Applies the change to an object's metadata.
    pub fn apply(&self, metadata: &mut Json) {
        for (field, entries) in [("annotations", &self.annotations), ("labels", &self.labels)] {
            for (name, value) in entries {
                if !metadata[field].is_object() {
                    metadata[field] = json!({});
                }
                match (value, metadata[field].as_object_mut()) {
                    (Some(value), Some(map)) => drop(map.insert((*name).into(), json!(value))),
                    (None, Some(map)) => drop(map.remove(*name)),
                    _ => {}
                }
            }
        }
    }

    /// Returns the change as a merge patch. The API server rejects the patch if the object was
    /// modified or recreated since it was read.
    fn patch(&self, secret: &Secret) -> Json {
        let map = |entries: &[(&'static str, Option<String>)]| -> Map<String, Json> {
            let entry =
                |(name, value): &(&'static str, Option<String>)| ((*name).into(), json!(value));
            entries.iter().map(entry).collect()
        };
        json!({ "metadata": {
            "resourceVersion": secret.metadata.resource_version,
            "uid": secret.metadata.uid,
            "annotations": map(&self.annotations),
            "labels": map(&self.labels),
        }})
    }
}

/// The outcome of restoring a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// The key was stored.
    Restored,
    /// A Secret of that name already existed, and is unchanged.
    Existed,
}

const READ_KEYS_FAILED: &str = "cannot read the key Secrets";

impl KeyStore {
    /// Opens the keys in a cluster, in the controller's namespace.
    ///
    /// # Errors
    ///
    /// Fails if the kubeconfig, the flags or the credentials cannot be used.
    pub fn cluster(access: &Access, clusters: &Clusters<'_>) -> Result<Self> {
        Ok(Self::Cluster {
            objects: Box::new(Objects::connect(access, clusters)?),
            namespace: access.namespace.clone(),
        })
    }

    /// Opens the keys in a directory: a controller's directory with a subdirectory `keys` or `sealed`, or a directory
    /// of key manifests only. An empty directory counts as a controller's directory, with the keys in `keys`, unless it
    /// is itself named `keys`.
    ///
    /// # Errors
    ///
    /// Fails if the path does not name a directory.
    pub fn directory(directory: &Path) -> Result<Self> {
        if !directory.is_dir() {
            let problem = if directory.exists() {
                "is not a directory"
            } else {
                "does not exist"
            };
            bail!(
                "the directory {} {problem}\nhint: pass the directory of a controller's state, or of key manifests",
                directory.shown()
            );
        }
        let (keys, sealed) = (directory.join("keys"), directory.join("sealed"));
        Ok(Self::Directory {
            keys: if keys.is_dir() || sealed.is_dir() || is_new_controller_directory(directory) {
                keys
            } else {
                directory.to_owned()
            },
            sealed: sealed.is_dir().then_some(sealed),
        })
    }

    /// Describes the location, for messages.
    pub fn location(&self) -> String {
        match self {
            Self::Cluster { namespace, .. } => format!("the namespace {namespace}"),
            Self::Directory { keys, .. } => keys.shown(),
        }
    }

    /// Returns every key Secret of v2, oldest first and then by name. Secrets without a usable key come first.
    ///
    /// # Errors
    ///
    /// Fails if the Secrets cannot be read.
    pub fn read_v2(&self) -> Result<Vec<V2KeyRecord>> {
        let records = match self {
            Self::Cluster { objects, namespace } => {
                list_in_cluster(objects, namespace, V2_KEY_LABEL)?
            }
            Self::Directory { keys, .. } if !keys.is_dir() => Vec::new(),
            Self::Directory { keys, .. } => directory::read(keys)?,
        };
        let records = records.into_iter();
        let records = records.filter(|record| v2::is_v2(&record.secret));
        let records = records.map(|record| V2KeyRecord::new(record.secret, record.file));
        let mut records: Vec<V2KeyRecord> = records.collect();
        records.sort_by_key(|record| (record.not_before(), record.name().to_owned()));
        Ok(records)
    }

    /// Returns every key Secret of an RSA key, oldest first and then by name. Secrets without a usable key come first.
    ///
    /// # Errors
    ///
    /// Fails if the Secrets cannot be read.
    pub fn read(&self) -> Result<Vec<KeyRecord>> {
        let mut records = match self {
            Self::Cluster { objects, namespace } => read_cluster(objects, namespace)?,
            Self::Directory { keys, .. } if !keys.is_dir() => Vec::new(),
            Self::Directory { keys, .. } => directory::read(keys)?,
        };
        records.retain(|record| !v2::is_v2(&record.secret));
        records.sort_by(|a, b| {
            let order = |r: &KeyRecord| (r.properties.order_time, r.name().to_owned());
            order(a).cmp(&order(b))
        });
        Ok(records)
    }

    /// Changes the metadata of a key Secret. In a cluster, the Secret must be unchanged since it was read.
    ///
    /// # Errors
    ///
    /// Fails if the Secret was removed, was changed in a cluster, or cannot be written.
    pub fn change(&self, record: &KeyRecord, change: &Change) -> Result<()> {
        self.change_secret(&record.secret, record.file.as_deref(), change)
    }

    /// Like [`Self::change`], for a Secret with any kind of key. `file` is the path of its manifest in a directory.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::change`].
    pub fn change_secret(
        &self,
        secret: &Secret,
        file: Option<&Path>,
        change: &Change,
    ) -> Result<()> {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        match (self, file) {
            (Self::Cluster { objects, namespace }, _) => {
                let path = secrets_path(namespace)?.object(name)?;
                objects.merge("cannot mark the key Secret", &path, &change.patch(secret))?;
            }
            (Self::Directory { .. }, Some(file)) => directory::change(file, name, change)?,
            (Self::Directory { .. }, None) => {
                bail!("the key {name} is not stored in a file, so its marks cannot be changed")
            }
        }
        Ok(())
    }

    /// Checks, as far as possible in advance, whether a key can be stored under this name. The caller knows the keys in
    /// the store, and passes a name that none of them has.
    ///
    /// # Errors
    ///
    /// Fails if another object has this name, such as a key Secret in a cluster whose label was removed, or if the name
    /// is not valid.
    pub fn check_new_key_name(&self, name: &str, key: NewKey<'_>) -> Result<()> {
        names::check_object(name)?;
        match self {
            Self::Cluster { objects, namespace } => {
                let path = secrets_path(namespace)?.object(name)?;
                let Some(bytes) = objects.get("cannot read the Secret", &path)? else {
                    return Ok(());
                };
                let records = parse_records(&bytes)?;
                let is_same = records.into_iter().any(|record| key.is_in(record));
                bail!(name_conflict(namespace, name, is_same.then(|| key.label())))
            }
            Self::Directory { keys, .. } => directory::path_for_new_key(keys, name).map(drop),
        }
    }

    /// Stores a new key. In a cluster, the Secret is created in the controller's namespace and is otherwise unchanged;
    /// see [`super::restored`].
    ///
    /// # Errors
    ///
    /// Fails if the key cannot be written, or if a file of its name exists. An existing Secret in a cluster is not an
    /// error.
    pub fn put(&self, secret: &Secret) -> Result<RestoreOutcome> {
        match self {
            Self::Cluster { objects, namespace } => {
                let mut secret = secret.clone();
                secret.metadata.namespace = Some(namespace.clone());
                let body = secret.to_document().to_string().into_bytes();
                let path = secrets_path(namespace)?;
                match objects.create("cannot store the key", &path, body)? {
                    CreateOutcome::Created => Ok(RestoreOutcome::Restored),
                    CreateOutcome::Exists => Ok(RestoreOutcome::Existed),
                }
            }
            Self::Directory { keys, .. } => {
                files::check_inside_tree(keys)?;
                std::fs::create_dir_all(keys)
                    .with_context(|| format!("cannot create {}", keys.shown()))?;
                directory::write(keys, secret)?;
                Ok(RestoreOutcome::Restored)
            }
        }
    }

    /// Returns whether the store also contains the SealedSecrets that need its keys. `false` for a
    /// directory that contains only key manifests.
    pub fn has_sealed_secrets(&self) -> bool {
        !matches!(self, Self::Directory { sealed: None, .. })
    }

    /// Returns the SealedSecrets of the controller that uses the keys of the store. In a cluster, only those in
    /// `namespaces`, unless it is empty.
    ///
    /// # Errors
    ///
    /// Fails if the cluster or a directory cannot be read.
    pub fn sealed(
        &self,
        namespaces: &[String],
        notices: &mut dyn FnMut(Notice),
    ) -> Result<Inventory> {
        match self {
            Self::Cluster { objects, .. } => sealed_in_cluster(objects, namespaces),
            Self::Directory {
                sealed: Some(sealed),
                ..
            } => sealed_in_directory(sealed, notices),
            Self::Directory { sealed: None, .. } => Ok(Inventory::default()),
        }
    }
}

/// The key in a Secret to store.
#[derive(Debug, Clone, Copy)]
pub enum NewKey<'a> {
    /// An RSA key, by its fingerprint; `None` if the Secret contains no usable key.
    Rsa(Option<&'a Fingerprint>),
    /// A key that is only for v2.
    V2(KeyId),
}

impl NewKey<'_> {
    /// Returns whether an existing Secret contains this key.
    fn is_in(self, record: KeyRecord) -> bool {
        match self {
            Self::Rsa(key) => key.is_some() && record.fingerprint() == key,
            Self::V2(id) => V2KeyRecord::new(record.secret, None).key_id() == Some(id),
        }
    }

    /// Returns the label that marks a Secret with such a key.
    fn label(self) -> &'static str {
        match self {
            Self::Rsa(_) => KEY_LABEL,
            Self::V2(_) => V2_KEY_LABEL,
        }
    }
}

/// Returns the error for an existing Secret that has the name of the key to store and lacks the label of a key. `label`
/// is the missing label if the Secret contains the same key.
fn name_conflict(namespace: &str, name: &str, label: Option<&str>) -> String {
    if let Some(label) = label {
        let command = format!("kubectl label secret -n {namespace} {name} {label}");
        format!(
            "the Secret {namespace}/{name} contains this key, but has no label {label}, so controllers do not use it; \
             nothing was changed\n\
             hint: activate the key with `{command}={KEY_ACTIVE}` (the key then seals if it is the newest), or \
             retire the key with `{command}={KEY_RETIRED}`; then run the command again"
        )
    } else {
        format!(
            "another Secret already has the name {namespace}/{name}; nothing was changed\n\
             hint: rename one of the two, or restore into another namespace"
        )
    }
}

/// Returns whether the directory is empty and not named `keys`. A directory named `keys` counts as part of a
/// controller's directory.
fn is_new_controller_directory(directory: &Path) -> bool {
    let is_empty = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    is_empty && directory.file_name().is_none_or(|name| name != "keys")
}

fn secrets_path(namespace: &str) -> Result<ApiPath, ClusterError> {
    ApiPath::namespaced("/api/v1", namespace, "secrets")
}

fn list_in_cluster(
    objects: &Objects,
    namespace: &str,
    label: &'static str,
) -> Result<Vec<KeyRecord>> {
    let path = secrets_path(namespace)?.parameter("labelSelector", label);
    let mut records = Vec::new();
    for page in objects.list(READ_KEYS_FAILED, &path)? {
        records.extend(parse_records(&page)?);
    }
    Ok(records)
}

fn read_cluster(objects: &Objects, namespace: &str) -> Result<Vec<KeyRecord>> {
    let mut records = list_in_cluster(objects, namespace, KEY_LABEL)?;
    let legacy = secrets_path(namespace)?.object(LEGACY_NAME)?;
    if let Some(bytes) = objects.get(READ_KEYS_FAILED, &legacy)? {
        let legacy = parse_records(&bytes)?;
        let is_new = |record: &KeyRecord| records.iter().all(|r| r.name() != record.name());
        let new: Vec<KeyRecord> = legacy.into_iter().filter(is_new).collect();
        records.extend(new);
    }
    Ok(records)
}

/// Returns the key Secrets of a response. A Secret that cannot be read is recorded as unreadable.
fn parse_records(page: &[u8]) -> Result<Vec<KeyRecord>> {
    let mut records = Vec::new();
    for document in manifest::read(page)? {
        for node in key_secret::objects(&document.root) {
            if node.field("data").is_some() {
                records.push(parse_record(node));
            }
        }
    }
    Ok(records)
}

fn parse_record(node: &Node) -> KeyRecord {
    match Secret::from_node(node, &mut Reading::default()) {
        Ok(secret) => KeyRecord::new(secret, None),
        Err(error) => {
            let metadata = node.field("metadata");
            let name = metadata.and_then(|metadata| metadata.text("name"));
            KeyRecord::unreadable(name.unwrap_or_default(), &error_chain(&error))
        }
    }
}

fn sealed_in_directory(directory: &Path, notices: &mut dyn FnMut(Notice)) -> Result<Inventory> {
    let mut inventory = super::survey::in_files(&[directory.to_owned()], notices)?;
    for holder in &mut inventory.holders {
        if let Origin::File { path, name } = holder.origin.clone() {
            holder.origin = Origin::Directory { path, name };
        }
    }
    Ok(inventory)
}

/// Returns the SealedSecrets in the cluster. A malformed object is recorded, so that it does not stop the survey.
fn sealed_in_cluster(objects: &Objects, namespaces: &[String]) -> Result<Inventory> {
    let paths = if namespaces.is_empty() {
        vec![ApiPath::fixed(ALL_SEALED_SECRETS)]
    } else {
        let path = |namespace: &String| ApiPath::namespaced(GROUP, namespace, "sealedsecrets");
        namespaces.iter().map(path).collect::<Result<_, _>>()?
    };
    let mut inventory = Inventory::default();
    for path in paths {
        for page in objects.list("cannot list the SealedSecrets", &path)? {
            for document in manifest::read(&page)? {
                for node in document.root.list_items(&["SealedSecretList"]) {
                    add_sealed_secret(node, &mut inventory);
                }
            }
        }
    }
    Ok(inventory)
}

fn add_sealed_secret(node: &Node, inventory: &mut Inventory) {
    match SealedSecret::from_node(node, &mut Reading::default()) {
        Ok(sealed) => {
            let origin = Origin::Cluster {
                namespace: sealed.namespace_or_empty().to_owned(),
                name: sealed.name_or_empty().to_owned(),
            };
            inventory.holders.push(Holder { origin, sealed });
        }
        Err(error) => {
            let field = |name| {
                node.field("metadata")
                    .and_then(|metadata| metadata.text(name))
            };
            let (namespace, name) = (field("namespace"), field("name"));
            let location = format!(
                "SealedSecret {}/{} in the cluster",
                namespace.unwrap_or_default(),
                name.unwrap_or_default()
            );
            let why = error_chain(&error);
            inventory.unreadable.insert(Unreadable { location, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_a_malformed_object_in_the_cluster() {
        let mut inventory = Inventory::default();
        for spec in [
            "{encryptedData: {a: AgB}}",
            "{encryptedData: [x]}",
            "{encryptedData: {a: 5}}",
            "[]",
        ] {
            let text = format!(
                "metadata: {{name: n{}, namespace: ns}}\nspec: {spec}",
                spec.len()
            );
            let documents = manifest::read(text.as_bytes()).unwrap();
            add_sealed_secret(&documents[0].root, &mut inventory);
        }
        assert_eq!(inventory.holders.len(), 1);
        let locations: Vec<&str> = inventory
            .unreadable
            .iter()
            .map(|unreadable| unreadable.location.as_str())
            .collect();
        let want =
            ["n2", "n20", "n23"].map(|name| format!("SealedSecret ns/{name} in the cluster"));
        assert_eq!(locations, want);
    }

    /// Attack: a client that may write key Secrets makes one of them unreadable, so that the key commands fail for all.
    #[test]
    fn lists_an_unreadable_key_secret_with_the_others() {
        let metadata = [
            "{name: odd, creationTimestamp: soon}",
            "{name: odd, finalizers: 5}",
            "{name: odd, ownerReferences: [5]}",
            "{name: odd, labels: [5]}",
        ];
        for metadata in metadata {
            let page = format!(
                "kind: SecretList\nitems:\n- {{metadata: {{name: a}}, data: {{}}}}\n- {{metadata: {metadata}, data: {{}}}}\n\
                 - {{metadata: {{name: z, creationTimestamp: '9999-12-31T23:59:59Z'}}, data: {{}}}}"
            );
            let records = parse_records(page.as_bytes()).unwrap();
            let names: Vec<_> = records.iter().map(|r| (r.name(), r.is_readable)).collect();
            assert_eq!(
                names,
                [("a", true), ("odd", false), ("z", true)],
                "{metadata}"
            );
        }
    }

    #[test]
    fn puts_keys_where_a_controller_reads_them() {
        let root = tempfile::tempdir().unwrap();
        for (why, directory, entry, keys) in [
            ("empty", "a", None, "a/keys"),
            ("empty, and named keys", "keys", None, "keys"),
            ("key manifests", "b", Some("b/key.yaml"), "b"),
            ("something else", "c", Some("c/notes"), "c"),
            ("of a controller", "d", Some("d/keys/key.yaml"), "d/keys"),
            (
                "of a controller without keys",
                "e",
                Some("e/sealed/db.yaml"),
                "e/keys",
            ),
        ] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
            if let Some(entry) = entry.map(|entry| root.path().join(entry)) {
                std::fs::create_dir_all(entry.parent().unwrap()).unwrap();
                std::fs::write(entry, "").unwrap();
            }
            let store = KeyStore::directory(&root.path().join(directory)).unwrap();
            assert_eq!(
                store.location(),
                root.path().join(keys).display().to_string(),
                "{why}"
            );
        }
    }
}
