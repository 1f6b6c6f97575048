//! Seals a Secret with the settings of the file that will contain it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
use kubeseal_library::rules::SealedFormat;
use shared::hints::{self, Hints};
use shared::key::Certificate;
use shared::manifest::{self, Coercion, Node, Reading, Value};
use shared::resource::{DocumentError, SealedSecret};
use shared::scope::Scope;
use shared::seal::{self, Target, V2Options};
use shared::secret::Secret;
use shared::{rotate_by, v2};

use super::recipients::Recipients;
use super::session::Session;
use super::settings::{Origin, Settings};
use super::{annotations, controller_keys, dates, requirements, size};
use crate::failure::Failure;
use crate::report;

/// A sealed Secret, and the keys that it is sealed for.
#[derive(Debug)]
pub struct Sealed {
    /// The new SealedSecret, complete with metadata.
    pub object: SealedSecret,
    /// The keys that the object was sealed for.
    pub keys: SealedFor,
}

/// The keys that values were sealed for.
#[derive(Debug, Clone)]
pub enum SealedFor {
    /// As v1, for the key of a certificate.
    Certificate(Arc<Certificate>),
    /// As v2, for recipients.
    Recipients(Arc<Recipients>),
}

impl fmt::Display for SealedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(certificate) => certificate.fingerprint().fmt(f),
            Self::Recipients(recipients) => f.write_str(&recipients.describe()),
        }
    }
}

impl Sealed {
    /// Describes the object in one line: name, number of items, scope, key and rotate-by date.
    pub fn describe(&self) -> String {
        let object = &self.object;
        let count = v2::items(&object.spec.encrypted_data).count();
        let date = rotate_by::earliest(object).map(|date| format!(", rotate by {date}"));
        format!(
            "{} ({count} {}, {}, for {}{})",
            object.qualified_name(),
            if count == 1 { "item" } else { "items" },
            Scope::from_annotations(object.metadata.annotations.as_ref()),
            self.keys,
            date.unwrap_or_default()
        )
    }
}

/// Whether a Secret may have no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// A Secret without values is accepted.
    Allowed,
    /// A Secret without values is refused unless the user passes `--allow-empty`.
    NeedsFlag,
    /// A Secret without values is refused, and the command has no flag to accept it.
    Refused,
}

/// Seals a Secret. Its scope comes from a flag, else from its own annotations, else from the rule
/// or environment variable.
///
/// # Errors
///
/// Fails if the Secret has no namespace, violates the rule, contains a private key of a controller, or has no values
/// and `empty` does not allow this. Also fails if there is no certificate or recipient.
pub fn seal_secret(
    session: &Session<'_>,
    settings: &Settings,
    secret: Secret,
    empty: Empty,
) -> Result<Sealed> {
    let parts = Parts::default();
    seal_with_parts(session, settings, secret, parts, empty)
}

/// Templates for items of a Secret, by item key. `None` removes the item from the Secret.
pub type Templates = BTreeMap<String, Option<String>>;

/// How the values of a new SealedSecret reach Pods; by default, in a Secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Whether an annotation of the SealedSecret requests that no Secret is created.
    pub is_files: bool,
    /// Whether the values are sealed so that they can never become a Secret object, which only v2 can express.
    pub is_never_secret: bool,
}

/// The parts of a new SealedSecret that do not come from its Secret.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'a> {
    /// The templates; `None` if there are none.
    pub templates: Option<&'a Templates>,
    /// How the values reach Pods.
    pub delivery: Delivery,
}

