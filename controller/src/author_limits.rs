//! What authors of SealedSecrets may ask for, where whoever runs the controller limits it.
//!
//! A SealedSecret is often written by people who may create no Secret themselves. Two types of Secret
//! make more of that than a value: the API server puts a token for any `ServiceAccount` into one, and
//! takes the other for the right to join the cluster.

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

/// Types by which an author may get more than the values that he sealed.
pub const RISKY_TYPES: [&str; 2] = [
    "kubernetes.io/service-account-token",
    "bootstrap.kubernetes.io/token",
];

/// The limits. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorLimits {
    keys: Option<KeyPlace>,
    /// Types of Secret that nobody gets.
    forbidden_types: BTreeSet<String>,
    scopes: ScopeRules,
    /// So old may the key be that an item was sealed for.
    oldest_key: Option<SignedDuration>,
    text: String,
}

/// Where a Secret would be taken for a sealing key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyPlace {
    namespace: String,
    /// The name of the oldest key, which needs no label.
    unlabelled: String,
}

/// A SealedSecret asks for what it may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A sealing key of its author's choice.
    #[error(
        "no SealedSecret makes a Secret with the label {KEY_LABEL}, or the name {name:?}, in namespace {namespace}: \
         this controller would seal with it; restore keys with `seal keys restore`"
    )]
    Key {
        /// The namespace of the keys.
        namespace: String,
        /// The name of the key that needs no label.
        name: String,
    },
    /// A type that nobody gets.
    #[error(
        "Secrets of type {0:?} are not made here (--forbid-secret-types); take another type, or ask whoever runs the \
         controller"
    )]
    Type(String),
    /// A scope that the namespace may not use.
    #[error(
        "scope {scope} is not allowed in namespace {namespace} (--allowed-scopes: {allowed}); seal it again with \
         an allowed one"
    )]
    Scope {
        /// The scope of the SealedSecret.
        scope: Scope,
        /// Its namespace.
        namespace: String,
        /// Those that are allowed, by comma.
        allowed: String,
    },
    /// Sealed for a key that is too old.
    #[error(
        "sealed for a key that is older than {limit:#} (--max-sealing-key-age): {items}; seal them again with the \
         certificate of today, for example with `kubeseal --re-encrypt`"
    )]
    OldKey {
        /// The limit.
        limit: SignedDuration,
        /// The items, by comma.
        items: String,
    },
}

