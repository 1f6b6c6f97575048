//! Limits that the administrator sets for authors of SealedSecrets.
//!
//! A SealedSecret is often written by users who may not create Secrets themselves. Two types of Secret grant
//! more than their values: Kubernetes fills a `kubernetes.io/service-account-token` with a token for any
//! `ServiceAccount` of the namespace, and accepts a `bootstrap.kubernetes.io/token` as permission to join the
//! cluster. Both types are refused unless the administrator allows them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use shared::key::Fingerprint;
use shared::key_ring::{KeyRing, RingKey};
use shared::resource::{KEY_LABEL, SealedSecret};
use shared::scope::Scope;
use shared::secret::Secret;
use shared::unseal::Unsealed;

use crate::token_secrets;

/// Secret types that can give the author of a SealedSecret more than the values the author sealed.
pub const RISKY_TYPES: [&str; 2] = [token_secrets::TYPE, "bootstrap.kubernetes.io/token"];

/// The limits on authors of SealedSecrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorLimits {
    key_secrets: Option<KeyPlace>,
    types: TypeRules,
    scopes: ScopeRules,
    /// The maximum age of the key that an item was sealed for.
    max_key_age: Option<SignedDuration>,
    /// Patterns of namespaces in which no templates are rendered.
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

/// Which Secrets the controller would load as sealing keys.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyPlace {
    namespace: String,
    /// The name of the oldest key, which counts as a key even without the label.
    unlabeled: String,
}