/// Like [`seal_secret`], with templates, and with the annotation or flag for delivery without a Secret.
///
/// # Errors
///
/// Fails for the reasons of [`seal_secret`], and if the format cannot express the delivery.
pub fn seal_with_parts(
    session: &Session<'_>,
    settings: &Settings,
    mut secret: Secret,
    parts: Parts<'_>,
    empty: Empty,
) -> Result<Sealed> {
    refuse_empty(&secret, empty)?;
    if controller_keys::has_private_key(session, settings, &secret)? {
        bail!(controller_keys::failure(&describe(&secret)));
    }
    requirements::warn_of_size(&secret);
    set_target(session, settings, &mut secret)?;
    let mut sealed = match settings.format.value {
        SealedFormat::V1 => seal_v1(session, settings, &secret, parts)?,
        SealedFormat::V2 => seal_v2(session, settings, &secret, parts)?,
    };
    if parts.delivery.is_files {
        annotate_delivery(&mut sealed.object);
    }
    if let Some(rotate_by) = &settings.rotate_by {
        let now = session.environment.now;
        dates::add_to_new_object(&mut sealed.object, rotate_by.value, now)?;
    }
    Ok(sealed)
}

fn refuse_empty(secret: &Secret, empty: Empty) -> Result<()> {
    if !secret.data.is_empty() || empty == Empty::Allowed {
        return Ok(());
    }
    let failure = Failure::new(format!("{} has no values", describe(secret)));
    bail!(match empty {
        Empty::NeedsFlag => failure.hint("pass --allow-empty if this is intended"),
        _ => failure,
    })
}

/// Annotates the SealedSecret itself: the controller ignores the annotation on the template.
fn annotate_delivery(object: &mut SealedSecret) {
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(DELIVER_ANNOTATION.to_owned(), DELIVER_FILES.to_owned());
}

impl Delivery {
    /// Checks that a format can express the delivery.
    ///
    /// # Errors
    ///
    /// Fails for v1 if the values must never become a Secret object.
    pub fn check_format(self, format: SealedFormat) -> Result<(), Failure> {
        if !self.is_never_secret || format == SealedFormat::V2 {
            return Ok(());
        }
        let message = "--never-secret has no effect on values sealed as v1";
        Err(Failure::new(message).hint(
            "pass --sealed-format v2; or pass --deliver files instead, which sets an annotation that every author of \
             the object can remove",
        ))
    }
}

fn seal_v1(
    session: &Session<'_>,
    settings: &Settings,
    secret: &Secret,
    parts: Parts<'_>,
) -> Result<Sealed> {
    settings.check_v1()?;
    parts.delivery.check_format(SealedFormat::V1)?;
    let certificate = session.certificate(settings)?;
    let rng = &mut shared::random::system();
    let mut object =
        seal::seal(secret, certificate.public_key(), rng).with_context(|| describe(secret))?;
    object.spec.template.data = parts.templates.cloned();
    if !session.args.no_hints {
        add_hints(&mut object, &certificate);
    }
    let keys = SealedFor::Certificate(certificate);
    Ok(Sealed { object, keys })
}

fn seal_v2(
    session: &Session<'_>,
    settings: &Settings,
    secret: &Secret,
    parts: Parts<'_>,
) -> Result<Sealed> {
    let recipients = session.recipients(settings)?;
    let options = V2Options {
        recipients: &recipients.keys(),
        allow_classical: recipients.allow_classical,
        bind_template: recipients.bind_template,
        is_never_secret: parts.delivery.is_never_secret || recipients.is_never_secret,
        template_data: parts.templates,
        now: session.environment.now,
    };
    let object = seal::seal_v2(secret, &options, &mut shared::random::system())
        .with_context(|| describe(secret))?;
    size::check(&object)?;
    let keys = SealedFor::Recipients(recipients);
    Ok(Sealed { object, keys })
}

fn describe(secret: &Secret) -> String {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    format!("the Secret {name:?}")
}

