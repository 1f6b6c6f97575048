//! Computes the version of the content of a Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_core::versions::CurrentVersion;
use jiff::Timestamp;
use shared::random_mark;
use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::unseal::UsedKey;
use shared::v2::{ContentVersion, ValueDigest, VersionInputs, VersionKey};

/// The origin of the values of a Secret.
#[derive(Debug, Default)]
pub(super) struct Provenance {
    /// The key that unsealed each item.
    pub(super) sealed_by: BTreeMap<String, UsedKey>,
    /// The digest of the value of each item, computed with the identifier of the value.
    pub(super) digests: BTreeMap<String, ValueDigest>,
    /// Items of the Secret whose values differ in each rendering.
    pub(super) random_items: BTreeSet<String>,
}

/// The key and the clock for computing versions.
#[derive(Debug, Clone)]
pub(super) struct Versioning {
    pub(super) key: Arc<VersionKey>,
    pub(super) clock: fn() -> Timestamp,
}

impl Versioning {
    /// Returns the version of the content of a Secret as currently stored. `written_at` must not depend on values.
    ///
    /// If templates may generate values from randomness or the time, the nonce of their rendering contributes to the
    /// version. Whether a template generates values follows from its text, so this reveals nothing about values.
    pub(super) fn current(
        &self,
        sealed: &SealedSecret,
        provenance: &Provenance,
        stored: Option<&Secret>,
        written_at: Timestamp,
    ) -> CurrentVersion {
        let mut inputs = inputs(sealed, provenance);
        if !provenance.random_items.is_empty() {
            let mark = stored.and_then(random_mark::of);
            let nonce = mark.and_then(|mark| random_mark::nonce(mark));
            let digest = ValueDigest::for_rendering(&origin(sealed), nonce.unwrap_or_default());
            inputs.insert(("", ""), digest);
        }
        CurrentVersion {
            version: self.version(sealed, sealed.name_or_empty(), &inputs),
            key_id: self.key.id().to_owned(),
            written_at,
        }
    }

    /// Returns the version of the content without the values that templates generate.
    pub(super) fn version_without_random_values(
        &self,
        sealed: &SealedSecret,
        provenance: &Provenance,
    ) -> String {
        let inputs = inputs(sealed, provenance);
        self.version(sealed, sealed.name_or_empty(), &inputs)
    }

    /// Returns the version of the value of one item of the Secret: the version of the sealed value, or
    /// `content_version` if a template produces the value.
    pub(super) fn item_version(
        &self,
        sealed: &SealedSecret,
        provenance: &Provenance,
        content_version: &str,
        item: &str,
    ) -> String {
        let name = sealed.name_or_empty();
        let digest = provenance.digests.get(item);
        let inputs = digest.map(|digest| ((name, item), *digest));
        let template = Some(content_version).filter(|_| digest.is_none());
        let path = format!("{name}/{item}");
        let namespace = sealed.namespace_or_empty();
        let inputs = inputs.into_iter().collect();
        ContentVersion::new(&self.key, namespace, &path, template, &inputs).to_string()
    }

    fn version(&self, sealed: &SealedSecret, path: &str, inputs: &VersionInputs<'_>) -> String {
        let template = &sealed.spec.template.data;
        let template = template.as_ref().map(template_text);
        let namespace = sealed.namespace_or_empty();
        let version = ContentVersion::new(&self.key, namespace, path, template.as_deref(), inputs);
        version.to_string()
    }
}

fn inputs<'a>(sealed: &'a SealedSecret, provenance: &'a Provenance) -> VersionInputs<'a> {
    let (name, digests) = (sealed.name_or_empty(), provenance.digests.iter());
    digests
        .map(|(item, digest)| ((name, item.as_str()), *digest))
        .collect()
}

/// Returns the text of all templates: JSON with sorted keys.
fn template_text(template: &BTreeMap<String, Option<String>>) -> String {
    serde_json::json!(template).to_string()
}

/// Identifies the version of the SealedSecret.
fn origin(sealed: &SealedSecret) -> String {
    let uid = sealed.metadata.uid.as_deref().unwrap_or_default();
    format!("{uid} {}", sealed.metadata.generation.unwrap_or_default())
}
