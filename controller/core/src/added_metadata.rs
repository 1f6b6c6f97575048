//! Labels and annotations that the administrator adds to every Secret that the controller writes, for backup tools
//! and policies.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shared::names;
use shared::resource::SealedSecret;

/// Domains whose labels and annotations, also in subdomains, control this controller or Kubernetes itself; see
/// [`is_reserved`] for the exception.
const RESERVED: [&str; 2] = ["bitnami.com", "kubernetes.io"];

/// The labels and annotations to add to Secrets. They override those of the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddedMetadata {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// Why labels or annotations from a flag cannot be added to Secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddedMetadataError {
    /// The string is not a `KEY=VALUE` pair.
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
    /// The key controls this controller or Kubernetes.
    #[error(
        "{0:?} is reserved: keys in the domains kubernetes.io (except app.kubernetes.io) and bitnami.com determine \
         how Secrets are used; use a key in another domain"
    )]
    Reserved(String),
    /// The key occurs more than once.
    #[error("{0:?} is specified twice")]
    Duplicate(String),
}

impl AddedMetadata {
    /// Sets the labels to `KEY=VALUE` pairs, separated by commas.
    ///
    /// # Errors
    ///
    /// Returns [`AddedMetadataError`] if a pair is invalid, or if a key is reserved or occurs twice.
    pub fn with_labels(self, text: &str) -> Result<Self, AddedMetadataError> {
        let labels = parse_pairs(text)?;
        let invalid = labels.values().find(|value| !names::is_label_value(value));
        match invalid {
            Some(value) => Err(AddedMetadataError::Value(value.clone())),
            None => Ok(Self { labels, ..self }),
        }
    }

    /// Sets the annotations to `KEY=VALUE` pairs, separated by commas.
    ///
    /// # Errors
    ///
    /// Returns [`AddedMetadataError`] if a pair is invalid, or if a key is reserved or occurs twice.
    pub fn with_annotations(self, text: &str) -> Result<Self, AddedMetadataError> {
        let annotations = parse_pairs(text)?;
        Ok(Self {
            annotations,
            ..self
        })
    }

    /// Returns a string that is equal for equal labels and annotations and differs otherwise; empty if there are none.
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

    /// Adds the labels and annotations to the metadata of a Secret or template. They override existing entries.
    pub fn add_to(&self, metadata: &mut ObjectMeta) {
        for (added, texts) in [
            (&self.labels, &mut metadata.labels),
            (&self.annotations, &mut metadata.annotations),
        ] {
            if !added.is_empty() {
                texts.get_or_insert_default().extend(added.clone());
            }
        }
    }

    /// Returns whether the metadata of a Secret has all of these labels and annotations.
    pub fn are_present_on(&self, metadata: &ObjectMeta) -> bool {
        let mut updated = metadata.clone();
        self.add_to(&mut updated);
        updated == *metadata
    }

    /// Returns the SealedSecret with these labels and annotations in its template.
    pub fn with_added<'a>(&self, sealed: &'a SealedSecret) -> Cow<'a, SealedSecret> {
        if self.is_empty() {
            return Cow::Borrowed(sealed);
        }
        let mut with_added = sealed.clone();
        self.add_to(&mut with_added.spec.template.metadata);
        Cow::Owned(with_added)
    }
}

fn parse_pairs(text: &str) -> Result<BTreeMap<String, String>, AddedMetadataError> {
    let mut pairs = BTreeMap::new();
    let texts = text.split(',').map(str::trim);
    for text in texts.filter(|text| !text.is_empty()) {
        let pair = text.split_once('=');
        let (key, value) = pair.ok_or_else(|| AddedMetadataError::Form(text.to_owned()))?;
        check_key(key)?;
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(AddedMetadataError::Duplicate(key.to_owned()));
        }
    }
    Ok(pairs)
}

fn check_key(key: &str) -> Result<(), AddedMetadataError> {
    if !names::is_metadata_key(key) {
        return Err(AddedMetadataError::Key(key.to_owned()));
    }
    if key
        .split_once('/')
        .is_some_and(|(domain, _)| is_reserved(domain))
    {
        return Err(AddedMetadataError::Reserved(key.to_owned()));
    }
    Ok(())
}

/// Returns whether labels and annotations of a domain are reserved. `app.kubernetes.io` is not reserved, since its
/// labels are meant for all programs.
fn is_reserved(domain: &str) -> bool {
    let is_below = |reserved: &str| {
        let subdomain = domain.strip_suffix(reserved);
        subdomain.is_some_and(|subdomain| subdomain.is_empty() || subdomain.ends_with('.'))
    };
    domain != "app.kubernetes.io" && RESERVED.into_iter().any(is_below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(labels: &str, annotations: &str) -> Result<AddedMetadata, AddedMetadataError> {
        let labels = AddedMetadata::default().with_labels(labels)?;
        labels.with_annotations(annotations)
    }

    #[test]
    fn accepts_valid_and_unreserved_metadata() {
        let too_long = "a".repeat(64);
        for (labels, annotations, error) in [
            ("", "", ""),
            ("team=a, tier=", "backup.example.com/skip=true", ""),
            ("app.kubernetes.io/part-of=x", "note=a = b; c", ""),
            ("team", "", "is not of the form KEY=VALUE"),
            ("=x", "", "invalid key"),
            ("Example.com/x=y", "", "invalid key"),
            ("a/b/c=y", "", "invalid key"),
            (&format!("{too_long}=y"), "", "invalid key"),
            (&format!("x={too_long}"), "", "invalid label value"),
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
            let message = parse(labels, annotations).err();
            let message = message.map(|error| error.to_string()).unwrap_or_default();
            let is_expected = message.contains(error) && message.is_empty() == error.is_empty();
            assert!(is_expected, "{labels} {annotations}: {message}");
        }
    }

    #[test]
    fn overrides_existing_metadata_and_keeps_unrelated_metadata() {
        let added = parse("team=ops", "note=n").unwrap();
        let labels = [("team", "dev"), ("own", "x")].map(|(k, v)| (k.into(), v.into()));
        let mut metadata = ObjectMeta {
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        };
        assert!(!added.are_present_on(&metadata));
        added.add_to(&mut metadata);
        assert!(added.are_present_on(&metadata));
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
