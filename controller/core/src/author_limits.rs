//! Limits that the administrator sets for authors of SealedSecrets.
//!
//! A SealedSecret is often written by users who may not create Secrets themselves. Two types of Secret grant
//! more than their values: Kubernetes fills a `kubernetes.io/service-account-token` with a token for any
//! `ServiceAccount` of the namespace, and accepts a `bootstrap.kubernetes.io/token` as permission to join the
//! cluster. Both types are refused unless the administrator allows them.

mod format_rules;
mod key_ages;
mod scope_rules;
mod type_rules;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use shared::key_ring::KeyRing;
use shared::resource::{KEY_LABEL, SealedSecret, V2_KEY_LABEL, version_key_name};
use shared::scope::Scope;
use shared::secret::Secret;
use shared::unseal::{Unsealed, UsedKey};
use shared::v2;

pub use format_rules::{FormatRules, SuiteRules, SuiteRulesError};
pub use scope_rules::{ScopeRules, ScopeRulesError};
pub use type_rules::{RISKY_TYPES, TypeRules, TypeRulesError, risky_type};

/// The author limits: restrictions that administrators set for authors of SealedSecrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorLimits {
    key_secrets: Option<ReservedNames>,
    types: TypeRules,
    scopes: ScopeRules,
    formats: FormatRules,
    /// The maximum age of the key that an item was sealed for; `None` for any age.
    max_key_age: Option<SignedDuration>,
    /// Patterns of the namespaces in which templates with actions are refused.
    forbidden_templates: Vec<String>,
    forbidden_metadata: Vec<ForbiddenMetadata>,
}

/// A rule that forbids labels or annotations on Secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ForbiddenMetadata {
    /// Forbids every key that begins with this string.
    Prefix(String),
    /// Forbids this key with this value.
    Pair(String, String),
}

impl ForbiddenMetadata {
    fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self::Pair(key.to_owned(), value.to_owned()),
            None => Self::Prefix(text.to_owned()),
        }
    }

    fn forbids(&self, key: &str, value: &str) -> bool {
        match self {
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Pair(forbidden_key, forbidden_value) => {
                (key, value) == (forbidden_key, forbidden_value)
            }
        }
    }
}

/// The names of Secrets that the controller would load as keys even without a label.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReservedNames {
    namespace: String,
    /// The name of the key Secret of upstream's first releases, which counts as a key even without the label.
    unlabeled: String,
}

impl ReservedNames {
    /// Returns whether a Secret with this name would be loaded as a key: as a sealing key, or as the content-version
    /// key, which must stay secret.
    fn reserves(&self, name: &str) -> bool {
        name == self.unlabeled || name == version_key_name(&self.unlabeled)
    }
}

/// A SealedSecret requires something that the author limits forbid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The controller would load the Secret as a key, and the author would know that key.
    #[error(
        "a SealedSecret may not create a Secret with the label {KEY_LABEL} or {V2_KEY_LABEL}, or with the name {name:?} or \
         {name}-content-versions, in namespace {namespace}: the controller would load it as a key; restore keys with `seal keys restore`"
    )]
    Key {
        /// The namespace of the key Secrets.
        namespace: String,
        /// The name of the key Secret that needs no label.
        name: String,
    },
    /// The type grants the author of the SealedSecret access beyond the values.
    #[error(
        "a Secret of type {0:?} grants the author of a SealedSecret access beyond the sealed values, so the controller \
         does not create the Secret; to allow the type, run the controller with --allow-secret-types={0} (in the \
         chart: allowSecretTypes)"
    )]
    RiskyType(&'static str),
    /// The administrator forbids the type.
    #[error(
        "this controller does not create Secrets of type {0:?} (--forbid-secret-types); use another type, or ask the \
         administrator of the controller"
    )]
    Type(String),
    /// The administrator forbids a label or annotation of the Secret; this is its key.
    #[error(
        "this controller does not create Secrets with the label or annotation {0:?} (--forbid-secret-metadata), since \
         another program may act on it; remove it from the template, or ask the administrator of the controller"
    )]
    Metadata(String),
    /// A template has actions, and templates are not rendered in this namespace.
    #[error(
        "templates are not rendered in namespace {0} (--forbid-templates); seal complete values instead, or ask \
         the administrator of the controller"
    )]
    Templates(String),
    /// The scope is not allowed in the namespace.
    #[error(
        "scope {scope} is not allowed in namespace {namespace} (--allowed-scopes: {allowed}); seal the values again with \
         an allowed scope"
    )]
    Scope {
        /// The scope of the SealedSecret.
        scope: Scope,
        /// The namespace of the SealedSecret.
        namespace: String,
        /// The allowed scopes, separated by commas.
        allowed: String,
    },
    /// An item was sealed for a key that is too old.
    #[error(
        "items sealed for a key that is older than {limit:#} (--max-sealing-key-age): {items}; re-encrypt the items \
         for the newest key, for example with `kubeseal --re-encrypt`, or ask the administrator for a new key if the \
         newest key is also too old"
    )]
    OldKey {
        /// The value of `--max-sealing-key-age`.
        limit: SignedDuration,
        /// The affected items, separated by commas.
        items: String,
    },
}

