//! The key Secrets of a cluster or of a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value as Json, json};
use shared::manifest::{self, Reading};
use shared::resource::{KEY_LABEL, SealedSecret};
use shared::secret::Secret;

use super::folder;
use super::record::{KeyRecord, LEGACY_NAME};
use super::survey::{Found, Holder, Origin};
use crate::cluster::{Access, Created, Objects};
use crate::report::ShowPath as _;
use shared::names;

/// Where keys are.
#[allow(clippy::large_enum_variant, reason = "there is one in a run")]
pub enum KeyStore {
    /// Secrets in the namespace of a controller.
    Cluster {
        /// The API server.
        objects: Box<Objects>,
        /// The namespace.
        namespace: String,
    },
    /// Manifests in a folder.
    Folder {
        /// The folder of the key manifests.
        keys: PathBuf,
        /// The folder of the SealedSecrets that the keys are for, if there is one.
        sealed: Option<PathBuf>,
    },
}

/// A change of metadata. `None` takes out what is there.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Annotations.
    pub annotations: Vec<(&'static str, Option<String>)>,
    /// Labels.
    pub labels: Vec<(&'static str, Option<String>)>,
}

impl Change {
    /// Sets one annotation.
    pub fn annotation(name: &'static str, value: String) -> Self {
        Self {
            annotations: vec![(name, Some(value))],
            labels: Vec::new(),
        }
    }

    /// Sets one label.
    pub fn label(name: &'static str, value: &str) -> Self {
        Self {
            annotations: Vec::new(),
            labels: vec![(name, Some(value.to_owned()))],
        }
    }

    /// Makes the change in metadata.
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

    /// As a merge patch of the object whose metadata were read, and of no later version of it.
    fn patch(&self, record: &KeyRecord) -> Json {
        let map = |entries: &[(&'static str, Option<String>)]| -> Map<String, Json> {
            let entry =
                |(name, value): &(&'static str, Option<String>)| ((*name).into(), json!(value));
            entries.iter().map(entry).collect()
        };
        json!({ "metadata": {
            "resourceVersion": record.secret.metadata.resource_version,
            "uid": record.secret.metadata.uid,
            "annotations": map(&self.annotations),
            "labels": map(&self.labels),
        }})
    }
}

/// What became of a key that was to be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Restored,
    /// It was there.
    WasThere,
}

const READ_KEYS: &str = "cannot read the key Secrets";

impl KeyStore {
    /// The keys of a cluster, in the controller's namespace.
    ///
    /// # Errors
    ///
    /// The kubeconfig cannot be used.
    pub fn cluster(access: &Access) -> Result<Self> {
        Ok(Self::Cluster {
            objects: Box::new(Objects::connect(access)?),
            namespace: access.namespace.clone(),
        })
    }

    /// The keys of a folder: that of a controller, with `keys` and `sealed` in it, or one of key
    /// manifests alone. An empty folder is one for a controller, which looks for keys in `keys`.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn folder(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            bail!("{} is not a folder", folder.shown());
        }
        let (keys, sealed) = (folder.join("keys"), folder.join("sealed"));
        Ok(Self::Folder {
            keys: if keys.is_dir() || sealed.is_dir() || is_new(folder) {
                keys
            } else {
                folder.to_owned()
            },
            sealed: sealed.is_dir().then_some(sealed),
        })
    }

    /// For messages.
    pub fn place(&self) -> String {
        match self {
            Self::Cluster { namespace, .. } => format!("the namespace {namespace}"),
            Self::Folder { keys, .. } => keys.shown(),
        }
    }

    /// Every key Secret, in order of age and then of name; those that cannot be used come first.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn read(&self) -> Result<Vec<KeyRecord>> {
        let mut records = match self {
            Self::Cluster { objects, namespace } => read_cluster(objects, namespace)?,
            Self::Folder { keys, .. } if !keys.is_dir() => Vec::new(),
            Self::Folder { keys, .. } => folder::read(keys)?,
        };
        records.sort_by(|a, b| {
            let order = |r: &KeyRecord| (r.facts.order_time, r.name().to_owned());
            order(a).cmp(&order(b))
        });
        Ok(records)
    }

    /// Changes the metadata of a key Secret, if it still is as it was read.
    ///
    /// # Errors
    ///
    /// It changed since, or cannot be written.
    pub fn change(&self, record: &KeyRecord, change: &Change) -> Result<()> {
        match (self, &record.file) {
            (Self::Cluster { objects, namespace }, _) => {
                let path = format!("{}/{}", secrets_path(namespace), record.name());
                objects.merge("cannot mark the key Secret", &path, &change.patch(record))?;
            }
            (Self::Folder { .. }, Some(file)) => folder::change(file, record.name(), change)?,
            (Self::Folder { .. }, None) => bail!("the key {} is in no file", record.name()),
        }
        Ok(())
    }

    /// Can a key of this name be stored, as far as can be told before?
    ///
    /// # Errors
    ///
    /// Something else is in its place, or nothing can have that name there.
    pub fn check_place(&self, name: &str) -> Result<()> {
        names::check_object(name)?;
        match self {
            // The API server refuses to create what is there.
            Self::Cluster { .. } => Ok(()),
            Self::Folder { keys, .. } => folder::place_for(keys, name).map(drop),
        }
    }

    /// Stores a key that is not there yet, as it is: see [`super::restored`].
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn put(&self, secret: &Secret) -> Result<Put> {
        match self {
            Self::Cluster { objects, namespace } => {
                let mut secret = secret.clone();
                secret.metadata.namespace = Some(namespace.clone());
                let body = secret.to_document().to_string().into_bytes();
                let path = secrets_path(namespace);
                match objects.create("cannot store the key", &path, body)? {
                    Created::Created => Ok(Put::Restored),
                    Created::Exists => Ok(Put::WasThere),
                }
            }
            Self::Folder { keys, .. } => {
                std::fs::create_dir_all(keys)
                    .with_context(|| format!("cannot make {}", keys.shown()))?;
                folder::write(keys, secret)?;
                Ok(Put::Restored)
            }
        }
    }

    /// Is it known which SealedSecrets the keys are for? Not in a folder of key manifests alone.
    pub fn knows_sealed(&self) -> bool {
        !matches!(self, Self::Folder { sealed: None, .. })
    }

    /// The SealedSecrets that the controller of these keys looks after. In a cluster those of some
    /// namespaces, or of all if none is named.
    ///
    /// # Errors
    ///
    /// They cannot all be read.
    pub fn sealed(&self, namespaces: &[String]) -> Result<Found> {
        match self {
            Self::Cluster { objects, .. } => Ok(Found {
                holders: sealed_in_cluster(objects, namespaces)?,
                ..Found::default()
            }),
            Self::Folder {
                sealed: Some(sealed),
                ..
            } => sealed_in_folder(sealed),
            Self::Folder { sealed: None, .. } => Ok(Found::default()),
        }
    }
}