/// A SealedSecret requires something that the author limits forbid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// The Secret would become a sealing key chosen by its author.
    #[error(
        "a SealedSecret may not create a Secret with the label {KEY_LABEL}, or with the name {name:?}, in namespace \
         {namespace}: the controller would load it as a sealing key; restore keys with `seal keys restore`"
    )]
    Key {
        /// The namespace of the key Secrets.
        namespace: String,
        /// The name of the key Secret that needs no label.
        name: String,
    },
    /// A type that gives the author of the SealedSecret more than the values.
    #[error(
        "a Secret of type {0:?} gives the author of a SealedSecret more than the sealed values, so it is not created; to allow \
         it, run the controller with --allow-secret-types={0} (in the chart: allowSecretTypes)"
    )]
    RiskyType(&'static str),
    /// A type that the administrator forbids.
    #[error(
        "this controller does not create Secrets of type {0:?} (--forbid-secret-types); use another type, or ask the \
         administrator of the controller"
    )]
    Type(String),
    /// The key of a label or annotation that the administrator forbids.
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
    /// A scope that is not allowed in the namespace.
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
        "sealed for a key that is older than {limit:#} (--max-sealing-key-age): {items}; re-encrypt them for the \
         newest key, for example with `kubeseal --re-encrypt`"
    )]
    OldKey {
        /// The maximum age.
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

    /// Forbids these labels and annotations on every Secret. `texts` is a comma-separated list of key
    /// prefixes and `key=value` pairs.
    #[must_use]
    pub fn forbidding_metadata(mut self, texts: &str) -> Self {
        self.forbidden_metadata = split_list(texts).map(ForbiddenMetadata::parse).collect();
        self
    }

    /// Forbids Secrets in `namespace` that the controller would load as a key: an author who plants a key can
    /// read what other users seal for it. The key label is refused with any value, since the label has no other use.
    #[must_use]
    pub fn guarding_keys(mut self, namespace: &str, unlabeled: &str) -> Self {
        self.key_secrets = Some(KeyPlace {
            namespace: namespace.to_owned(),
            unlabeled: unlabeled.to_owned(),
        });
        self
    }

    /// Returns a string that is equal for equal limits and differs otherwise. It contains every field (the
    /// destructuring makes the compiler check this), since a record that was created under other limits must not be
    /// accepted.
    pub fn as_text(&self) -> String {
        let Self {
            key_secrets,
            types,
            scopes,
            max_key_age,
            forbidden_templates,
            forbidden_metadata,
        } = self;
        format!(
            "{key_secrets:?};{types:?};{scopes:?};{max_key_age:?};{forbidden_templates:?};{forbidden_metadata:?}"
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

    /// Checks a SealedSecret before any of its templates is rendered. A template without actions is plain
    /// text and always allowed.
    ///
    /// # Errors
    ///
    /// Returns [`Breach::Templates`] if a template with actions is forbidden in the namespace.
    pub fn allow_templates(&self, sealed: &SealedSecret) -> Result<(), Breach> {
        let namespace = sealed.namespace_or_empty();
        let texts = sealed.spec.template.data.iter().flat_map(BTreeMap::values);
        let has_actions = texts.flatten().any(|text| text.contains("{{"));
        if has_actions && self.forbids_templates(namespace) {
            return Err(Breach::Templates(namespace.to_owned()));
        }
        Ok(())
    }

    /// Checks the result of unsealing a SealedSecret. The type is read from the Secret, since the deprecated
    /// field `spec.data` contains the type in encrypted form. The age of a key is counted from its order time.
    ///
    /// # Errors
    ///
    /// Returns the first [`Breach`].
    pub fn allow(
        &self,
        sealed: &SealedSecret,
        unsealed: &Unsealed,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Breach> {
        self.allow_secret(&unsealed.secret)?;
        self.allow_metadata(&unsealed.secret)?;
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        self.scopes.allow(sealed.namespace_or_empty(), scope)?;
        self.allow_key_ages(&unsealed.sealed_by, ring, now)
    }

    /// Checks the type, name and labels of a Secret.
    ///
    /// # Errors
    ///
    /// Returns the first [`Breach`].
    pub fn allow_secret(&self, secret: &Secret) -> Result<(), Breach> {
        self.types.allow(secret)?;
        self.allow_unless_key(secret)
    }

    fn allow_metadata(&self, secret: &Secret) -> Result<(), Breach> {
        let metadata = &secret.metadata;
        let mut texts = [&metadata.labels, &metadata.annotations]
            .into_iter()
            .flat_map(|texts| texts.iter().flatten());
        let is_forbidden = |(key, value): &(&String, &String)| {
            let mut forbidden = self.forbidden_metadata.iter();
            forbidden.any(|text| text.forbids(key, value))
        };
        match texts.find(is_forbidden) {
            Some((key, _)) => Err(Breach::Metadata(key.clone())),
            None => Ok(()),
        }
    }

    fn allow_unless_key(&self, secret: &Secret) -> Result<(), Breach> {
        let metadata = &secret.metadata;
        let keys = self.key_secrets.as_ref();
        let keys = keys.filter(|keys| metadata.namespace.as_ref() == Some(&keys.namespace));
        let labels = metadata.labels.as_ref();
        let is_labeled = labels.is_some_and(|labels| labels.contains_key(KEY_LABEL));
        match keys {
            Some(keys) if is_labeled || metadata.name.as_ref() == Some(&keys.unlabeled) => {
                Err(Breach::Key {
                    namespace: keys.namespace.clone(),
                    name: keys.unlabeled.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    fn allow_key_ages(
        &self,
        sealed_by: &BTreeMap<String, Fingerprint>,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Breach> {
        let Some(limit) = self.max_key_age else {
            return Ok(());
        };
        let is_too_old = |key: &&Arc<RingKey>| now.duration_since(key.order_time()) > limit;
        let old_keys = ring.keys().iter().filter(is_too_old);
        let old_keys: BTreeSet<&Fingerprint> = old_keys.map(|key| key.fingerprint()).collect();
        let affected_item =
            |(item, key): (&String, &Fingerprint)| old_keys.contains(key).then(|| item.clone());
        let items: Vec<String> = sealed_by.iter().filter_map(affected_item).collect();
        if items.is_empty() {
            return Ok(());
        }
        let items = items.join(", ");
        Err(Breach::OldKey { limit, items })
    }
}

fn split_list(texts: &str) -> impl Iterator<Item = &str> {
    let texts = texts.split(',').map(str::trim);
    texts.filter(|text| !text.is_empty())
}

/// Returns the type of the Secret if it is one of the [`RISKY_TYPES`].
pub fn risky_type(secret: &Secret) -> Option<&'static str> {
    let type_ = secret.type_.as_deref();
    RISKY_TYPES.into_iter().find(|risky| Some(*risky) == type_)
}

/// Which Secret types are allowed: all except the [`RISKY_TYPES`] and the types that the administrator forbids.
/// The administrator can allow a risky type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeRules {
    forbidden: BTreeSet<String>,
    allowed: BTreeSet<String>,
}

/// The list of allowed types is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeRulesError {
    /// The type is allowed by default, so allowing it has no effect. The administrator may have intended a list of all
    /// allowed types.
    #[error(
        "{0:?} is not one of the types that are refused by default: {risky}",
        risky = RISKY_TYPES.join(" and ")
    )]
    NotRisky(String),
    /// The type is both allowed and forbidden.
    #[error("{0:?} is also in --forbid-secret-types")]
    Forbidden(String),
}

impl TypeRules {
    /// Parses two comma-separated lists of types.
    ///
    /// # Errors
    ///
    /// Returns [`TypeRulesError`] if `allowed` contains a type that is allowed by default or also forbidden.
    pub fn read(forbidden: &str, allowed: &str) -> Result<Self, TypeRulesError> {
        let parse_list = |text: &str| -> BTreeSet<String> {
            let types = text.split(',').map(str::trim);
            types
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let rules = Self {
            forbidden: parse_list(forbidden),
            allowed: parse_list(allowed),
        };
        let is_not_risky = |type_: &&String| !RISKY_TYPES.contains(&type_.as_str());
        if let Some(type_) = rules.allowed.iter().find(is_not_risky) {
            return Err(TypeRulesError::NotRisky(type_.clone()));
        }
        match rules.allowed.intersection(&rules.forbidden).next() {
            Some(type_) => Err(TypeRulesError::Forbidden(type_.clone())),
            None => Ok(rules),
        }
    }

    fn allow(&self, secret: &Secret) -> Result<(), Breach> {
        if let Some(type_) = secret
            .type_
            .as_ref()
            .filter(|name| self.forbidden.contains(*name))
        {
            return Err(Breach::Type(type_.clone()));
        }
        match risky_type(secret) {
            Some(type_) if !self.allowed.contains(type_) => Err(Breach::RiskyType(type_)),
            _ => Ok(()),
        }
    }
}

/// Which scopes a namespace may use. The first matching pattern decides; without a match every scope is
/// allowed. Syntax: `team-*=strict,prod=strict+namespace-wide`, where `*` matches any string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeRules(Vec<(String, Vec<Scope>)>);

/// The string is not a valid scope rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid scope rule {0:?}; use a form like 'team-*=strict,prod=strict+namespace-wide'")]
pub struct ScopeRulesError(String);

impl ScopeRules {
    fn allow(&self, namespace: &str, scope: Scope) -> Result<(), Breach> {
        let rule = self
            .0
            .iter()
            .find(|(pattern, _)| matches_pattern(pattern, namespace));
        match rule {
            Some((_, scopes)) if !scopes.contains(&scope) => Err(Breach::Scope {
                scope,
                namespace: namespace.to_owned(),
                allowed: join_names(scopes, ", "),
            }),
            _ => Ok(()),
        }
    }
}

impl FromStr for ScopeRules {
    type Err = ScopeRulesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rules = text.split(',').map(str::trim);
        let rules = rules.filter(|rule| !rule.is_empty()).map(parse_rule);
        rules.collect::<Result<_, _>>().map(Self)
    }
}

fn parse_rule(text: &str) -> Result<(String, Vec<Scope>), ScopeRulesError> {
    let invalid_rule = || ScopeRulesError(text.to_owned());
    let (pattern, scopes) = text.split_once('=').ok_or_else(invalid_rule)?;
    let parse_scope = |name: &str| match name.trim() {
        "" => Err(invalid_rule()),
        name => name.parse().map_err(|_| invalid_rule()),
    };
    let scopes = scopes
        .split('+')
        .map(parse_scope)
        .collect::<Result<_, _>>()?;
    match pattern.trim() {
        "" => Err(invalid_rule()),
        pattern => Ok((pattern.to_owned(), scopes)),
    }
}

fn join_names(scopes: &[Scope], separator: &str) -> String {
    let names: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    names.join(separator)
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
mod tests {
    use super::*;

    fn secret(type_: &str) -> Secret {
        Secret {
            type_: Some(type_.into()),
            ..Secret::default()
        }
    }

    fn type_rules(forbidden: &str, allowed: &str) -> TypeRules {
        TypeRules::read(forbidden, allowed).unwrap()
    }

    #[test]
    fn refuses_a_risky_type_unless_it_is_allowed() {
        for type_ in RISKY_TYPES {
            let refusal = Err(Breach::RiskyType(type_));
            assert_eq!(TypeRules::default().allow(&secret(type_)), refusal);
            assert_eq!(type_rules("Opaque", "").allow(&secret(type_)), refusal);
            assert_eq!(type_rules("", type_).allow(&secret(type_)), Ok(()));
        }
        let [first, second] = RISKY_TYPES;
        assert!(type_rules("", first).allow(&secret(second)).is_err());
        assert_eq!(
            type_rules("", &format!("{first}, {second},")).allow(&secret(second)),
            Ok(())
        );
        assert_eq!(risky_type(&secret("Opaque")), None);
    }

    #[test]
    fn refuses_only_forbidden_types() {
        let rules = type_rules("kubernetes.io/tls", "");
        let refusal = Err(Breach::Type("kubernetes.io/tls".into()));
        assert_eq!(rules.allow(&secret("kubernetes.io/tls")), refusal);
        assert_eq!(rules.allow(&secret("Opaque")), Ok(()));
        assert_eq!(rules.allow(&Secret::default()), Ok(()));
        let rules = type_rules(RISKY_TYPES[0], "");
        let refusal = Err(Breach::Type(RISKY_TYPES[0].into()));
        assert_eq!(rules.allow(&secret(RISKY_TYPES[0])), refusal);
    }

    #[test]
    fn allows_only_types_that_are_refused_by_default_and_not_forbidden() {
        for (forbidden, allowed, message) in [
            ("", "Opaque", "\"Opaque\" is not one of the types"),
            ("", "*", "\"*\" is not one of the types"),
            (
                RISKY_TYPES[1],
                RISKY_TYPES[1],
                "is also in --forbid-secret-types",
            ),
        ] {
            let error = TypeRules::read(forbidden, allowed).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn different_limits_have_different_texts() {
        let with_types = |types| AuthorLimits::new(types, ScopeRules::default(), None);
        let with_age = |hours| {
            let age = SignedDuration::from_hours(hours);
            AuthorLimits::new(TypeRules::default(), ScopeRules::default(), Some(age))
        };
        let with_scopes = |rules: &str| {
            let rules = rules.parse().unwrap();
            AuthorLimits::new(TypeRules::default(), rules, None)
        };
        let limits = [
            AuthorLimits::default(),
            with_types(type_rules("", RISKY_TYPES[0])),
            with_types(type_rules(RISKY_TYPES[0], "")),
            with_scopes("prod=strict"),
            with_scopes("prod=namespace-wide"),
            with_age(1),
            with_age(2),
            AuthorLimits::default().forbidding_templates("a"),
            AuthorLimits::default().forbidding_templates("b"),
            AuthorLimits::default().forbidding_metadata("a"),
            AuthorLimits::default().forbidding_metadata("a=b"),
            AuthorLimits::default().guarding_keys("a", "b"),
            AuthorLimits::default().guarding_keys("b", "a"),
        ];
        let texts: BTreeSet<String> = limits.iter().map(AuthorLimits::as_text).collect();
        assert_eq!(texts.len(), limits.len());
    }

    /// Attack: an author labels the Secret so that another operator copies it elsewhere or acts on it.
    #[test]
    fn refuses_only_forbidden_labels_and_annotations() {
        let limits = AuthorLimits::default().forbidding_metadata(
            " reflector.v1.k8s.emberstack.com/, argocd.argoproj.io/secret-type,owner=helm ,",
        );
        for (key, value, is_forbidden) in [
            (
                "reflector.v1.k8s.emberstack.com/reflection-allowed",
                "true",
                true,
            ),
            ("argocd.argoproj.io/secret-type", "cluster", true),
            ("argocd.argoproj.io/secret-type", "", true),
            ("argocd.argoproj.io/sync-wave", "1", false),
            ("owner", "helm", true),
            ("owner", "me", false),
            ("owner-of", "helm", false),
            ("x/reflector.v1.k8s.emberstack.com/", "true", false),
        ] {
            let texts = Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
            for is_label in [false, true] {
                let mut secret = Secret::default();
                let metadata = &mut secret.metadata;
                let field = if is_label {
                    &mut metadata.labels
                } else {
                    &mut metadata.annotations
                };
                field.clone_from(&texts);
                let want = if is_forbidden {
                    Err(Breach::Metadata(key.into()))
                } else {
                    Ok(())
                };
                assert_eq!(limits.allow_metadata(&secret), want, "{key}={value}");
                assert_eq!(AuthorLimits::default().allow_metadata(&secret), Ok(()));
            }
        }
    }

    #[test]
    fn refuses_templates_with_actions_in_matching_namespaces() {
        let limits = AuthorLimits::default().forbidding_templates("prod, team-*");
        for (namespace, text, is_refused) in [
            ("prod", Some("{{ .a }}"), true),
            ("team-a", Some("{{ .a }}"), true),
            ("team-a", Some("text: {}"), false),
            ("team-a", None, false),
            ("shop", Some("{{ .a }}"), false),
        ] {
            let mut sealed = SealedSecret::new("n", shared::resource::SealedSecretSpec::default());
            sealed.metadata.namespace = Some(namespace.into());
            let text = text.map(str::to_owned);
            sealed.spec.template.data = Some([("t".to_owned(), text)].into());
            let got = limits.allow_templates(&sealed);
            assert_eq!(got.is_err(), is_refused, "{namespace}");
            assert_eq!(AuthorLimits::default().allow_templates(&sealed), Ok(()));
        }
    }

    /// The controller must not accept a record of an earlier check under other limits.
    #[test]
    fn each_limit_changes_the_text_of_the_limits() {
        let no_limits = AuthorLimits::default;
        let limits = [
            no_limits(),
            no_limits().forbidding_templates("x"),
            no_limits().forbidding_metadata("x"),
            no_limits().guarding_keys("x", ""),
            AuthorLimits::new(type_rules("x", ""), ScopeRules::default(), None),
        ];
        let texts: BTreeSet<String> = limits.iter().map(AuthorLimits::as_text).collect();
        assert_eq!(texts.len(), limits.len(), "{texts:?}");
    }

    /// Attack: an author seals a Secret with the label of a sealing key in the controller's namespace, so that the
    /// controller loads the author's key.
    #[test]
    fn refuses_a_secret_that_would_be_loaded_as_a_key() {
        let limits = AuthorLimits::default().guarding_keys("keys", "old");
        let secret_with = |namespace: &str, name: &str, label: Option<&str>| {
            let mut secret = Secret::default();
            secret.metadata.namespace = Some(namespace.into());
            secret.metadata.name = Some(name.into());
            let labels = label.map(|value| BTreeMap::from([(KEY_LABEL.into(), value.into())]));
            secret.metadata.labels = labels;
            secret
        };
        for (namespace, name, label, is_key) in [
            ("keys", "x", Some("active"), true),
            ("keys", "x", Some("compromised"), true),
            ("keys", "x", Some(""), true),
            ("keys", "old", None, true),
            ("keys", "x", None, false),
            ("keys", "older", None, false),
            ("shop", "x", Some("active"), false),
            ("shop", "old", None, false),
        ] {
            let secret = secret_with(namespace, name, label);
            let got = limits.allow_unless_key(&secret);
            assert_eq!(got.is_err(), is_key, "{namespace}/{name} {label:?}");
            assert_eq!(AuthorLimits::default().allow_unless_key(&secret), Ok(()));
        }
        let breach = limits
            .allow_unless_key(&secret_with("keys", "old", None))
            .unwrap_err();
        assert!(
            breach
                .to_string()
                .ends_with("restore keys with `seal keys restore`")
        );
    }

    #[test]
    fn the_first_matching_pattern_decides_the_allowed_scopes() {
        let rules = "prod=strict, team-*-x=strict+namespace-wide,*=cluster-wide";
        let rules: ScopeRules = rules.parse().unwrap();
        for (namespace, allowed) in [
            ("prod", &[Scope::Strict][..]),
            ("team-a-x", &[Scope::Strict, Scope::NamespaceWide]),
            ("team--x", &[Scope::Strict, Scope::NamespaceWide]),
            ("team-a", &[Scope::ClusterWide]),
            ("product", &[Scope::ClusterWide]),
        ] {
            for scope in Scope::ALL {
                let got = rules.allow(namespace, scope).is_ok();
                assert_eq!(got, allowed.contains(&scope), "{scope} in {namespace}");
            }
        }
    }

    #[test]
    fn the_error_lists_the_allowed_scopes() {
        let rules: ScopeRules = "*=strict+namespace-wide".parse().unwrap();
        let breach = rules.allow("shop", Scope::ClusterWide).unwrap_err();
        assert_eq!(
            breach.to_string(),
            "scope cluster-wide is not allowed in namespace shop (--allowed-scopes: strict, namespace-wide); \
             seal the values again with an allowed scope"
        );
    }

    #[test]
    fn refuses_invalid_scope_rules() {
        for text in [
            "x",
            "=strict",
            "x=",
            "x=wide",
            "x=strict+",
            "x=strict;y=strict",
        ] {
            assert!(text.parse::<ScopeRules>().is_err(), "{text}");
        }
        assert_eq!("".parse(), Ok(ScopeRules::default()));
    }
}