fn set_target(session: &Session<'_>, settings: &Settings, secret: &mut Secret) -> Result<()> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    let namespace = secret.metadata.namespace.clone().unwrap_or_default();
    settings.check_namespace(&namespace)?;
    let annotated = Scope::from_annotations(secret.metadata.annotations.as_ref());
    let setting = settings.scope.as_ref();
    let scope = setting
        .filter(|scope| annotated == Scope::Strict || matches!(scope.by, Origin::Flag(_)))
        .map(|scope| scope.value);
    let target = Target {
        name: None,
        namespace: settings
            .namespace
            .as_ref()
            .map(|setting| setting.value.as_str()),
        scope,
    };
    seal::apply_target(secret, target).with_context(|| format!("the Secret {name:?}"))?;
    settings.check_scope(scope.unwrap_or(annotated))?;
    if seal::is_namespace_missing(secret) {
        let namespace = session.namespace(settings)?;
        let namespace = namespace.ok_or_else(|| {
            let message =
                format!("the Secret {name:?} has no namespace, but its scope requires one");
            Failure::new(message).hint("pass --namespace, or a wider --scope")
        })?;
        settings.check_namespace(&namespace)?;
        secret.metadata.namespace = Some(namespace);
    }
    Ok(())
}

/// Adds hints that name the certificate of each item.
fn add_hints(object: &mut SealedSecret, certificate: &Certificate) {
    let items = object.spec.encrypted_data.keys();
    let hints: Hints = items
        .map(|key| (key.clone(), certificate.fingerprint().clone()))
        .collect();
    if !hints.is_empty() {
        hints::annotate(object.metadata.annotations.get_or_insert_default(), &hints);
    }
}

/// Returns the error for a file that `sops` encrypted.
pub fn encrypted_by_sops_failure(file: &str) -> Failure {
    Failure::new(format!("{file} is encrypted by sops")).hint("import it with `seal import sops`")
}

/// Parses a Secret in a file. Warns about unquoted values whose text YAML changes, about template actions, about items
/// that do not fit the type of the Secret, and about annotations that have an effect only on a SealedSecret.
///
/// # Errors
///
/// Fails if the Secret is malformed, if its name or namespace is not a string, or if `sops` encrypted it.
pub fn read_secret(node: &Node, file: &str) -> Result<Secret> {
    // Check this first, since ciphertext of `sops` in `data` is not base64.
    if matches!(&node.value, Value::Map(fields) if fields.iter().any(|(name, _)| name == "sops")) {
        bail!(encrypted_by_sops_failure(file));
    }
    let mut reading = Reading::default();
    let secret = Secret::from_node(node, &mut reading);
    let secret = secret.map_err(|error| {
        let location = match error {
            // The other errors name a line.
            DocumentError::Metadata => describe_location(node, file),
            _ => file.to_owned(),
        };
        anyhow::Error::from(error).context(location)
    })?;
    if !secret.data.is_empty() {
        requirements::warn_of_type(&secret, file);
    }
    annotations::warn(&secret, file);
    for (key, value) in &secret.data {
        let value = value.expose().trim_ascii();
        if value.starts_with(b"{{") && value.ends_with(b"}}") {
            report::warn(&format!(
                "{file}: the value of {key} is a template action, which is sealed unchanged; render the template first"
            ));
        }
    }
    for Coercion { line, path, kind } in &reading.altered_scalars {
        if matches!(path.as_str(), "metadata.name" | "metadata.namespace") {
            let message = format!(
                "{file}:{line}: {path} must be a string, but YAML reads it as {kind} without quotes"
            );
            bail!(Failure::new(message).hint("quote the value"));
        }
        report::warn(&format!(
            "{file}:{line}: {path} is not quoted, so YAML reads it as {kind} and its text changes; \
             quote it if this is not intended"
        ));
    }
    Ok(secret)
}

/// Returns the location of a Secret, for messages.
fn describe_location(node: &Node, file: &str) -> String {
    let metadata = node.field("metadata");
    let name = metadata.and_then(|metadata| metadata.text("name"));
    format!(
        "{file}:{}: the Secret {:?}",
        node.line,
        name.unwrap_or_default()
    )
}

/// Refuses a manifest with a repeated key, because parsers keep only the last value of such a key.
///
/// # Errors
///
/// Fails if a key is repeated.
pub fn refuse_repeated_keys(bytes: &[u8], path: &str) -> Result<()> {
    let Some(line) = manifest::repeated_key(bytes) else {
        return Ok(());
    };
    let message = format!("{path}, line {line}: duplicate key: the first value would be lost");
    bail!(Failure::new(message).hint("remove one of them, or insert `---` between two documents"))
}
