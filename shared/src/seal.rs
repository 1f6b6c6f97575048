//! Seals a Secret for a certificate and a scope into a SealedSecret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::CryptoRng;

use crate::key::PublicKey;
use crate::names::{self, NameError};
use crate::resource::{LAST_APPLIED_ANNOTATIONS, SealedSecret, SealedSecretSpec, SecretTemplate};
use crate::scope::Scope;
use crate::secret::Secret;
use crate::v2::{self, LockSpec, Place, Recipient, TemplateDigest, Value};
use crate::{base64, envelope};

/// The name, namespace and scope that the caller requests for a Secret.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    /// Replaces the Secret's name.
    pub name: Option<&'a str>,
    /// Must equal the Secret's namespace; used as its namespace if the Secret has none. Ignored for cluster-wide scope.
    pub namespace: Option<&'a str>,
    /// Replaces the Secret's scope annotations; `Some(Strict)` removes them.
    pub scope: Option<Scope>,
}

/// Why a Secret cannot be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The Secret has no name.
    #[error("missing metadata.name in input Secret")]
    MissingName,
    /// A scope narrower than cluster-wide needs a namespace.
    #[error("secret must declare a namespace")]
    MissingNamespace,
    /// The namespaces differ.
    #[error(
        "namespace mismatch: input secret is in namespace {found:?} but {wanted:?} was specified"
    )]
    NamespaceMismatch {
        /// The Secret's namespace.
        found: String,
        /// The namespace that the caller requests.
        wanted: String,
    },
    /// The API server would reject the name or namespace.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The certificate cannot encrypt.
    #[error(transparent)]
    Key(#[from] envelope::SealError),
    /// The values cannot be sealed as v2.
    #[error(transparent)]
    V2(#[from] v2::SealError),
}

/// Sets the name, scope and namespace that the caller requests. The namespace of a cluster-wide Secret is
/// neither set nor compared.
///
/// # Errors
///
/// Returns an error if the name is missing, or the namespaces differ. The namespace may still be missing
/// afterwards.
pub fn apply_target(secret: &mut Secret, target: Target<'_>) -> Result<(), SealError> {
    let metadata = &mut secret.metadata;
    if let Some(name) = target.name {
        metadata.name = Some(name.to_owned());
    }
    if metadata.name.as_deref().unwrap_or_default().is_empty() {
        return Err(SealError::MissingName);
    }
    if let Some(scope) = target.scope {
        scope.annotate(metadata.annotations.get_or_insert_default());
    }
    match (
        target.namespace,
        metadata.namespace.as_deref().unwrap_or_default(),
    ) {
        (Some(wanted), "") if is_namespace_missing_for_scope(metadata) => {
            metadata.namespace = Some(wanted.to_owned());
            Ok(())
        }
        (Some(wanted), found) if wanted != found && scope_of(metadata) != Scope::ClusterWide => {
            let (found, wanted) = (found.to_owned(), wanted.to_owned());
            Err(SealError::NamespaceMismatch { found, wanted })
        }
        _ => Ok(()),
    }
}

/// Returns whether the Secret still needs a namespace before it can be sealed.
pub fn is_namespace_missing(secret: &Secret) -> bool {
    is_namespace_missing_for_scope(&secret.metadata)
}

fn is_namespace_missing_for_scope(metadata: &ObjectMeta) -> bool {
    let is_empty_namespace = metadata.namespace.as_deref().unwrap_or_default().is_empty();
    is_empty_namespace && scope_of(metadata) != Scope::ClusterWide
}

fn scope_of(metadata: &ObjectMeta) -> Scope {
    Scope::from_annotations(metadata.annotations.as_ref())
}

/// Seals each value of a Secret separately, with the scope that its annotations declare.
///
/// The template keeps type, `immutable`, name, namespace, `generateName`, labels and annotations. It drops the fields
/// that only a server writes, owners, finalizers (they could make the Secret undeletable) and the annotations with a
/// copy of the whole Secret.
///
/// # Errors
///
/// Returns [`SealError`] if the namespace is missing, a name is not valid, or the certificate cannot encrypt.
pub fn seal(
    secret: &Secret,
    key: &PublicKey,
    rng: &mut impl CryptoRng,
) -> Result<SealedSecret, SealError> {
    let mut sealed = object_without_values(secret)?;
    let scope = scope_of(&secret.metadata);
    let label = scope.label_for_sealing(sealed.namespace_or_empty(), sealed.name_or_empty())?;
    for (item, value) in &secret.data {
        let text = base64::encode(&envelope::seal(key, &label, value.expose(), rng)?);
        sealed.spec.encrypted_data.insert(item.clone(), text);
    }
    Ok(sealed)
}

/// The options for sealing a Secret as v2.
#[derive(Clone, Copy)]
pub struct V2Options<'a> {
    /// The public keys that can open the values.
    pub recipients: &'a [&'a dyn Recipient],
    /// Whether classical recipients are allowed together with post-quantum recipients.
    pub allow_classical: bool,
    /// Whether the values are bound to the template.
    pub bind_template: bool,
    /// Whether the values must never become a Secret object.
    pub is_never_secret: bool,
    /// Templates for items of the Secret: `spec.template.data`.
    pub template_data: Option<&'a BTreeMap<String, Option<String>>>,
    /// The current time, which determines the revision.
    pub now: Timestamp,
}

