//! Merges the items of Secret manifests into an existing SealedSecret file.

use std::path::Path;

use kubeseal_library::repeated;
use serde_json::Value as Json;
use shared::key::Certificate;
use shared::manifest::{self, Document, Reading, Shape};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::seal::{self, Target};
use shared::secret::Secret;
use shared::v2;
use zeroize::Zeroizing;

use super::secrets::{self, ManifestError, ObjectNumbers};
use super::{CommandError, Format, SealOptions};
use crate::report::{self, ShowPath as _};

/// Why new items cannot be added to a file.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The file cannot be read as manifests.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The first document does not contain exactly one SealedSecret.
    #[error(
        "its first document contains {0} SealedSecrets, expected exactly one\nhint: pass a file whose first document is the SealedSecret to change"
    )]
    Count(usize),
    /// The SealedSecret has no name, so the controller could never unseal new items.
    #[error("its SealedSecret has no metadata.name\nhint: add the name to the file")]
    NoName,
    /// The v2 values of the object allow no v1 items.
    #[error(
        "its values are sealed as v2 and {0}; `kubeseal` would add a v1 item, and a controller would refuse the \
        object\n\
         hint: add items with `seal set`, which seals them as v2"
    )]
    V2(&'static str),
    /// The v2 values are malformed.
    #[error("its v2 values are malformed")]
    MalformedV2(#[from] v2::Refusal),
    /// The new items would have another scope; items of one object share its scope.
    #[error(
        "its items have scope {existing}, the new items would have scope {requested}\n\
         hint: seal them with --scope {existing}, or seal the whole Secret again"
    )]
    Scope {
        /// The scope of the SealedSecret in the file.
        existing: Scope,
        /// The scope of `--scope`, or else of the annotations of the input.
        requested: Scope,
    },
}

/// Seals the input for the SealedSecret in the file, and adds the items to it. Returns the new content of the file, in
/// `format` or else in the format of the existing content.
pub(super) fn merge(
    file: &Path,
    existing: &[u8],
    input: &[u8],
    certificate: &Certificate,
    options: &SealOptions,
    format: Option<Format>,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let merge_error = |source| CommandError::Merge {
        file: file.to_owned(),
        source,
    };
    let (mut target, other_documents) = read_target(existing).map_err(merge_error)?;
    check_v2(&target, file).map_err(merge_error)?;
    let new_secrets = secrets::read(input, options)?;
    let numbers = ObjectNumbers::of(new_secrets.len());
    let mut rng = shared::random::system();
    for (i, mut secret) in new_secrets.into_iter().enumerate() {
        let scope = agreed_scope(&target, &secret, options.scope).map_err(merge_error)?;
        set_target(&mut secret, &target, scope, options)
            .and_then(|()| secrets::seal_secret(&secret, certificate, &mut rng))
            .map(|sealed| merge_one(&mut target, sealed, scope))
            .map_err(|problem| CommandError::Seal {
                prefix: numbers.prefix(i),
                problem,
            })?;
    }
    let documents: Vec<Json> = std::iter::once(target.to_document())
        .chain(other_documents)
        .collect();
    let format = format.unwrap_or_else(|| format_of(existing));
    Ok(secrets::write(&documents, format))
}

/// Warns if the object has v2 values. Fails if they are malformed, or if a controller would refuse a v1 item in
/// the same object.
fn check_v2(target: &SealedSecret, file: &Path) -> Result<(), MergeError> {
    let entries = &target.spec.encrypted_data;
    if !v2::is_v2(entries) {
        return Ok(());
    }
    let object = v2::Object::parse(entries)?;
    if object.view().values().any(|item| item.is_template_bound) {
        return Err(MergeError::V2("bound to the template"));
    }
    if object.is_alone() {
        return Err(MergeError::V2("must be the only values of the object"));
    }
    report::warn(&format!(
        "{}: other values are sealed as v2, but `kubeseal` seals the new values as v1, without their protection\n\
         hint: `seal set` seals them as v2",
        file.shown()
    ));
    Ok(())
}

/// Returns the SealedSecret of the first document, which gets the new items, and the other
/// documents, which stay unchanged.
fn read_target(existing: &[u8]) -> Result<(SealedSecret, Vec<Json>), MergeError> {
    let documents = manifest::read(existing).map_err(ManifestError::from)?;
    repeated::check(existing, &documents).map_err(ManifestError::from)?;
    let (first, other_documents) = documents.split_first().ok_or(MergeError::Count(0))?;
    let in_document = |number| move |source| ManifestError::Document { number, source };
    let (mut objects, _) =
        SealedSecret::all_from_document(first).map_err(in_document(first.number))?;
    let target = match (objects.len(), objects.pop()) {
        (1, Some(target)) if target.name_or_empty().is_empty() => return Err(MergeError::NoName),
        (1, Some(target)) => target,
        (count, _) => return Err(MergeError::Count(count)),
    };
    let unchanged = |document: &Document| {
        let json = Reading::default().json(&document.root, Shape::Any);
        json.map_err(|e| in_document(document.number)(e.into()))
    };
    Ok((
        target,
        other_documents
            .iter()
            .map(unchanged)
            .collect::<Result<_, _>>()?,
    ))
}

/// Returns the scope for the new items: the scope of the SealedSecret in the file. If the SealedSecret has no items
/// yet, a scope that the flag or an annotation requests takes precedence. A request that contradicts existing items is
/// an error: the label of the new items would not fit the scope of the SealedSecret, so the controller could never
/// unseal them.
fn agreed_scope(
    target: &SealedSecret,
    secret: &Secret,
    flag: Option<Scope>,
) -> Result<Scope, MergeError> {
    let existing = Scope::from_annotations(target.metadata.annotations.as_ref());
    let annotated = Scope::from_annotations(secret.metadata.annotations.as_ref());
    let requested = flag.or_else(|| Some(annotated).filter(|scope| *scope != Scope::Strict));
    match requested {
        Some(requested) if requested != existing && target.spec.encrypted_data.is_empty() => {
            Ok(requested)
        }
        Some(requested) if requested != existing => Err(MergeError::Scope {
            existing,
            requested,
        }),
        _ => Ok(existing),
    }
}

fn set_target(
    secret: &mut Secret,
    target: &SealedSecret,
    scope: Scope,
    options: &SealOptions,
) -> Result<(), seal::SealError> {
    secret.metadata.namespace = Some(target.namespace_or_empty().to_owned());
    seal::apply_target(
        secret,
        Target {
            name: Some(target.name_or_empty()),
            namespace: options.namespace.as_deref(),
            scope: Some(scope),
        },
    )
}

fn merge_one(target: &mut SealedSecret, sealed: SealedSecret, scope: Scope) {
    if scope != Scope::from_annotations(target.metadata.annotations.as_ref()) {
        scope.annotate(target.metadata.annotations.get_or_insert_default());
    }
    seal::merge_into(target, sealed);
}

fn format_of(existing: &[u8]) -> Format {
    if manifest::begins_like_json(existing) {
        Format::Json
    } else {
        Format::Yaml
    }
}
