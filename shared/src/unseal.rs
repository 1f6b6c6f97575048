//! SealedSecret + ring → Secret, with an error per item or template.

mod errors;
mod render;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::CryptoRng;

use crate::base64;
use crate::hints::{self, Hints};
use crate::key::Fingerprint;
use crate::key_ring::KeyRing;
use crate::manifest;
use crate::plain::Plain;
use crate::resource::{SealedSecret, SecretTemplate};
use crate::scope::{Label, Scope};
use crate::secret::Secret;
pub use errors::{ItemError, ItemErrors, ItemProblem, UnsealError};
pub use render::{TemplateError, TemplateErrors};

/// What the user allows.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Does the deprecated `spec.data` open?
    pub accept_legacy: bool,
    /// Are templates refused that would give another value each time?
    pub refuse_chance: bool,
}

/// What templates may draw on besides values.
pub struct Chance<'a> {
    /// What `now` and its relatives go by.
    pub now: Timestamp,
    /// The source of random values and salts.
    pub rng: &'a mut dyn CryptoRng,
}

/// A SealedSecret that opened.
#[derive(Debug)]
pub struct Unsealed {
    /// The Secret, without owner.
    pub secret: Secret,
    /// The key that opened each item.
    pub sealed_by: BTreeMap<String, Fingerprint>,
    /// Keys of the Secret whose value would be another one next time, made by a template that uses
    /// time, chance or new keys.
    pub by_chance: BTreeSet<String>,
}

/// Opens a whole SealedSecret: [`unseal_again`] with nothing remembered.
///
/// # Errors
///
/// As there.
pub fn unseal(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: Rules,
    chance: &mut Chance<'_>,
) -> Result<Unsealed, UnsealError> {
    unseal_again(sealed, ring, rules, chance, &Hints::new())
}

/// Opens a whole SealedSecret. Each item is tried with the key that its hint names, then the one that
/// opened it before, then the one that opened the item before it, then newest to oldest. Scope, name and namespace are those of the object itself; the
/// template has no say in them.
///
/// # Errors
///
/// Every item that does not open, or every template that gives no value, or what is wrong with the
/// object. All or nothing.
pub fn unseal_again(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: Rules,
    chance: &mut Chance<'_>,
    remembered: &Hints,
) -> Result<Unsealed, UnsealError> {
    let mut unsealed = match open_again(sealed, ring, rules.accept_legacy, remembered)? {
        Contents::Items(opened) => fill(&sealed.spec.template, opened, rules, chance)?,
        Contents::Legacy(unsealed) => *unsealed,
    };
    let metadata = &mut unsealed.secret.metadata;
    metadata.name.clone_from(&sealed.metadata.name);
    metadata.namespace.clone_from(&sealed.metadata.namespace);
    Ok(unsealed)
}

/// Does every item open? Renders no template: the answer depends on the sealed values, the name, the
/// namespace and the scope, and on nothing that these do not authenticate.
///
/// # Errors
///
/// As [`unseal`], but for templates.
pub fn check(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
) -> Result<(), UnsealError> {
    open(sealed, ring, accept_legacy).map(drop)
}

/// The value of every item, without templates; those of the deprecated form too.
///
/// # Errors
///
/// As [`unseal`], but for templates.
pub fn open_values(
    sealed: &SealedSecret,
    ring: &KeyRing,
) -> Result<BTreeMap<String, Plain>, UnsealError> {
    match open(sealed, ring, true)? {
        Contents::Items((items, _)) => Ok(items),
        Contents::Legacy(unsealed) => Ok(unsealed.secret.data),
    }
}

/// What is sealed in an object, and the key of each item.
pub(crate) enum Contents {
    /// Values one by one.
    Items(Opened),
    /// A whole Secret.
    Legacy(Box<Unsealed>),
}

/// Opens everything that is sealed.
pub(crate) fn open(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
) -> Result<Contents, UnsealError> {
    open_again(sealed, ring, accept_legacy, &Hints::new())
}

