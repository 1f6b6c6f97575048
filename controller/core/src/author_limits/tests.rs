use std::collections::BTreeSet;
use std::sync::Arc;

use shared::key::{KeySize, KeySpec};
use shared::key_ring::{RingKey, RingV2Key};
use shared::resource::SealedSecretSpec;
use shared::v2::key_secret::StoredKey;
use shared::v2::{LockSpec, Place, Recipient, SecretKey, Suite, Value};

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

/// Applies the limits to an unsealed Secret, as before it is written.
fn allow(limits: &AuthorLimits, secret: &Secret) -> Result<(), Violation> {
    let sealed = SealedSecret::new("n", SealedSecretSpec::default());
    let unsealed = Unsealed {
        secret: secret.clone(),
        sealed_by: BTreeMap::new(),
        random_items: BTreeSet::new(),
        digests: BTreeMap::new(),
    };
    limits.allow(
        &sealed,
        &unsealed,
        &KeyRing::default(),
        Timestamp::UNIX_EPOCH,
    )
}

/// Attack: an author violates one limit at a time.
#[test]
fn each_limit_applies_to_an_unsealed_secret() {
    let types = AuthorLimits::new(
        type_rules("kubernetes.io/tls", ""),
        ScopeRules::default(),
        None,
    );
    assert!(allow(&types, &secret("kubernetes.io/tls")).is_err());
    assert!(allow(&types, &secret(RISKY_TYPES[0])).is_err());
    assert_eq!(allow(&types, &secret("Opaque")), Ok(()));
    let mut key = secret("Opaque");
    key.metadata.namespace = Some("keys".into());
    key.metadata.labels = Some([(KEY_LABEL.to_owned(), "active".to_owned())].into());
    let guarding = AuthorLimits::default().guarding_keys("keys", "old");
    assert!(allow(&guarding, &key).is_err());
    assert_eq!(allow(&AuthorLimits::default(), &key), Ok(()));
    let scopes = AuthorLimits::new(
        TypeRules::default(),
        "*=namespace-wide".parse().unwrap(),
        None,
    );
    assert!(allow(&scopes, &secret("Opaque")).is_err());
}

#[test]
fn refuses_a_risky_type_unless_it_is_allowed() {
    for type_ in RISKY_TYPES {
        let refusal = Err(Violation::RiskyType(type_));
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
    let refusal = Err(Violation::Type("kubernetes.io/tls".into()));
    assert_eq!(rules.allow(&secret("kubernetes.io/tls")), refusal);
    assert_eq!(rules.allow(&secret("Opaque")), Ok(()));
    assert_eq!(rules.allow(&Secret::default()), Ok(()));
    let rules = type_rules(RISKY_TYPES[0], "");
    let refusal = Err(Violation::Type(RISKY_TYPES[0].into()));
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

/// The controller must not accept a record of an earlier check under other limits.
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
        with_formats("a", "", "", 256),
        with_formats("", "a", "", 256),
        with_formats("", "", "a=post-quantum", 256),
        with_formats("", "", "", 255),
    ];
    let texts: BTreeSet<String> = limits.iter().map(AuthorLimits::as_text).collect();
    assert_eq!(texts.len(), limits.len());
}

/// Attack: an author labels the Secret so that another operator copies it to other namespaces or acts on it.
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
                Err(Violation::Metadata(key.into()))
            } else {
                Ok(())
            };
            assert_eq!(allow(&limits, &secret), want, "{key}={value}");
            assert_eq!(allow(&AuthorLimits::default(), &secret), Ok(()));
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

