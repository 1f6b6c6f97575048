//! Reads and writes key manifests in files, for example in a controller's directory.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value as Json;
use shared::key_secret;
use shared::manifest::{self, Reading, Shape};
use shared::secret::Secret;
use zeroize::Zeroizing;

use super::record::KeyRecord;
use super::store::Change;
use crate::files;
use crate::shown::ShowPath as _;
use crate::walk;

/// Returns the Secrets with `data` in the manifests below a directory, sorted by path. A Secret without a name gets the
/// name of its file. Other objects are skipped. Ignore files have no effect, since the controller reads the files that
/// they exclude.
///
/// # Errors
///
/// Fails if the directory or a file cannot be read, or a file is malformed.
pub fn read(directory: &Path) -> Result<Vec<KeyRecord>> {
    let mut records = Vec::new();
    for candidate in walk::all_manifests(directory)? {
        let bytes = files::read(&candidate.path)?;
        let secrets = secrets(&bytes).with_context(|| candidate.path.shown())?;
        for mut secret in secrets {
            if secret.metadata.name.is_none() {
                secret.metadata.name = Some(stem(&candidate.path));
            }
            records.push(KeyRecord::new(secret, Some(candidate.path.clone())));
        }
    }
    Ok(records)
}

/// Returns the Secrets with `data` among the objects of some manifests. An object without a kind counts as a Secret.
///
/// # Errors
///
/// Fails if a manifest or a Secret is malformed.
pub fn secrets(bytes: &[u8]) -> Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for document in manifest::read(bytes)? {
        for node in key_secret::objects(&document.root) {
            // Items of a list from the API have no `kind`.
            let is_secret = matches!(node.text("kind"), None | Some("" | "Secret"));
            if is_secret && node.field("data").is_some() {
                secrets.push(Secret::from_node(node, &mut Reading::default())?);
            }
        }
    }
    Ok(secrets)
}

/// Changes the metadata of one Secret in its file. All other fields keep their values; comments are lost, and the
/// layout may change.
///
/// # Errors
///
/// Fails if the file cannot be read or written, or no longer contains the Secret.
pub fn change(path: &Path, name: &str, change: &Change) -> Result<()> {
    // Temporary files of a killed run contain private keys.
    files::remove_leftovers_beside(path);
    files::update(path, |bytes| change_manifests(path, bytes, name, change))
}

fn change_manifests(
    path: &Path,
    bytes: &[u8],
    name: &str,
    change: &Change,
) -> Result<Zeroizing<Vec<u8>>> {
    let mut documents = Vec::new();
    for document in manifest::read(bytes)? {
        documents.push(Reading::default().json(&document.root, Shape::Any)?);
    }
    let default_name = stem(path);
    let is_found = documents
        .iter_mut()
        .any(|document| change_object(document, name, &default_name, change));
    if !is_found {
        bail!(
            "{} no longer contains the Secret {name}\nhint: another program changed the file; run the command again",
            path.shown()
        );
    }
    let format = if manifest::begins_like_json(bytes) {
        crate::format::Format::Json
    } else {
        crate::format::Format::Yaml
    };
    Ok(crate::format::write(&documents, format))
}

fn change_object(object: &mut Json, name: &str, default_name: &str, change: &Change) -> bool {
    if let Some(items) = object.get_mut("items").and_then(Json::as_array_mut) {
        return items
            .iter_mut()
            .any(|item| change_object(item, name, default_name, change));
    }
    let object_name = object["metadata"]["name"].as_str().unwrap_or(default_name);
    if object_name != name {
        return false;
    }
    change.apply(&mut object["metadata"]);
    true
}

/// Returns the path of the file for a new key of this name.
///
/// # Errors
///
/// Fails if no file can have that name, or if the file exists. An existing file does not contain the key, since callers
/// look for an existing key first.
pub fn path_for_new_key(directory: &Path, name: &str) -> Result<PathBuf> {
    if !is_file_name(name) {
        bail!(
            "the name of the key {name:?} cannot be the name of a file in {}: it must not begin with a dot or contain \
             a slash\nhint: rename the key in its manifest",
            directory.shown()
        );
    }
    let path = directory.join(format!("{name}.yaml"));
    if path.symlink_metadata().is_ok() {
        bail!(
            "{} exists but does not contain the key {name}\nhint: rename that file",
            path.shown()
        );
    }
    Ok(path)
}

