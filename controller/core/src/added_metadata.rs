//! Labels and annotations that the administrator adds to every Secret that the controller writes, for backup tools
//! and policies.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shared::names;
use shared::resource::SealedSecret;
use shared::secret::Secret;

use crate::decide::{Existing, Held};

/// Domains whose labels and annotations mean something to this controller or to Kubernetes itself.
const RESERVED: [&str; 2] = ["bitnami.com", "kubernetes.io"];

/// The metadata that is added to Secrets. It overrides the metadata of the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddedMetadata {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// A label or annotation cannot be put on a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddedMetadataError {
    /// The text is not a pair.
    #[error("{0:?} is not of the form KEY=VALUE; separate several pairs with commas")]
    Form(String),
    /// An API server would not accept the key.
    #[error(
        "invalid key {0:?}: use at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends, after \
         an optional domain and `/`"
    )]
    Key(String),
    /// An API server would not accept the value as a label value.
    #[error(
        "invalid label value {0:?}: use at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends, \
         or an empty value"
    )]
    Value(String),
    /// The key has a meaning for this controller or for Kubernetes.
    #[error("{0:?} is reserved: keys of kubernetes.io and bitnami.com decide how Secrets are used")]
    Reserved(String),
    /// The key occurs more than once.
    #[error("{0:?} is specified twice")]
    Twice(String),
}

impl AddedMetadata {
    /// Parses labels: `KEY=VALUE` pairs, separated by commas.
    ///
    /// # Errors
    ///
    /// Returns [`AddedMetadataError`] if a pair is invalid, reserved or repeated.
    pub fn with_labels(self, text: &str) -> Result<Self, AddedMetadataError> {
        let labels = pairs(text)?;
        let unfit = labels.values().find(|value| !is_label_value(value));
        match unfit {
            Some(value) => Err(AddedMetadataError::Value(value.clone())),
            None => Ok(Self { labels, ..self }),
        }
    }

    /// Parses annotations: `KEY=VALUE` pairs, separated by commas.
    ///
    /// # Errors
    ///
    /// Returns [`AddedMetadataError`] if a pair is invalid, reserved or repeated.
    pub fn with_annotations(self, text: &str) -> Result<Self, AddedMetadataError> {
        let annotations = pairs(text)?;
        Ok(Self {
            annotations,
            ..self
        })
    }

    /// Returns a text that is equal for equal labels and annotations and differs otherwise; empty if there are none.
    pub fn as_text(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        // Without `..`, so that the compiler requires a decision about each new field.
        let Self {
            labels,
            annotations,
        } = self;
        format!(";added:{labels:?}{annotations:?}")
    }

    fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    /// Adds the labels and annotations to the metadata of a Secret or template. They override existing ones.
    pub fn put_on(&self, metadata: &mut ObjectMeta) {
        for (added, texts) in [
            (&self.labels, &mut metadata.labels),
            (&self.annotations, &mut metadata.annotations),
        ] {
            if !added.is_empty() {
                texts.get_or_insert_default().extend(added.clone());
            }
        }
    }

    /// Returns whether a Secret has all of them.
    pub fn are_on(&self, metadata: &ObjectMeta) -> bool {
        let mut with_them = metadata.clone();
        self.put_on(&mut with_them);
        with_them == *metadata
    }

    /// Returns the owned Secret with the missing labels and annotations, otherwise unchanged; `None` if none is
    /// missing.
    pub fn missing_on(&self, existing: &Existing) -> Option<Box<Secret>> {
        let Existing::Owned(Held::Secret(secret)) = existing else {
            return None;
        };
        let mut restored = secret.clone();
        self.put_on(&mut restored.metadata);
        (restored != *secret).then_some(restored)
    }

    /// Returns the SealedSecret with these labels and annotations in its template.
    pub fn with_added<'a>(&self, sealed: &'a SealedSecret) -> Cow<'a, SealedSecret> {
        if self.is_empty() {
            return Cow::Borrowed(sealed);
        }
        let mut with_added = sealed.clone();
        self.put_on(&mut with_added.spec.template.metadata);
        Cow::Owned(with_added)
    }
}