fn open_again(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
    remembered: &Hints,
) -> Result<Contents, UnsealError> {
    let label = label(sealed);
    let items = &sealed.spec.encrypted_data;
    match &sealed.spec.data {
        None => {
            let hints = hints::read(sealed.metadata.annotations.as_ref());
            let advice = [&hints, remembered];
            Ok(Contents::Items(open_items(items, ring, &label, advice)?))
        }
        Some(_) if !accept_legacy => Err(UnsealError::LegacyRefused),
        Some(_) if !items.is_empty() => Err(UnsealError::BothForms),
        Some(data) => unseal_legacy(data, ring, &label).map(|u| Contents::Legacy(Box::new(u))),
    }
}

/// Where its values open: by its own name, namespace and annotations. The template has no say.
pub(crate) fn label(sealed: &SealedSecret) -> Label {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    scope.label(sealed.namespace_or_empty(), sealed.name_or_empty())
}

fn fill(
    template: &SecretTemplate,
    (items, sealed_by): Opened,
    rules: Rules,
    chance: &mut Chance<'_>,
) -> Result<Unsealed, UnsealError> {
    let rendered = match &template.data {
        Some(texts) => render::render(items, texts, rules.refuse_chance, chance)?,
        None => items.into(),
    };
    let secret = Secret {
        metadata: secret_metadata(&template.metadata),
        type_: template.type_.clone().filter(|type_| !type_.is_empty()),
        immutable: template.immutable,
        data: rendered.values,
    };
    Ok(Unsealed {
        secret,
        sealed_by,
        by_chance: rendered.by_chance,
    })
}

pub(crate) type Opened = (BTreeMap<String, Plain>, BTreeMap<String, Fingerprint>);

/// Advice on an item comes first, then the key that opened the previous item: the items of one object
/// were mostly sealed together.
fn open_items(
    items: &BTreeMap<String, String>,
    ring: &KeyRing,
    label: &Label,
    advice: [&Hints; 2],
) -> Result<Opened, ItemErrors> {
    let mut opened = Opened::default();
    let mut errors = Vec::new();
    let mut last = None;
    for (key, text) in items {
        let advice = advice.iter().filter_map(|hints| hints.get(key));
        let first: Vec<&Fingerprint> = advice.chain(last.as_ref()).collect();
        match open_item(text, ring, label, &first) {
            Ok((plain, fingerprint)) => {
                opened.0.insert(key.clone(), plain);
                opened.1.insert(key.clone(), fingerprint.clone());
                last = Some(fingerprint);
            }
            Err(problem) => errors.push(ItemError {
                key: key.clone(),
                problem,
            }),
        }
    }
    if errors.is_empty() {
        Ok(opened)
    } else {
        Err(ItemErrors(errors))
    }
}

pub(crate) fn open_item(
    text: &str,
    ring: &KeyRing,
    label: &Label,
    first: &[&Fingerprint],
) -> Result<(Plain, Fingerprint), ItemProblem> {
    let sealed = base64::decode(text.as_bytes())?;
    let (plain, key) = ring.open(label, &sealed, first)?;
    Ok((plain, key.fingerprint().clone()))
}

/// The plain value of `spec.data` is the JSON of a whole Secret, and the template has no part in it.
fn unseal_legacy(data: &str, ring: &KeyRing, label: &Label) -> Result<Unsealed, UnsealError> {
    let sealed = base64::decode(data.as_bytes())?;
    let (plain, key) = ring.open(label, &sealed, &[])?;
    let documents = manifest::read(plain.expose()).map_err(|_| UnsealError::LegacyContent)?;
    let [document] = documents.as_slice() else {
        return Err(UnsealError::LegacyContent);
    };
    let (secrets, _) =
        Secret::all_from_document(document).map_err(|_| UnsealError::LegacyContent)?;
    let [secret] = <[Secret; 1]>::try_from(secrets).map_err(|_| UnsealError::LegacyContent)?;
    let sealed_by = secret
        .data
        .keys()
        .map(|k| (k.clone(), key.fingerprint().clone()))
        .collect();
    let secret = Secret {
        metadata: secret_metadata(&secret.metadata),
        ..secret
    };
    Ok(Unsealed {
        secret,
        sealed_by,
        by_chance: BTreeSet::new(),
    })
}