/// Is nothing in it yet? One that is called `keys` is that of a controller already.
fn is_new(folder: &Path) -> bool {
    let is_empty = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    is_empty && folder.file_name().is_none_or(|name| name != "keys")
}

fn secrets_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

fn read_cluster(objects: &Objects, namespace: &str) -> Result<Vec<KeyRecord>> {
    let path = format!("{}?labelSelector={KEY_LABEL}", secrets_path(namespace));
    let mut records = Vec::new();
    for page in objects.list(READ_KEYS, &path)? {
        records.extend(folder::secrets(&page)?);
    }
    let legacy = format!("{}/{LEGACY_NAME}", secrets_path(namespace));
    if let Some(bytes) = objects.get(READ_KEYS, &legacy)? {
        let legacy = folder::secrets(&bytes)?;
        let is_new = |secret: &Secret| {
            records
                .iter()
                .all(|r| r.metadata.name != secret.metadata.name)
        };
        let new: Vec<Secret> = legacy.into_iter().filter(is_new).collect();
        records.extend(new);
    }
    Ok(records
        .into_iter()
        .map(|secret| KeyRecord::new(secret, None))
        .collect())
}

fn sealed_in_folder(folder: &Path) -> Result<Found> {
    let mut found = super::survey::in_files(&[folder.to_owned()])?;
    for holder in &mut found.holders {
        if let Origin::File { path, name } = holder.origin.clone() {
            holder.origin = Origin::Folder { path, name };
        }
    }
    Ok(found)
}

fn sealed_in_cluster(objects: &Objects, namespaces: &[String]) -> Result<Vec<Holder>> {
    let api = "/apis/bitnami.com/v1alpha1";
    let paths = if namespaces.is_empty() {
        vec![format!("{api}/sealedsecrets")]
    } else {
        let path = |namespace| format!("{api}/namespaces/{namespace}/sealedsecrets");
        namespaces.iter().map(path).collect()
    };
    let mut found = Vec::new();
    for path in paths {
        for page in objects.list("cannot list the SealedSecrets", &path)? {
            for document in manifest::read(&page)? {
                for node in document.root.list_items(&["SealedSecretList"]) {
                    let sealed = SealedSecret::from_node(node, &mut Reading::default())?;
                    let origin = Origin::Cluster {
                        namespace: sealed.namespace_or_empty().to_owned(),
                        name: sealed.name_or_empty().to_owned(),
                    };
                    found.push(Holder { origin, sealed });
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_gets_its_keys_where_a_controller_looks_for_them() {
        let root = tempfile::tempdir().unwrap();
        for (why, folder, entry, keys) in [
            ("empty", "a", None, "a/keys"),
            ("empty, and for keys", "keys", None, "keys"),
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
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            if let Some(entry) = entry.map(|entry| root.path().join(entry)) {
                std::fs::create_dir_all(entry.parent().unwrap()).unwrap();
                std::fs::write(entry, "").unwrap();
            }
            let store = KeyStore::folder(&root.path().join(folder)).unwrap();
            assert_eq!(
                store.place(),
                root.path().join(keys).display().to_string(),
                "{why}"
            );
        }
    }
}
