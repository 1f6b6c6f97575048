//! The status file of an object, `DIR/status/<namespace>/<name>.yaml`: a SealedSecret with only its status.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use controller_core::object_id::ObjectId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use shared::base64;
use shared::manifest::{self, Reading, Shape};
use shared::resource::{RANDOM_VALUES_ANNOTATION, SealedSecretStatus};

use crate::store::Source;

/// Annotation with the path of the manifest, relative to DIR. If a manifest cannot be parsed after a restart, these
/// annotations show which objects it contained.
const FILE_ANNOTATION: &str = "sealedsecrets.bitnami.com/file";

/// Annotation with the digest of the last unsealed version of the SealedSecret. It is kept while newer versions fail.
/// (An older annotation without `unsealed-` in its name contained the digest of the version that the status describes.)
const DIGEST_ANNOTATION: &str = "sealedsecrets.bitnami.com/unsealed-digest";

/// The content of a status file.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusFile {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    pub(super) status: SealedSecretStatus,
}

impl StatusFile {
    /// Creates the status file of an object. `file` is the path of its manifest, relative to DIR; `digest` is the
    /// digest of the last unsealed version, and `random_mark` is a copy of the mark of its random values.
    pub(super) fn new(
        id: &ObjectId,
        file: Option<&Path>,
        digest: Option<String>,
        random_mark: Option<String>,
        status: SealedSecretStatus,
    ) -> Self {
        let file = file.map(|file| file.to_string_lossy().into_owned());
        let annotations = [
            (FILE_ANNOTATION, file),
            (DIGEST_ANNOTATION, digest),
            (RANDOM_VALUES_ANNOTATION, random_mark),
        ];
        let annotations: BTreeMap<String, String> = annotations
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect();
        Self {
            api_version: "bitnami.com/v1alpha1".into(),
            kind: "SealedSecret".into(),
            metadata: ObjectMeta {
                name: Some(id.name.clone()),
                namespace: Some(id.namespace.clone()).filter(|namespace| !namespace.is_empty()),
                annotations: (!annotations.is_empty()).then_some(annotations),
                ..ObjectMeta::default()
            },
            status,
        }
    }

    /// Parses a status file. Returns `None` if the content is not a valid status file.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let documents = manifest::read(bytes).ok()?;
        let json = Reading::default()
            .json(&documents.first()?.root, Shape::Any)
            .ok()?;
        serde_json::from_value(json).ok()
    }

    /// Returns the text of the file.
    pub(super) fn to_yaml(&self) -> String {
        manifest::to_yaml(&serde_json::to_value(self).unwrap_or_default())
    }

    /// Returns the path of the object's manifest, relative to DIR; `None` if it is unknown.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.annotation(FILE_ANNOTATION).map(PathBuf::from)
    }

    /// Returns whether `source` is the last version that was unsealed, regardless of later failures.
    pub(super) fn is_settled(&self, source: &Source) -> bool {
        let digest = self.annotation(DIGEST_ANNOTATION);
        digest.is_some() && digest == digest_of(source).as_deref()
    }

    /// Returns the digest of the last unsealed version of the SealedSecret.
    pub(super) fn digest(self) -> Option<String> {
        self.annotation(DIGEST_ANNOTATION).map(str::to_owned)
    }

    /// Returns the copy of the mark that shows which random values are unchanged.
    pub(super) fn random_mark(&self) -> Option<String> {
        self.annotation(RANDOM_VALUES_ANNOTATION).map(str::to_owned)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    }
}

/// Returns the SHA-256 digest of the SealedSecret as JSON, in base64; `None` if it is malformed or deleted.
pub(super) fn digest_of(source: &Source) -> Option<String> {
    let Source::Sealed(sealed) = source else {
        return None;
    };
    let json = sealed.to_document().to_string();
    Some(base64::encode(digest(&SHA256, json.as_bytes()).as_ref()))
}

/// Returns the name of an object's status file in the directory of its namespace.
pub(super) fn file_name(name: &str) -> String {
    format!("{name}.yaml")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::testing::id;
    use controller_core::status::{self, Outcome};

    #[test]
    fn parses_the_status_files_that_it_writes() {
        let id = id("n");
        let no_items = BTreeMap::new();
        let outcome = Outcome::Unsealed {
            sealed_by: &no_items,
            record: None,
            version: None,
            previous: None,
        };
        let status = status::next(None, &outcome, Some(7), Timestamp::UNIX_EPOCH).unwrap();
        let written = StatusFile::new(
            &id,
            Some(Path::new("sealed/on: x.yaml")),
            Some("d=".into()),
            Some("m=".into()),
            status,
        );
        let text = written.to_yaml();
        assert!(
            text.starts_with("apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n"),
            "{text}"
        );
        let parsed = StatusFile::read(text.as_bytes()).unwrap();
        assert_eq!(parsed, written);
        assert_eq!(parsed.file(), Some("sealed/on: x.yaml".into()));
    }

    #[test]
    fn invalid_content_counts_as_a_missing_status() {
        for text in ["", "a: [", "kind: SealedSecret", "- a"] {
            assert_eq!(StatusFile::read(text.as_bytes()), None, "{text}");
        }
    }
}