/// Template metadata without what only a server writes: sent back, it would make the write fail.
pub(crate) fn secret_metadata(template: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        uid: None,
        resource_version: None,
        generation: None,
        self_link: None,
        creation_timestamp: None,
        deletion_timestamp: None,
        deletion_grace_period_seconds: None,
        managed_fields: None,
        owner_references: None,
        ..template.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::{SeedableRng, rngs::StdRng};
    use serde_json::json;

    use super::*;
    use crate::envelope;
    use crate::key::new_test_key;
    use crate::key_ring::{NoKey, RingKey};
    use crate::resource::SealedSecretSpec;

    const RULES: Rules = Rules {
        accept_legacy: true,
        refuse_chance: false,
    };

    fn open(sealed: &SealedSecret, ring: &KeyRing) -> Result<Unsealed, UnsealError> {
        open_with(sealed, ring, RULES)
    }

    fn open_with(
        sealed: &SealedSecret,
        ring: &KeyRing,
        rules: Rules,
    ) -> Result<Unsealed, UnsealError> {
        let mut chance = Chance {
            now: Timestamp::UNIX_EPOCH,
            rng: &mut StdRng::seed_from_u64(7),
        };
        unseal(sealed, ring, rules, &mut chance)
    }

    fn ring() -> KeyRing {
        let key = new_test_key(1);
        let order_time = key.pair.certificate().not_before();
        KeyRing::new([Arc::new(RingKey::new("k".into(), order_time, key.pair))])
    }

    fn sealed_value(ring: &KeyRing, plain: &[u8]) -> String {
        let label = Scope::Strict.label("ns", "n");
        let key = ring.sealing().unwrap().certificate().unwrap().public_key();
        base64::encode(&envelope::seal(key, &label, plain, &mut StdRng::seed_from_u64(5)).unwrap())
    }

    fn object(items: &[(&str, String)]) -> SealedSecret {
        let encrypted_data = items
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect();
        let mut sealed = SealedSecret::new(
            "n",
            SealedSecretSpec {
                encrypted_data,
                ..SealedSecretSpec::default()
            },
        );
        sealed.metadata.namespace = Some("ns".into());
        sealed
    }

    #[test]
    fn opens_every_item_and_names_its_key() {
        let ring = ring();
        let sealed = object(&[
            ("a", sealed_value(&ring, b"x")),
            ("b", sealed_value(&ring, b"")),
        ]);
        let unsealed = open(&sealed, &ring).unwrap();
        assert_eq!(unsealed.secret.data["a"].expose(), b"x");
        assert_eq!(unsealed.secret.data["b"].expose(), b"");
        assert_eq!(
            &unsealed.sealed_by["b"],
            ring.sealing().unwrap().fingerprint()
        );
    }

    #[test]
    fn values_alone_are_those_of_either_form_and_know_no_template() {
        let ring = ring();
        let mut sealed = object(&[("a", sealed_value(&ring, b"x"))]);
        sealed.spec.template.data = Some(BTreeMap::from([("b".into(), Some("{{ broken".into()))]));
        let values = open_values(&sealed, &ring).unwrap();
        assert_eq!(values.len(), 1);
        assert_eq!(values["a"].expose(), b"x");
        let mut legacy = object(&[]);
        let whole = br#"{"kind":"Secret","apiVersion":"v1","data":{"foo":"YmFy"}}"#;
        legacy.spec.data = Some(sealed_value(&ring, whole));
        let values = open_values(&legacy, &ring).unwrap();
        assert_eq!(values.len(), 1);
        assert_eq!(values["foo"].expose(), b"bar");
    }

    #[test]
    fn an_error_of_a_template_names_its_key() {
        let ring = ring();
        let rules = Rules {
            refuse_chance: true,
            ..RULES
        };
        for (key, text) in [
            ("parse", "{{ broken"),
            ("render", "{{ fail \"no\" }}"),
            ("chance", "{{ randAlpha 5 }}"),
        ] {
            let mut sealed = object(&[("a", sealed_value(&ring, b"x"))]);
            sealed.spec.template.data = Some([(key.into(), Some(text.into()))].into());
            let error = open_with(&sealed, &ring, rules).unwrap_err();
            let UnsealError::Template(TemplateErrors(errors)) = error else {
                panic!("{key}: {error}")
            };
            let keys: Vec<_> = errors.iter().map(TemplateError::key).collect();
            assert_eq!(keys, [key]);
        }
    }

    #[test]
    fn a_false_key_hint_changes_nothing() {
        let ring = ring();
        let mut sealed = object(&[("a", sealed_value(&ring, b"x"))]);
        let other = new_test_key(2).pair.fingerprint().clone();
        let annotations = sealed.metadata.annotations.get_or_insert_default();
        hints::annotate(annotations, &[("a".to_owned(), other)].into());
        let unsealed = open(&sealed, &ring).unwrap();
        assert_eq!(
            &unsealed.sealed_by["a"],
            ring.sealing().unwrap().fingerprint()
        );
    }

    #[test]
    fn errors_come_together_with_their_keys_sorted() {
        let ring = ring();
        let sealed = object(&[
            ("good", sealed_value(&ring, b"x")),
            ("c", "*".into()),
            ("b", base64::encode(b"junk")),
            ("a", String::new()),
        ]);
        let error = open(&sealed, &ring).unwrap_err();
        let want = "no key could decrypt secret (a, b)\nillegal base64 data at input byte 0 (c)";
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn name_and_namespace_are_the_objects_own_and_server_fields_of_the_template_go() {
        let mut sealed = object(&[]);
        sealed.spec.template = serde_json::from_value::<SecretTemplate>(json!({
            "metadata": {
                "name": "forged", "namespace": "forged", "uid": "u", "resourceVersion": "1",
                "generation": 2, "selfLink": "/x", "creationTimestamp": "2020-01-01T00:00:00Z",
                "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3,
                "managedFields": [{"manager": "m"}],
                "labels": {"l": "v"}, "annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "q"}],
            },
            "type": "t",
            "immutable": true,
        }))
        .unwrap();
        let secret = open(&sealed, &ring()).unwrap().secret;
        let metadata = serde_json::to_value(&secret.metadata).unwrap();
        assert_eq!(
            metadata,
            json!({
                "name": "n", "namespace": "ns", "labels": {"l": "v"},
                "annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"},
            })
        );
        assert_eq!(
            (secret.type_.as_deref(), secret.immutable),
            (Some("t"), Some(true))
        );
    }

    #[test]
    fn the_template_has_no_say_in_the_scope() {
        let ring = ring();
        let mut sealed = object(&[("a", sealed_value(&ring, b"x"))]);
        let cluster_wide =
            BTreeMap::from([(crate::scope::CLUSTER_WIDE_ANNOTATION.into(), "true".into())]);
        sealed.spec.template.metadata.annotations = Some(cluster_wide.clone());
        assert!(
            open(&sealed, &ring).is_ok(),
            "sealed strict, and strict by its own annotations"
        );
        sealed.metadata.annotations = Some(cluster_wide);
        assert!(open(&sealed, &ring).is_err());
    }

    #[test]
    fn data_of_the_first_version_opens_only_where_it_is_accepted() {
        let ring = ring();
        let whole = br#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x","uid":"u","labels":{"l":"1"}},"data":{"foo":"YmFy"},"type":"Opaque"}"#;
        let mut sealed = object(&[]);
        sealed.spec.data = Some(sealed_value(&ring, whole));
        let secret = open(&sealed, &ring).unwrap().secret;
        assert_eq!(secret.data["foo"].expose(), b"bar");
        assert_eq!(secret.metadata.name.as_deref(), Some("n"));
        assert_eq!(secret.metadata.labels.as_ref().unwrap()["l"], "1");
        assert_eq!(secret.metadata.uid, None);
        assert_eq!(
            open_with(
                &sealed,
                &ring,
                Rules {
                    accept_legacy: false,
                    ..RULES
                }
            )
            .unwrap_err(),
            UnsealError::LegacyRefused
        );

        sealed.spec.encrypted_data.insert("a".into(), String::new());
        assert_eq!(open(&sealed, &ring).unwrap_err(), UnsealError::BothForms);
        sealed.spec.encrypted_data.clear();
        for (data, want) in [
            (Some(String::new()), UnsealError::LegacyNoKey(NoKey)),
            (
                Some(sealed_value(&ring, b"no secret")),
                UnsealError::LegacyContent,
            ),
        ] {
            sealed.spec.data = data;
            assert_eq!(open(&sealed, &ring).unwrap_err(), want);
        }
    }
}