impl AuthorLimits {
    /// Reads types by comma and [`ScopeRules`]; no `oldest_key` stands for any age.
    ///
    /// # Errors
    ///
    /// The scope rules are none.
    pub fn read(
        types: &str,
        scopes: &str,
        oldest_key: Option<SignedDuration>,
    ) -> Result<Self, ScopeRulesError> {
        let named = types.split(',').map(str::trim);
        let named = named.filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self {
            keys: None,
            forbidden_types: named.collect(),
            scopes: scopes.parse()?,
            oldest_key,
            text: format!("{types};{scopes};{oldest_key:?}"),
        })
    }

    /// In that namespace nobody gets a Secret that would be loaded as a key: whoever plants one reads what
    /// others seal for it. The label counts whatever its value is, since nothing else has a use for it.
    #[must_use]
    pub fn guarding_keys(mut self, namespace: &str, unlabelled: &str) -> Self {
        self.text.extend([";", namespace, "/", unlabelled]);
        self.keys = Some(KeyPlace {
            namespace: namespace.to_owned(),
            unlabelled: unlabelled.to_owned(),
        });
        self
    }

    /// The same for the same limits, and another one for others.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// May what was allowed once be refused later, though nothing but the clock has changed?
    pub fn depend_on_time(&self) -> bool {
        self.oldest_key.is_some()
    }

    /// Judges what a SealedSecret has been unsealed to. The type is that of the Secret, since in the
    /// deprecated form it is sealed as well; the age of a key is counted from its order time.
    ///
    /// # Errors
    ///
    /// [`Breach`], the first one.
    pub fn allow(
        &self,
        sealed: &SealedSecret,
        unsealed: &Unsealed,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Breach> {
        self.allow_type(&unsealed.secret)?;
        self.allow_place(&unsealed.secret)?;
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        self.scopes.allow(sealed.namespace_or_empty(), scope)?;
        self.allow_keys(&unsealed.sealed_by, ring, now)
    }

    fn allow_type(&self, secret: &Secret) -> Result<(), Breach> {
        match &secret.type_ {
            Some(type_) if self.forbidden_types.contains(type_) => Err(Breach::Type(type_.clone())),
            _ => Ok(()),
        }
    }

    fn allow_place(&self, secret: &Secret) -> Result<(), Breach> {
        let metadata = &secret.metadata;
        let place = self.keys.as_ref();
        let place = place.filter(|place| metadata.namespace.as_ref() == Some(&place.namespace));
        let labels = metadata.labels.as_ref();
        let is_labelled = labels.is_some_and(|labels| labels.contains_key(KEY_LABEL));
        match place {
            Some(place) if is_labelled || metadata.name.as_ref() == Some(&place.unlabelled) => {
                Err(Breach::Key {
                    namespace: place.namespace.clone(),
                    name: place.unlabelled.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    fn allow_keys(
        &self,
        sealed_by: &BTreeMap<String, Fingerprint>,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Breach> {
        let Some(limit) = self.oldest_key else {
            return Ok(());
        };
        let is_old = |key: &&Arc<RingKey>| now.duration_since(key.order_time()) > limit;
        let old = ring.keys().iter().filter(is_old);
        let old: BTreeSet<&Fingerprint> = old.map(|key| key.fingerprint()).collect();
        let is_old = |(item, key): (&String, &Fingerprint)| old.contains(key).then(|| item.clone());
        let items: Vec<String> = sealed_by.iter().filter_map(is_old).collect();
        if items.is_empty() {
            return Ok(());
        }
        let items = items.join(", ");
        Err(Breach::OldKey { limit, items })
    }
}

/// The type of a Secret by which its author may get more than the values that he sealed.
pub fn risky_type(secret: &Secret) -> Option<&'static str> {
    let type_ = secret.type_.as_deref();
    RISKY_TYPES.into_iter().find(|risky| Some(*risky) == type_)
}

/// Which scopes a namespace may use: the first pattern that fits holds, and where none does every scope is
/// allowed. Written `team-*=strict,prod=strict+namespace-wide`; `*` stands for any text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeRules(Vec<(String, Vec<Scope>)>);

/// The text is none of scope rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("takes rules like 'team-*=strict,prod=strict+namespace-wide'; this is none: {0:?}")]
pub struct ScopeRulesError(String);

impl ScopeRules {
    fn allow(&self, namespace: &str, scope: Scope) -> Result<(), Breach> {
        let rule = self.0.iter().find(|(pattern, _)| fits(pattern, namespace));
        match rule {
            Some((_, scopes)) if !scopes.contains(&scope) => Err(Breach::Scope {
                scope,
                namespace: namespace.to_owned(),
                allowed: names(scopes, ", "),
            }),
            _ => Ok(()),
        }
    }
}

impl FromStr for ScopeRules {
    type Err = ScopeRulesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rules = text.split(',').map(str::trim);
        let rules = rules.filter(|rule| !rule.is_empty()).map(rule);
        rules.collect::<Result<_, _>>().map(Self)
    }
}

fn rule(text: &str) -> Result<(String, Vec<Scope>), ScopeRulesError> {
    let wrong = || ScopeRulesError(text.to_owned());
    let (pattern, scopes) = text.split_once('=').ok_or_else(wrong)?;
    let scope = |name: &str| match name.trim() {
        "" => Err(wrong()),
        name => name.parse().map_err(|_| wrong()),
    };
    let scopes = scopes.split('+').map(scope).collect::<Result<_, _>>()?;
    match pattern.trim() {
        "" => Err(wrong()),
        pattern => Ok((pattern.to_owned(), scopes)),
    }
}

fn names(scopes: &[Scope], between: &str) -> String {
    let names: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    names.join(between)
}

/// A `*` stands for any text, also for none.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    let mut starts = text.char_indices().map(|(at, _)| at);
    starts.any(|at| fits(rest, &text[at..])) || fits(rest, "")
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

    #[test]
    fn without_rules_everything_is_allowed_and_the_risky_is_named() {
        for type_ in RISKY_TYPES {
            assert_eq!(AuthorLimits::default().allow_type(&secret(type_)), Ok(()));
            assert_eq!(risky_type(&secret(type_)), Some(type_));
        }
        assert_eq!(risky_type(&secret("Opaque")), None);
    }

    #[test]
    fn refuses_a_forbidden_type_and_no_other() {
        let rules = AuthorLimits::read(RISKY_TYPES[1], "", None).unwrap();
        let refused = Err(Breach::Type(RISKY_TYPES[1].into()));
        assert_eq!(rules.allow_type(&secret(RISKY_TYPES[1])), refused);
        assert_eq!(rules.allow_type(&secret("Opaque")), Ok(()));
        assert_eq!(rules.allow_type(&Secret::default()), Ok(()));
    }

    #[test]
    fn refuses_a_secret_that_would_be_loaded_as_a_key() {
        let limits = AuthorLimits::default().guarding_keys("keys", "old");
        let named = |namespace: &str, name: &str, label: Option<&str>| {
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
            let secret = named(namespace, name, label);
            let got = limits.allow_place(&secret);
            assert_eq!(got.is_err(), is_key, "{namespace}/{name} {label:?}");
            assert_eq!(AuthorLimits::default().allow_place(&secret), Ok(()));
        }
        let breach = limits.allow_place(&named("keys", "old", None)).unwrap_err();
        assert!(
            breach
                .to_string()
                .ends_with("restore keys with `seal keys restore`")
        );
    }

    #[test]
    fn the_first_pattern_that_fits_a_namespace_names_its_scopes() {
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
    fn says_which_scopes_are_allowed() {
        let rules: ScopeRules = "*=strict+namespace-wide".parse().unwrap();
        let breach = rules.allow("shop", Scope::ClusterWide).unwrap_err();
        assert_eq!(
            breach.to_string(),
            "scope cluster-wide is not allowed in namespace shop (--allowed-scopes: strict, namespace-wide); \
             seal it again with an allowed one"
        );
    }

    #[test]
    fn refuses_rules_that_are_none() {
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