/// Attack: an author seals a Secret with the label of a sealing key in the controller's namespace, so that the
/// controller loads the author's key.
#[test]
fn refuses_a_secret_that_would_be_loaded_as_a_key() {
    let limits = AuthorLimits::default().guarding_keys("keys", "old");
    let secret_labeled = |namespace: &str, name: &str, label: &str, value: Option<&str>| {
        let mut secret = Secret::default();
        secret.metadata.namespace = Some(namespace.into());
        secret.metadata.name = Some(name.into());
        let labels = value.map(|value| BTreeMap::from([(label.into(), value.into())]));
        secret.metadata.labels = labels;
        secret
    };
    let secret_with = |namespace, name, value| secret_labeled(namespace, name, KEY_LABEL, value);
    let v2 = secret_labeled("keys", "x", V2_KEY_LABEL, Some("active"));
    assert!(limits.allow_unless_key(&v2).is_err(), "a v2 key");
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
    let violation = limits
        .allow_unless_key(&secret_with("keys", "old", None))
        .unwrap_err();
    assert!(
        violation
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
    let violation = rules.allow("shop", Scope::ClusterWide).unwrap_err();
    assert_eq!(
        violation.to_string(),
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

fn with_formats(require_v2: &str, require_bound: &str, suites: &str, locks: usize) -> AuthorLimits {
    let suites = suites.parse().unwrap();
    let formats = FormatRules::new(require_v2, require_bound, suites, locks);
    AuthorLimits::default().requiring_formats(formats)
}

#[test]
fn formats_are_required_in_matching_namespaces() {
    let now = Timestamp::from_second(1).unwrap();
    let suites = "legacy-prod=any, *prod=post-quantum";
    let limits = with_formats("prod, team-*", "*-bound", suites, 3);
    for (namespace, want) in [
        ("prod", (true, false, true)),
        ("team-bound", (true, true, false)),
        ("legacy-prod", (false, false, false)),
        ("other", (false, false, false)),
    ] {
        let policy = limits.v2_policy(namespace, now);
        let got = (
            policy.require_v2,
            policy.require_bound,
            policy.require_post_quantum,
        );
        assert_eq!((got, policy.max_locks), (want, 3), "{namespace}");
    }
    let policy = AuthorLimits::default().v2_policy("prod", now);
    assert_eq!(policy.highest_revision, Some(86_401_000));
    assert_eq!(policy.max_locks, v2::DEFAULT_MAX_LOCKS);
    let last = AuthorLimits::default().v2_policy("prod", Timestamp::MAX);
    assert!(last.highest_revision > policy.highest_revision);
}

/// Attack: a caller converts a cluster-wide value in a namespace without requirements, and uses the result in another.
#[test]
fn a_cluster_wide_value_is_converted_by_the_rules_of_all_namespaces() {
    let now = Timestamp::from_second(1).unwrap();
    let limits = with_formats("prod*", "prod", "prod=post-quantum", 3);
    let limits_of = |scope: Scope, namespace: &str| {
        let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
        sealed.metadata.namespace = Some(namespace.into());
        scope.annotate(sealed.metadata.annotations.get_or_insert_default());
        let policy = limits.conversion_policy(&sealed, now);
        let requirements = (policy.require_v2, policy.require_bound);
        (requirements, policy.require_post_quantum)
    };
    let (none, all) = (((false, false), false), ((true, true), true));
    assert_eq!(limits_of(Scope::Strict, "sandbox"), none);
    assert_eq!(limits_of(Scope::NamespaceWide, "sandbox"), none);
    assert_eq!(limits_of(Scope::ClusterWide, "sandbox"), all);
    assert_eq!(limits_of(Scope::Strict, ""), all);
}

#[test]
fn refuses_invalid_suite_rules() {
    for text in ["x", "=any", "x=", "x=xw", "x=any+post-quantum"] {
        assert!(text.parse::<SuiteRules>().is_err(), "{text}");
    }
    assert_eq!(" ,".parse(), Ok(SuiteRules::default()));
}

/// If the text differed, an upgrade would decrypt every object once.
#[test]
fn limits_without_format_rules_have_the_text_of_earlier_releases() {
    let text = AuthorLimits::default().as_text();
    assert!(!text.contains("FormatRules"), "{text}");
    assert_eq!(with_formats("", "", "", 256).as_text(), text);
}

/// Attack: an author seals for a key that may have been stolen, and also for a newer key.
#[test]
fn a_v2_item_is_too_old_if_any_of_its_recipients_is() {
    let hours = SignedDuration::from_hours;
    let now = Timestamp::UNIX_EPOCH.saturating_add(hours(100)).unwrap();
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: hours(1000),
        common_name: String::new(),
    };
    let rsa_key = spec.generate(now, &mut shared::random::system()).unwrap();
    let rsa_key = Arc::new(RingKey::new("rsa".into(), now, rsa_key.pair));
    let keys = [1, 2].map(|seed| SecretKey::from_bytes(Suite::P256, &[seed; 32]).unwrap());
    let recipients = [keys[0].recipient(), keys[1].recipient()];
    let age_of = [hours(50), hours(0)].into_iter();
    let ring_keys = keys.into_iter().zip(age_of).map(|(key, age)| {
        let stored = StoredKey {
            key,
            not_before: Timestamp::MIN,
            not_after: Timestamp::MAX,
        };
        Arc::new(RingV2Key::new(
            "k".into(),
            now.saturating_sub(age).unwrap(),
            stored,
        ))
    });
    let ring = KeyRing::new([rsa_key]).with_v2_keys(ring_keys);
    for (recipients, is_allowed) in [
        (&recipients[..1], false),
        (&recipients[1..], true),
        (&recipients[..], false),
    ] {
        let sealed = sealed_for(recipients);
        let used_key = UsedKey::V2(recipients[recipients.len() - 1].key_id().short());
        let sealed_by = [("a".to_owned(), used_key)].into();
        let limits =
            AuthorLimits::new(TypeRules::default(), ScopeRules::default(), Some(hours(49)));
        let result = limits.allow_key_ages(&sealed, &sealed_by, &ring, now);
        assert_eq!(result.is_ok(), is_allowed, "{result:?}");
    }
}

fn sealed_for(recipients: &[shared::v2::PublicRecipient]) -> SealedSecret {
    let rng = &mut shared::random::system();
    let recipients: Vec<_> = recipients.iter().map(|r| r as &dyn Recipient).collect();
    let spec = LockSpec {
        place: &Place::for_sealing(Scope::Strict, "ns", "n").unwrap(),
        recipients: &recipients,
        allow_classical: false,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: 1,
    };
    let value = Value::new("x".to_owned().into(), rng);
    let mut sealed = SealedSecret::new("n", shared::resource::SealedSecretSpec::default());
    sealed.spec.encrypted_data = v2::seal(&spec, &[("a".to_owned(), value)].into(), rng).unwrap();
    sealed
}
