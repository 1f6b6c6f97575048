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
pub(crate) struct Provenance {
    /// The key that unsealed each item.
    pub(crate) sealed_by: BTreeMap<String, UsedKey>,
    /// The digest of the value of each item, computed with the identifier of the value.
    pub(crate) digests: BTreeMap<String, ValueDigest>,
    /// Items of the Secret whose values differ between renderings.
    pub(crate) random_items: BTreeSet<String>,
}

/// The key and the clock for computing versions.
#[derive(Debug, Clone)]
pub(crate) struct Versioning {
    pub(crate) key: Arc<VersionKey>,
    pub(crate) clock: fn() -> Timestamp,
}

impl Versioning {
    /// Returns the version of the content of a Secret as currently stored. `written_at` must not depend on values.
    ///
    /// If templates may generate values from randomness or the time, the nonce of their rendering contributes to the
    /// version. Whether a template generates values follows from its text, so the use of the nonce reveals nothing
    /// about values.
    pub(crate) fn current(
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
            version: version_of(&self.key, sealed, &inputs),
            key_id: self.key.id().to_owned(),
            written_at,
        }
    }

    /// Returns the version of the content without the values that templates generate.
    pub(crate) fn version_without_random_values(
        &self,
        sealed: &SealedSecret,
        provenance: &Provenance,
    ) -> String {
        version(&self.key, sealed, provenance)
    }

    /// Returns the version of the value of one item of the Secret: the version of the sealed value, or
    /// `content_version` if a template produces the value.
    pub(crate) fn item_version(
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
}

/// Returns the version of the complete content of an object, if no template generates values.
pub(crate) fn version(key: &VersionKey, sealed: &SealedSecret, provenance: &Provenance) -> String {
    version_of(key, sealed, &inputs(sealed, provenance))
}

fn version_of(key: &VersionKey, sealed: &SealedSecret, inputs: &VersionInputs<'_>) -> String {
    let template = sealed.spec.template.data.as_ref().map(template_text);
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    ContentVersion::new(key, namespace, name, template.as_deref(), inputs).to_string()
}

/// Returns the digests of the values of an object. With the templates, they determine the version of the content.
fn inputs<'a>(sealed: &'a SealedSecret, provenance: &'a Provenance) -> VersionInputs<'a> {
    let (name, digests) = (sealed.name_or_empty(), provenance.digests.iter());
    digests
        .map(|(item, digest)| ((name, item.as_str()), *digest))
        .collect()
}

/// Returns the text of all templates: JSON with sorted keys.
pub(crate) fn template_text(template: &BTreeMap<String, Option<String>>) -> String {
    serde_json::json!(template).to_string()
}

/// Returns a string that identifies the version of the SealedSecret.
fn origin(sealed: &SealedSecret) -> String {
    let uid = sealed.metadata.uid.as_deref().unwrap_or_default();
    format!("{uid} {}", sealed.metadata.generation.unwrap_or_default())
}