fn pairs(text: &str) -> Result<BTreeMap<String, String>, AddedMetadataError> {
    let mut pairs = BTreeMap::new();
    let texts = text.split(',').map(str::trim);
    for text in texts.filter(|text| !text.is_empty()) {
        let pair = text.split_once('=');
        let (key, value) = pair.ok_or_else(|| AddedMetadataError::Form(text.to_owned()))?;
        check_key(key)?;
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(AddedMetadataError::Twice(key.to_owned()));
        }
    }
    Ok(pairs)
}

fn check_key(key: &str) -> Result<(), AddedMetadataError> {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    let is_domain = domain.is_none_or(|domain| names::check_object(domain).is_ok());
    if !is_domain || name.is_empty() || !is_label_value(name) {
        return Err(AddedMetadataError::Key(key.to_owned()));
    }
    if domain.is_some_and(is_reserved) {
        return Err(AddedMetadataError::Reserved(key.to_owned()));
    }
    Ok(())
}

/// Returns whether keys of a domain are reserved. Keys of `app.kubernetes.io` are not: they are for all programs.
fn is_reserved(domain: &str) -> bool {
    let is_below = |reserved: &str| {
        let rest = domain.strip_suffix(reserved);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    domain != "app.kubernetes.io" && RESERVED.into_iter().any(is_below)
}

fn is_label_value(value: &str) -> bool {
    let is_end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    value.len() <= 63
        && value.chars().all(allowed)
        && is_end(value.chars().next())
        && is_end(value.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(labels: &str, annotations: &str) -> Result<AddedMetadata, AddedMetadataError> {
        let labels = AddedMetadata::default().with_labels(labels)?;
        labels.with_annotations(annotations)
    }

    #[test]
    fn accepts_valid_and_unreserved_metadata() {
        let long = "a".repeat(64);
        for (labels, annotations, error) in [
            ("", "", ""),
            ("team=a, tier=", "backup.example.com/skip=true", ""),
            ("app.kubernetes.io/part-of=x", "note=a = b; c", ""),
            ("team", "", "is not of the form KEY=VALUE"),
            ("=x", "", "invalid key"),
            ("Example.com/x=y", "", "invalid key"),
            ("a/b/c=y", "", "invalid key"),
            (&format!("{long}=y"), "", "invalid key"),
            (&format!("x={long}"), "", "invalid label value"),
            ("x=a b", "", "invalid label value"),
            ("x=-a", "", "invalid label value"),
            ("x=1,x=2", "", "is specified twice"),
            (
                "sealedsecrets.bitnami.com/sealed-secrets-key=active",
                "",
                "is reserved",
            ),
            ("", "sealedsecrets.bitnami.com/managed=true", "is reserved"),
            ("", "bitnami.com/x=true", "is reserved"),
            (
                "",
                "kubernetes.io/service-account.name=default",
                "is reserved",
            ),
            ("", "policy.kubernetes.io/x=y", "is reserved"),
        ] {
            let message = added(labels, annotations).err();
            let message = message.map(|error| error.to_string()).unwrap_or_default();
            let fits = message.contains(error) && message.is_empty() == error.is_empty();
            assert!(fits, "{labels} {annotations}: {message}");
        }
    }

    #[test]
    fn overrides_existing_metadata_and_keeps_the_rest() {
        let added = added("team=ops", "note=n").unwrap();
        let labels = [("team", "dev"), ("own", "x")].map(|(k, v)| (k.into(), v.into()));
        let mut metadata = ObjectMeta {
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        };
        assert!(!added.are_on(&metadata));
        added.put_on(&mut metadata);
        assert!(added.are_on(&metadata));
        let labels = metadata.labels.unwrap();
        assert_eq!(
            (labels["team"].as_str(), labels["own"].as_str()),
            ("ops", "x")
        );
        assert_eq!(metadata.annotations.unwrap()["note"], "n");
        assert_eq!(AddedMetadata::default().as_text(), "");
        assert_ne!(
            added.as_text(),
            AddedMetadata::default()
                .with_labels("team=x")
                .unwrap()
                .as_text()
        );
    }
}
