//! A Secret → a SealedSecret, under the settings of the file that it will stand in.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use shared::hints::{self, Hints};
use shared::key::Certificate;
use shared::manifest::{Coercion, Node, Reading, Value};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::seal::{self, Target};
use shared::secret::Secret;

use super::session::Session;
use super::settings::{Origin, Settings};
use crate::report;

/// A Secret cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// No values.
    #[error("the Secret {0:?} has no values; if that is meant, pass --allow-empty")]
    Empty(String),
    /// No namespace, and nobody to say one.
    #[error(
        "the Secret {0:?} has no namespace, and its scope needs one: pass --namespace, or a wider --scope"
    )]
    NoNamespace(String),
    /// Ciphertext of another program.
    #[error("{0} was encrypted by sops; `seal import sops` decrypts it first")]
    Sops(String),
}

/// A Secret that was sealed, and what with.
#[derive(Debug)]
pub struct Sealed {
    /// The object.
    pub object: SealedSecret,
    /// The certificate.
    pub certificate: Arc<Certificate>,
}

impl Sealed {
    /// Name, number of items, scope and key, for people.
    pub fn in_words(&self) -> String {
        let object = &self.object;
        let count = object.spec.encrypted_data.len();
        format!(
            "{} ({count} {}, {}, for {})",
            object.place(),
            if count == 1 { "item" } else { "items" },
            Scope::from_annotations(object.metadata.annotations.as_ref()),
            self.certificate.fingerprint()
        )
    }
}

/// Seals a Secret. A flag decides its scope, else its own annotations, else the rule or variable.
///
/// # Errors
///
/// It has no values or no place, breaks the rule, or there is no certificate.
pub fn seal_secret(
    session: &Session<'_>,
    settings: &Settings,
    mut secret: Secret,
    allow_empty: bool,
) -> Result<Sealed> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    if secret.data.is_empty() && !allow_empty {
        return Err(SealingError::Empty(name).into());
    }
    aim(session, settings, &mut secret)?;
    let certificate = session.certificate(settings)?;
    let mut object = seal::seal(
        &secret,
        certificate.public_key(),
        &mut shared::random::system(),
    )
    .with_context(|| format!("the Secret {name:?}"))?;
    if !session.words.no_hints {
        add_hints(&mut object, &certificate);
    }
    Ok(Sealed {
        object,
        certificate,
    })
}

fn aim(session: &Session<'_>, settings: &Settings, secret: &mut Secret) -> Result<()> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    let found = secret.metadata.namespace.clone().unwrap_or_default();
    settings.check_namespace(&found)?;
    let annotated = Scope::from_annotations(secret.metadata.annotations.as_ref());
    let said = settings.scope.as_ref();
    let scope = said
        .filter(|scope| annotated == Scope::Strict || matches!(scope.by, Origin::Flag(_)))
        .map(|scope| scope.value);
    let target = Target {
        name: None,
        namespace: settings.namespace.as_ref().map(|said| said.value.as_str()),
        scope,
    };
    seal::aim(secret, target).with_context(|| format!("the Secret {name:?}"))?;
    settings.check_scope(scope.unwrap_or(annotated))?;
    if seal::lacks_namespace(secret) {
        let namespace = session.namespace(settings)?;
        let namespace = namespace.ok_or(SealingError::NoNamespace(name))?;
        settings.check_namespace(&namespace)?;
        secret.metadata.namespace = Some(namespace);
    }
    Ok(())
}

/// Says of every item which certificate sealed it.
fn add_hints(object: &mut SealedSecret, certificate: &Certificate) {
    let items = object.spec.encrypted_data.keys();
    let hints: Hints = items
        .map(|key| (key.clone(), certificate.fingerprint().clone()))
        .collect();
    if !hints.is_empty() {
        hints::annotate(object.metadata.annotations.get_or_insert_default(), &hints);
    }
}

/// Reads a Secret out of a file, and warns about values that YAML turns into another text.
///
/// # Errors
///
/// It is malformed, or `sops` encrypted it.
pub fn read_secret(node: &Node, file: &str) -> Result<Secret> {
    // In `data`, ciphertext of sops is no base64 either.
    if matches!(&node.value, Value::Map(fields) if fields.iter().any(|(name, _)| name == "sops")) {
        return Err(SealingError::Sops(file.to_owned()).into());
    }
    let mut reading = Reading::default();
    let secret = Secret::from_node(node, &mut reading).with_context(|| file.to_owned())?;
    for (key, value) in &secret.data {
        let value = value.expose().trim_ascii();
        if value.starts_with(b"{{") && value.ends_with(b"}}") {
            report::warn(&format!(
                "{file}: the value of {key} is a template action, which is sealed as it stands; a template is rendered \
                 first"
            ));
        }
    }
    for Coercion { line, path, kind } in &reading.coerced {
        report::warn(&format!(
            "{file}:{line}: {path} is not in quotes, so YAML reads it as {kind} and its text changes; \
             put it in quotes if that is not meant"
        ));
    }
    Ok(secret)
}