impl AuthorLimits {
    /// Creates limits. `max_key_age` is the maximum age of a key that an item was sealed for; `None` allows any age.
    pub fn new(types: TypeRules, scopes: ScopeRules, max_key_age: Option<SignedDuration>) -> Self {
        Self {
            key_secrets: None,
            types,
            scopes,
            formats: FormatRules::default(),
            forbidden_templates: Vec::new(),
            forbidden_metadata: Vec::new(),
            max_key_age,
        }
    }

    /// Forbids templates with actions in namespaces that match one of these comma-separated patterns: whether
    /// rendering succeeds can reveal something about the values to the author.
    #[must_use]
    pub fn forbidding_templates(mut self, namespaces: &str) -> Self {
        self.forbidden_templates = split_list(namespaces).map(str::to_owned).collect();
        self
    }

    /// Sets the rules about the formats of values.
    #[must_use]
    pub fn requiring_formats(mut self, formats: FormatRules) -> Self {
        self.formats = formats;
        self
    }

    /// Forbids SealedSecrets whose Secret has one of these labels or annotations. `texts` is a comma-separated list of
    /// key prefixes and `key=value` pairs.
    #[must_use]
    pub fn forbidding_metadata(mut self, texts: &str) -> Self {
        self.forbidden_metadata = split_list(texts).map(ForbiddenMetadata::parse).collect();
        self
    }

    /// Forbids Secrets in `namespace` that the controller would load as a key: an author who plants a key can read the
    /// values that other users seal for it. The two key labels are refused whatever their values are, since they have
    /// no other use.
    #[must_use]
    pub fn guarding_keys(mut self, namespace: &str, unlabeled: &str) -> Self {
        self.key_secrets = Some(ReservedNames {
            namespace: namespace.to_owned(),
            unlabeled: unlabeled.to_owned(),
        });
        self
    }

    /// Returns a string that is equal for equal limits and differs otherwise, since a record that was created under
    /// other limits must not be accepted.
    pub fn as_text(&self) -> String {
        let Self {
            key_secrets,
            types,
            scopes,
            formats,
            max_key_age,
            forbidden_templates,
            forbidden_metadata,
        } = self;
        // Without format rules, the text equals that of earlier releases, so that their records stay valid.
        let formats = if *formats == FormatRules::default() {
            String::new()
        } else {
            format!(";{formats:?}")
        };
        format!(
            "{key_secrets:?};{types:?};{scopes:?};{max_key_age:?};{forbidden_templates:?};{forbidden_metadata:?}{formats}"
        )
    }

    /// Returns whether a SealedSecret that was allowed can be refused later without any change.
    pub fn depend_on_time(&self) -> bool {
        self.max_key_age.is_some()
    }

    /// Returns whether templates with actions are forbidden in a namespace.
    pub fn forbids_templates(&self, namespace: &str) -> bool {
        let mut patterns = self.forbidden_templates.iter();
        patterns.any(|pattern| matches_pattern(pattern, namespace))
    }

    /// Returns the policy for the formats of values in a namespace.
    pub fn v2_policy(&self, namespace: &str, now: Timestamp) -> v2::Policy {
        self.formats.policy(namespace, now)
    }

    /// Returns the policy for the formats of the values of an object.
    pub fn policy_of(&self, sealed: &SealedSecret, now: Timestamp) -> v2::Policy {
        self.v2_policy(sealed.namespace_or_empty(), now)
    }

    /// Returns the policy for the conversion of an object to v2: the policy of its namespace or, if the object is
    /// cluster-wide or has no namespace, a policy that satisfies the rules of all namespaces.
    pub fn conversion_policy(&self, sealed: &SealedSecret, now: Timestamp) -> v2::Policy {
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        let namespace = sealed.namespace_or_empty();
        if scope == Scope::ClusterWide || namespace.is_empty() {
            self.formats.strictest_policy(now)
        } else {
            self.v2_policy(namespace, now)
        }
    }

