//! Secret + certificate + scope → SealedSecret.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::CryptoRng;

use crate::key::PublicKey;
use crate::resource::{LAST_APPLIED_ANNOTATIONS, SealedSecret, SealedSecretSpec, SecretTemplate};
use crate::scope::Scope;
use crate::secret::Secret;
use crate::{base64, envelope};

/// What the caller says about where a Secret shall live, beside what stands in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    /// Takes the place of the Secret's name.
    pub name: Option<&'a str>,
    /// Must agree with the Secret's namespace, or fills it in.
    pub namespace: Option<&'a str>,
    /// Takes the place of the Secret's scope annotations; `Some(Strict)` removes them.
    pub scope: Option<Scope>,
}

/// A Secret cannot be sealed as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No name.
    #[error("missing metadata.name in input Secret")]
    MissingName,
    /// A scope narrower than cluster-wide needs a namespace.
    #[error("secret must declare a namespace")]
    MissingNamespace,
    /// Two namespaces.
    #[error(
        "namespace mismatch: input secret is in namespace {found:?} but {wanted:?} was specified"
    )]
    NamespaceMismatch {
        /// That of the Secret.
        found: String,
        /// That of the caller.
        wanted: String,
    },
    /// The certificate cannot encrypt.
    #[error(transparent)]
    Key(#[from] envelope::SealError),
}

/// Gives a Secret the name, scope and namespace that the caller asks for. The namespace of a
/// cluster-wide Secret is neither filled in nor compared.
///
/// # Errors
///
/// No name, or two namespaces that differ. A namespace may still be missing afterwards.
pub fn aim(secret: &mut Secret, target: Target<'_>) -> Result<(), SealError> {
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
        (Some(wanted), "") if lacks_namespace_for_its_scope(metadata) => {
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

/// Does the Secret still need a namespace before it can be sealed?
pub fn lacks_namespace(secret: &Secret) -> bool {
    lacks_namespace_for_its_scope(&secret.metadata)
}

fn lacks_namespace_for_its_scope(metadata: &ObjectMeta) -> bool {
    let none = metadata.namespace.as_deref().unwrap_or_default().is_empty();
    none && scope_of(metadata) != Scope::ClusterWide
}

fn scope_of(metadata: &ObjectMeta) -> Scope {
    Scope::from_annotations(metadata.annotations.as_ref())
}

/// Seals each value of a Secret on its own, under the scope that its annotations declare.
///
/// The template keeps name, namespace, `generateName`, labels and annotations. Dropped are what
/// only a server writes, owners, finalizers (they could make the Secret undeletable) and the
/// annotations that hold a copy of the whole Secret.
///
/// # Errors
///
/// [`SealError::MissingNamespace`], or a certificate that cannot encrypt.
pub fn seal(
    secret: &Secret,
    key: &PublicKey,
    rng: &mut impl CryptoRng,
) -> Result<SealedSecret, SealError> {
    if lacks_namespace(secret) {
        return Err(SealError::MissingNamespace);
    }
    let scope = scope_of(&secret.metadata);
    let namespace = secret.metadata.namespace.clone().unwrap_or_default();
    let name = secret.metadata.name.clone().unwrap_or_default();
    let label = scope.label(&namespace, &name);
    let mut encrypted_data = BTreeMap::new();
    for (item, value) in &secret.data {
        let sealed = envelope::seal(key, &label, value.expose(), rng)?;
        encrypted_data.insert(item.clone(), base64::encode(&sealed));
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
        encrypted_data,
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
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    ObjectMeta {
        name: filled(&metadata.name),
        namespace: filled(&metadata.namespace),
        generate_name: filled(&metadata.generate_name),
        labels: metadata.labels.clone().filter(|labels| !labels.is_empty()),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    }
}

/// Puts the items, labels and annotations of a fresh SealedSecret over those of an existing one.
/// Everything else of the existing one stays. Both must have one name, namespace and scope.
pub fn merge_into(existing: &mut SealedSecret, fresh: SealedSecret) {
    existing
        .spec
        .encrypted_data
        .extend(fresh.spec.encrypted_data);
    let into = &mut existing.spec.template.metadata;
    let from = fresh.spec.template.metadata;
    extend(&mut into.annotations, from.annotations);
    extend(&mut into.labels, from.labels);
}

fn extend(into: &mut Option<BTreeMap<String, String>>, from: Option<BTreeMap<String, String>>) {
    if let Some(from) = from {
        into.get_or_insert_default().extend(from);
    }
}