/// Returns whether a key in a directory can have this name. The name need not be a valid Kubernetes name, but
/// becomes a file name, so it must not lead to another directory or a hidden file.
fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_single = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(part)), None) if part == name
    );
    is_single && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// Writes a key to a new file.
///
/// # Errors
///
/// Fails if no file can have the name of the key, or if the file exists or cannot be written.
pub fn write(directory: &Path, secret: &Secret) -> Result<()> {
    let path = path_for_new_key(
        directory,
        secret.metadata.name.as_deref().unwrap_or_default(),
    )?;
    let text = Zeroizing::new(manifest::to_yaml(&secret.to_document()));
    files::remove_leftovers_beside(&path);
    Ok(files::create(&path, text.as_bytes())?)
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_keys_of_backups_by_other_tools() {
        let key = r#""data":{"tls.key":"eA=="}"#;
        for (name, text) in [
            ("as client-go marshals", format!(r#"{{"metadata":{{}},"items":[{{{key}}}]}}"#)),
            (
                "as client-go marshals, in YAML",
                "metadata: {resourceVersion: '42'}\nitems:\n- metadata: {creationTimestamp: null}\n  \
                 data: {tls.key: eA==}\n"
                    .to_owned(),
            ),
            (
                "without kind, with items that have both fields",
                format!(r#"{{"items":[{{"kind":"Secret","apiVersion":"v1",{key}}}]}}"#),
            ),
            (
                "empty kind and apiVersion",
                format!(
                    r#"{{"kind":"","apiVersion":"","items":[{{"kind":"","apiVersion":"",{key}}}]}}"#
                ),
            ),
            (
                "kind is null",
                format!(r#"{{"kind":null,"apiVersion":null,"items":[{{"kind":null,{key}}}]}}"#),
            ),
            (
                "without apiVersion",
                format!(r#"{{"kind":"List","items":[{{"kind":"Secret",{key}}}]}}"#),
            ),
            (
                "after a separator and a comment",
                "# keys\n---\nitems:\n- data: {tls.key: eA==}\n".to_owned(),
            ),
            (
                "a List in a list without kind",
                format!(r#"{{"items":[{{"kind":"List","apiVersion":"v1","items":[{{{key}}}]}}]}}"#),
            ),
            (
                "next to another object",
                format!(r#"{{"items":[{{"kind":"ConfigMap","data":{{"a":"b"}}}},{{{key}}}]}}"#),
            ),
        ] {
            let secrets = secrets(text.as_bytes()).unwrap();
            assert_eq!(secrets.len(), 1, "{name}");
            assert!(secrets[0].data.contains_key("tls.key"), "{name}");
        }
        for (name, text) in [
            ("an empty list", r#"{"metadata":{},"items":[]}"#),
            ("no list", r#"{"metadata":{},"items":null}"#),
            (
                "a mapping",
                r#"{"items":{"k":{"data":{"tls.key":"eA=="}}}}"#,
            ),
            (
                "another kind of list",
                r#"{"kind":"KeyList","apiVersion":"example.com/v1","items":[{"data":{"tls.key":"eA=="}}]}"#,
            ),
        ] {
            assert_eq!(secrets(text.as_bytes()).unwrap().len(), 0, "{name}");
        }
    }

    #[test]
    fn refuses_key_names_that_lead_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        for (name, want) in [
            ("key-2024", true),
            ("Main_key", true),
            ("ä b", true),
            ("a.b", true),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a/", false),
            ("../a", false),
            ("/a", false),
            ("a\\b", false),
            ("a\0b", false),
        ] {
            assert_eq!(
                path_for_new_key(directory.path(), name).is_ok(),
                want,
                "{name:?}"
            );
        }
    }
}