    /// Checks a SealedSecret before any of its templates is rendered. A template without actions is plain
    /// text and always allowed.
    ///
    /// # Errors
    ///
    /// Returns [`Violation::Templates`] if a template with actions is forbidden in the namespace.
    pub fn allow_templates(&self, sealed: &SealedSecret) -> Result<(), Violation> {
        let namespace = sealed.namespace_or_empty();
        let texts = sealed.spec.template.data.iter().flat_map(BTreeMap::values);
        let has_actions = texts.flatten().any(|text| text.contains("{{"));
        if has_actions && self.forbids_templates(namespace) {
            return Err(Violation::Templates(namespace.to_owned()));
        }
        Ok(())
    }

    /// Checks that the limits allow an unsealed Secret (as [`Self::allow_secret`] does), its labels and annotations,
    /// the scope of its SealedSecret, and the ages of the keys for which the items were sealed. Templates are checked
    /// by [`Self::allow_templates`], and formats by the policy of [`Self::policy_of`]. The type is read from the
    /// Secret, since the deprecated field `spec.data` contains the type in encrypted form. The age of a key counts from
    /// the time by which the key ring orders keys.
    ///
    /// # Errors
    ///
    /// Returns the first [`Violation`].
    pub fn allow(
        &self,
        sealed: &SealedSecret,
        unsealed: &Unsealed,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Violation> {
        self.allow_secret(&unsealed.secret)?;
        self.allow_metadata(&unsealed.secret)?;
        self.allow_ciphertext(sealed, &unsealed.sealed_by, ring, now)
    }

    /// Checks only the scope of an object and the ages of the keys for which its items were sealed, for values that
    /// need not form a valid Secret.
    ///
    /// # Errors
    ///
    /// Returns the first [`Violation`].
    pub fn allow_ciphertext(
        &self,
        sealed: &SealedSecret,
        sealed_by: &BTreeMap<String, UsedKey>,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        self.scopes.allow(sealed.namespace_or_empty(), scope)?;
        self.allow_key_ages(sealed, sealed_by, ring, now)
    }

    /// Checks the type of a Secret, and that the controller would not load the Secret as a key. Forbidden
    /// labels and annotations are checked only by [`Self::allow`].
    ///
    /// # Errors
    ///
    /// Returns the first [`Violation`].
    pub fn allow_secret(&self, secret: &Secret) -> Result<(), Violation> {
        self.types.allow(secret)?;
        self.allow_unless_key(secret)
    }

    fn allow_metadata(&self, secret: &Secret) -> Result<(), Violation> {
        let metadata = &secret.metadata;
        let mut texts = [&metadata.labels, &metadata.annotations]
            .into_iter()
            .flat_map(|texts| texts.iter().flatten());
        let is_forbidden = |(key, value): &(&String, &String)| {
            let mut forbidden = self.forbidden_metadata.iter();
            forbidden.any(|text| text.forbids(key, value))
        };
        match texts.find(is_forbidden) {
            Some((key, _)) => Err(Violation::Metadata(key.clone())),
            None => Ok(()),
        }
    }

    fn allow_unless_key(&self, secret: &Secret) -> Result<(), Violation> {
        let metadata = &secret.metadata;
        let keys = self.key_secrets.as_ref();
        let keys = keys.filter(|keys| metadata.namespace.as_ref() == Some(&keys.namespace));
        let labels = metadata.labels.as_ref();
        let has_label = |label| labels.is_some_and(|labels| labels.contains_key(label));
        let is_labeled = has_label(KEY_LABEL) || has_label(V2_KEY_LABEL);
        match keys {
            Some(keys)
                if is_labeled || metadata.name.as_ref().is_some_and(|n| keys.reserves(n)) =>
            {
                Err(Violation::Key {
                    namespace: keys.namespace.clone(),
                    name: keys.unlabeled.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    fn allow_key_ages(
        &self,
        sealed: &SealedSecret,
        sealed_by: &BTreeMap<String, UsedKey>,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Violation> {
        let Some(limit) = self.max_key_age else {
            return Ok(());
        };
        let items = key_ages::items_with_old_keys(sealed, sealed_by, ring, now, limit);
        if items.is_empty() {
            return Ok(());
        }
        let items: Vec<&str> = items.into_iter().collect();
        let items = items.join(", ");
        Err(Violation::OldKey { limit, items })
    }
}

fn split_list(texts: &str) -> impl Iterator<Item = &str> {
    let texts = texts.split(',').map(str::trim);
    texts.filter(|text| !text.is_empty())
}

/// Returns whether the string matches the pattern, in which `*` matches any string, including an empty one.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some((prefix, suffix)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(prefix) else {
        return false;
    };
    let mut starts = text.char_indices().map(|(start, _)| start);
    starts.any(|start| matches_pattern(suffix, &text[start..])) || matches_pattern(suffix, "")
}

#[cfg(test)]
mod tests;
