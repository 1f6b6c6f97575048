//! Seals Secret manifests into SealedSecret manifests.

use kubeseal_library::environment::Environment;
use kubeseal_library::parallel;
use kubeseal_library::repeated::{self, RepeatedKeyError};
use rand::CryptoRng;
use serde_json::Value as Json;
use shared::key::Certificate;
use shared::key_secret::has_private_key;
use shared::manifest::{self, Coercion, Document, ReadError};
use shared::random::{self, SystemRng};
use shared::resource::{DocumentError, SealedSecret};
use shared::seal::{self, SealError, Target};
use shared::secret::Secret;
use zeroize::Zeroizing;

use super::{CommandError, Format, SealOptions, default_namespace};
use crate::report;

/// Why the input cannot be read as manifests.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The input cannot be parsed.
    #[error("the input is malformed")]
    Read(#[from] ReadError),
    /// A key is repeated in a file with v2 values, or overridden by a merge.
    #[error(transparent)]
    Repeated(#[from] RepeatedKeyError),
    /// A document is not of the expected form.
    #[error("document {number}")]
    Document {
        /// The number of the document, counted from one.
        number: usize,
        /// Why the document is not valid.
        source: DocumentError,
    },
}

/// Seals every Secret in the input.
pub(super) fn seal(
    input: &[u8],
    certificate: &Certificate,
    options: &SealOptions,
    environment: &Environment,
) -> Result<Vec<Json>, CommandError> {
    let mut secrets = read(input, options)?;
    let numbers = ObjectNumbers::of(secrets.len());
    let seal_error = |i| {
        move |problem| CommandError::Seal {
            prefix: numbers.prefix(i),
            problem,
        }
    };
    let target = Target {
        name: options.name.as_deref(),
        namespace: options.namespace.as_deref(),
        scope: options.scope,
    };
    for (i, secret) in secrets.iter_mut().enumerate() {
        seal::apply_target(secret, target).map_err(seal_error(i))?;
    }
    fill_namespaces(&mut secrets, options, environment)?;
    let seal_one = |rng: &mut SystemRng, i, secret: &Secret| {
        let sealed = seal_secret(secret, certificate, rng).map_err(seal_error(i))?;
        Ok(sealed.to_document())
    };
    parallel::map(&secrets, random::system, seal_one)
        .into_iter()
        .collect()
}

/// Fills in missing namespaces. Reads the kubeconfig only if a Secret needs its namespace.
fn fill_namespaces(
    secrets: &mut [Secret],
    options: &SealOptions,
    environment: &Environment,
) -> Result<(), CommandError> {
    if !secrets.iter().any(seal::is_namespace_missing) {
        return Ok(());
    }
    let namespace = default_namespace(options, environment)?;
    for secret in secrets
        .iter_mut()
        .filter(|secret| seal::is_namespace_missing(secret))
    {
        secret.metadata.namespace.clone_from(&namespace);
    }
    Ok(())
}

pub(super) fn seal_secret(
    secret: &Secret,
    certificate: &Certificate,
    rng: &mut impl CryptoRng,
) -> Result<SealedSecret, SealError> {
    warn_about_private_key(secret);
    seal::seal(secret, certificate.public_key(), rng)
}

/// Warns about a private key of a controller, which upstream seals too.
fn warn_about_private_key(secret: &Secret) {
    if has_private_key(secret) {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        report::warn(&format!(
            "the Secret {name:?} is a private key of the sealed-secrets controller: do not commit it, \
             because anyone who can unseal it can then unseal every value that is sealed for this key"
        ));
    }
}

/// Parses every Secret in the input, and warns about unquoted values whose text YAML changes. Fails if there is no
/// Secret, or if a Secret has no values and `--allow-empty-data` is not set.
pub(super) fn read(input: &[u8], options: &SealOptions) -> Result<Vec<Secret>, CommandError> {
    let secrets = read_objects(input, Secret::all_from_document)?;
    if secrets.is_empty() {
        return Err(CommandError::NoSecrets);
    }
    let numbers = ObjectNumbers::of(secrets.len());
    match secrets
        .iter()
        .position(|secret| secret.data.is_empty() && !options.allow_empty_data)
    {
        Some(i) => Err(CommandError::EmptyData {
            prefix: numbers.prefix(i),
        }),
        None => Ok(secrets),
    }
}

/// A function that reads the objects of one kind from a document.
type ReadDocument<T> = fn(&Document) -> Result<(Vec<T>, Vec<Coercion>), DocumentError>;

/// Reads all objects of one kind. Warns about unquoted values whose text YAML changes.
pub(super) fn read_objects<T>(
    input: &[u8],
    read_document: ReadDocument<T>,
) -> Result<Vec<T>, ManifestError> {
    let mut objects = Vec::new();
    let documents = manifest::read(input)?;
    repeated::check(input, &documents)?;
    for document in documents {
        let number = document.number;
        let (document_objects, coerced) = read_document(&document)
            .map_err(|source| ManifestError::Document { number, source })?;
        objects.extend(document_objects);
        for coercion in &coerced {
            report::warn(&describe(coercion));
        }
    }
    Ok(objects)
}

fn describe(coercion: &Coercion) -> String {
    let Coercion { line, path, kind } = coercion;
    format!(
        "line {line}: {path} is not quoted, so YAML reads it as {kind} and its text changes; \
         quote it if this is not intended"
    )
}

/// Formats a prefix that names one of several objects; empty if there is only one.
#[derive(Clone, Copy)]
pub(super) struct ObjectNumbers {
    count: usize,
}

impl ObjectNumbers {
    pub(super) fn of(count: usize) -> Self {
        Self { count }
    }

    pub(super) fn prefix(self, index: usize) -> String {
        if self.count > 1 {
            format!("object {} of {}: ", index + 1, self.count)
        } else {
            String::new()
        }
    }
}

/// Formats documents, one after another. The result may contain plain values.
pub(super) fn write(documents: &[Json], format: Format) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::new());
    for document in documents {
        let document_text = Zeroizing::new(match format {
            Format::Json => manifest::to_json(document),
            Format::Yaml => format!("---\n{}", manifest::to_yaml(document)),
        });
        text.extend_from_slice(document_text.as_bytes());
    }
    text
}