/// Like [`seal`], but as v2: all values under one lock.
///
/// # Errors
///
/// Returns [`SealError`] if the namespace is missing, a name is not valid, or the values cannot be sealed for the
/// recipients.
pub fn seal_v2(
    secret: &Secret,
    options: &V2Options<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<SealedSecret, SealError> {
    let mut sealed = object_without_values(secret)?;
    sealed.spec.template.data = options.template_data.cloned();
    if secret.data.is_empty() {
        return Ok(sealed);
    }
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    let place = Place::for_sealing(scope_of(&secret.metadata), namespace, name)?;
    let template = TemplateDigest::of(&sealed.spec.template);
    let spec = LockSpec {
        place: &place,
        recipients: options.recipients,
        allow_classical: options.allow_classical,
        template: options.bind_template.then_some(template),
        is_never_secret: options.is_never_secret,
        is_alone: false,
        revision: v2::next_revision(options.now, []),
    };
    let values = secret.data.iter();
    let values = values.map(|(item, value)| (item.clone(), Value::new(value.clone(), rng)));
    let values = values.collect();
    sealed.spec.encrypted_data = v2::seal(&spec, &values, rng)?;
    Ok(sealed)
}

/// Returns the SealedSecret for a Secret, without its values.
fn object_without_values(secret: &Secret) -> Result<SealedSecret, SealError> {
    if is_namespace_missing(secret) {
        return Err(SealError::MissingNamespace);
    }
    let scope = scope_of(&secret.metadata);
    let namespace = secret.metadata.namespace.clone().unwrap_or_default();
    let name = secret.metadata.name.clone().unwrap_or_default();
    names::check_sealed_object(&name)?;
    if !namespace.is_empty() {
        names::check_namespace(&namespace)?;
    }
    let template = SecretTemplate {
        metadata: template_metadata(&secret.metadata),
        type_: secret.type_.clone(),
        immutable: secret.immutable,
        data: None,
    };
    let spec = SealedSecretSpec {
        template,
        data: None,
        encrypted_data: BTreeMap::new(),
    };
    let metadata = ObjectMeta {
        name: Some(name),
        namespace: Some(namespace).filter(|namespace| !namespace.is_empty()),
        annotations: scope
            .annotation()
            .map(|a| BTreeMap::from([(a.into(), "true".into())])),
        ..ObjectMeta::default()
    };
    Ok(SealedSecret {
        metadata,
        spec,
        status: None,
    })
}

fn template_metadata(metadata: &ObjectMeta) -> ObjectMeta {
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    for name in LAST_APPLIED_ANNOTATIONS {
        annotations.remove(name);
    }
    let non_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    ObjectMeta {
        name: non_empty(&metadata.name),
        namespace: non_empty(&metadata.namespace),
        generate_name: non_empty(&metadata.generate_name),
        labels: metadata.labels.clone().filter(|labels| !labels.is_empty()),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    }
}

/// Merges a new SealedSecret into an existing SealedSecret: its items, and the labels and annotations of its template.
/// Leaves everything else unchanged. Both must have the same name, namespace and scope.
pub fn merge_into(existing: &mut SealedSecret, fresh: SealedSecret) {
    existing
        .spec
        .encrypted_data
        .extend(fresh.spec.encrypted_data);
    let into = &mut existing.spec.template.metadata;
    let from = fresh.spec.template.metadata;
    extend_map(&mut into.annotations, from.annotations);
    extend_map(&mut into.labels, from.labels);
}

fn extend_map(into: &mut Option<BTreeMap<String, String>>, from: Option<BTreeMap<String, String>>) {
    if let Some(from) = from {
        into.get_or_insert_default().extend(from);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::key::{new_test_key, test_key};
    use crate::key_ring::{KeyRing, RingKey};
    use crate::manifest;
    use crate::unseal::{Randomness, Rules, unseal};

    fn secret(yaml: &str) -> Secret {
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        Secret::all_from_document(&documents[0])
            .unwrap()
            .0
            .remove(0)
    }

    fn seal_secret(secret: &Secret) -> Result<SealedSecret, SealError> {
        let key = test_key().certificate().public_key();
        seal(secret, key, &mut StdRng::seed_from_u64(3))
    }

    fn ring() -> KeyRing {
        let key = new_test_key(1);
        let order_time = key.pair.certificate().not_before();
        KeyRing::new([Arc::new(RingKey::new("k".into(), order_time, key.pair))])
    }

    fn can_unseal(sealed: &SealedSecret, ring: &KeyRing) -> bool {
        let rules = Rules {
            accept_legacy: true,
            refuse_random: false,
        };
        let mut randomness = Randomness {
            now: jiff::Timestamp::UNIX_EPOCH,
            rng: &mut StdRng::seed_from_u64(6),
        };
        unseal(sealed, ring, rules, &mut randomness).is_ok()
    }

    #[test]
    fn follows_upstreams_rules_for_names_and_namespaces() {
        let mismatch = |found: &str, wanted: &str| {
            Err(SealError::NamespaceMismatch {
                found: found.into(),
                wanted: wanted.into(),
            })
        };
        let cluster_wide =
            "metadata: {name: web, annotations: {sealedsecrets.bitnami.com/cluster-wide: 'true'}}";
        let target = |namespace| Target {
            namespace: Some(namespace),
            ..Target::default()
        };
        for (why, yaml, target, want) in [
            (
                "no name",
                "metadata: {}",
                Target::default(),
                Err(SealError::MissingName),
            ),
            (
                "a requested name",
                "metadata: {}",
                Target {
                    name: Some("x"),
                    ..target("a")
                },
                Ok("a/x"),
            ),
            (
                "a missing namespace is set",
                "metadata: {name: web}",
                target("a"),
                Ok("a/web"),
            ),
            (
                "the same namespace",
                "metadata: {name: web, namespace: a}",
                target("a"),
                Ok("a/web"),
            ),
            (
                "a different namespace",
                "metadata: {name: web, namespace: a}",
                target("b"),
                mismatch("a", "b"),
            ),
            (
                "cluster-wide needs no namespace",
                cluster_wide,
                target("a"),
                Ok("/web"),
            ),
            (
                "strict by flag cancels the annotation",
                cluster_wide,
                Target {
                    scope: Some(Scope::Strict),
                    ..target("a")
                },
                Ok("a/web"),
            ),
        ] {
            let mut secret = secret(yaml);
            let result = apply_target(&mut secret, target).map(|()| {
                let part = |text: &Option<String>| text.clone().unwrap_or_default();
                format!(
                    "{}/{}",
                    part(&secret.metadata.namespace),
                    part(&secret.metadata.name)
                )
            });
            assert_eq!(result, want.map(str::to_owned), "{why}");
        }
    }

    #[test]
    fn refuses_to_seal_without_a_namespace() {
        assert_eq!(
            seal_secret(&secret("metadata: {name: web}")).unwrap_err(),
            SealError::MissingNamespace
        );
    }

    #[test]
    fn keeps_the_users_metadata_and_drops_the_servers() {
        let sealed = seal_secret(&secret(
            "
metadata:
  name: web
  namespace: ns
  generateName: web-
  labels: {app: x}
  annotations:
    note: text
    kubectl.kubernetes.io/last-applied-configuration: '{\"stringData\":{\"pw\":\"hunter2\"}}'
    kubecfg.ksonnet.io/last-applied-configuration: hunter2
  uid: u
  resourceVersion: '5'
  generation: 3
  creationTimestamp: 2024-01-02T03:04:05Z
  finalizers: [x/y]
  ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: q}]
  managedFields: [{manager: kubectl, operation: Update}]
type: Opaque
immutable: true
stringData: {pw: hunter2}
",
        ))
        .unwrap();
        let template = serde_json::to_value(&sealed.spec.template).unwrap();
        assert_eq!(
            template,
            serde_json::json!({
                "metadata": {
                    "name": "web", "namespace": "ns", "generateName": "web-",
                    "labels": {"app": "x"}, "annotations": {"note": "text"},
                },
                "type": "Opaque",
                "immutable": true,
            })
        );
        assert!(!sealed.to_document().to_string().contains("hunter2"));
    }

    #[test]
    fn every_scope_unseals_only_where_it_applies() {
        let ring = ring();
        for scope in Scope::ALL {
            for (name, namespace) in [("web", "ns"), ("other", "ns"), ("web", "other")] {
                let mut secret = secret("metadata: {name: web, namespace: ns}\nstringData: {a: x}");
                apply_target(
                    &mut secret,
                    Target {
                        scope: Some(scope),
                        ..Target::default()
                    },
                )
                .unwrap();
                let key = ring
                    .sealing_key(jiff::Timestamp::UNIX_EPOCH)
                    .unwrap()
                    .certificate()
                    .unwrap()
                    .public_key();
                let mut moved = seal(&secret, key, &mut StdRng::seed_from_u64(4)).unwrap();
                moved.metadata.name = Some(name.into());
                moved.metadata.namespace = Some(namespace.into());
                let is_unsealed = can_unseal(&moved, &ring);
                let want = match scope {
                    Scope::Strict => (name, namespace) == ("web", "ns"),
                    Scope::NamespaceWide => namespace == "ns",
                    Scope::ClusterWide => true,
                };
                assert_eq!(is_unsealed, want, "{scope} as {namespace}/{name}");
            }
        }
    }

    #[test]
    fn merging_creates_missing_maps_and_keeps_everything_else() {
        let mut existing = seal_secret(&secret(
            "metadata: {name: web, namespace: ns}\ntype: a\nstringData: {a: x}",
        ))
        .unwrap();
        let before = existing.clone();
        let fresh = seal_secret(&secret(
            "metadata: {name: web, namespace: ns, labels: {l: v}, annotations: {k: v}}\ntype: b\nstringData: {b: y}",
        ))
        .unwrap();
        merge_into(&mut existing, fresh);
        assert_eq!(
            existing.spec.encrypted_data.keys().collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(
            existing.spec.encrypted_data["a"],
            before.spec.encrypted_data["a"]
        );
        assert_eq!(existing.spec.template.type_, before.spec.template.type_);
        assert_eq!(existing.spec.template.metadata.labels.unwrap()["l"], "v");
        assert_eq!(existing.metadata, before.metadata);
    }
}
