//! Re-encrypts a SealedSecret for the sealing key.

mod to_v2;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::CryptoRng;

use crate::envelope::OpenedValue;
use crate::key::{Fingerprint, PublicKey};
use crate::key_ring::{KeyRing, NoSealingKey};
use crate::meter::{Interrupted, Meter, SEALING_COST, lock_sealing_cost};
use crate::resource::{SKIP_OWNER_ANNOTATION, SealedSecret};
use crate::scope::{Label, Scope};
use crate::seal::{SealError, seal};
use crate::secret::Secret;
use crate::unseal::{
    self, Contents, ItemError, ItemErrors, ItemProblem, ItemValue, MAX_NAMED, UnsealError, UsedKey,
};
use crate::v2::{
    self, Checked, EditError, Flag, FoldSpec, OpenError, OpenedLocks, Recipient, Target,
};
use crate::{base64, hints, sealed_text};

pub use to_v2::{convert_to_v2, reseal_as_v2};

/// A re-encrypted SealedSecret: only sealing keys are needed to unseal it, one for v1 items and one for v2 items.
#[derive(Debug)]
pub struct Resealed {
    /// The SealedSecret, without status, and with only these metadata: name, `generateName`, namespace, labels,
    /// annotations and finalizers. They are unchanged, except for the key hints of re-encrypted items. The template is
    /// also unchanged, except for the deprecated form, in which the sealed Secret becomes the template.
    pub sealed: SealedSecret,
    /// Number of re-encrypted items. Items that were already sealed for their sealing key are unchanged.
    pub changed: usize,
}

/// Why a SealedSecret could not be re-encrypted. In this case, nothing was re-encrypted.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// The SealedSecret cannot be unsealed.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// No RSA key, or no key of the preferred suite, may seal.
    #[error(transparent)]
    NoCertificate(#[from] NoSealingKey),
    /// The deprecated form contains more items than the caller allows.
    #[error("the SealedSecret contains {0} items, more than can be re-encrypted in one request")]
    TooManyItems(usize),
    /// The SealedSecret was unsealed, but its values cannot be sealed again.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The v2 items cannot be opened, or the items cannot be sealed as v2.
    #[error(transparent)]
    V2(EditError),
    /// The meter ended the work.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl From<EditError> for ResealError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Open(OpenError::Interrupted(why)) => Self::Interrupted(why),
            EditError::Open(OpenError::Refused(why)) => Self::Unseal(why.into()),
            error => Self::V2(error),
        }
    }
}

/// The rules for re-encrypting an object.
#[derive(Debug, Clone, Copy)]
pub struct ResealRules {
    /// The current time, which determines sealing keys and revisions.
    pub now: Timestamp,
    /// Whether the deprecated `spec.data` is accepted.
    pub accept_legacy: bool,
    /// Maximum number of items of the deprecated form.
    pub max_items: usize,
    /// The requirements of administrators for the object.
    pub policy: v2::Policy,
}

/// Re-encrypts a SealedSecret and keeps the format of each item: v1 items that are not yet sealed for the RSA sealing
/// key are sealed for it, and v2 items are sealed under one lock for [`KeyRing::sealing_recipients`], unless they are
/// already sealed in this way. Other recipients in the object are not kept: they are not trustworthy. The deprecated
/// form becomes v1 items.
///
/// v2 items keep their properties: place, template binding, the identifiers of their values, and the restrictions on
/// their use. The checks of v2 precede all other work.
///
/// # Errors
///
/// Returns [`ResealError`] if the SealedSecret cannot be re-encrypted. In this case, no item is re-encrypted.
pub fn reseal(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: ResealRules,
    random: &mut impl CryptoRng,
    meter: &mut dyn Meter,
) -> Result<Resealed, ResealError> {
    let entries = &sealed.spec.encrypted_data;
    let checked = Checked::new(sealed, &rules.policy, Target::Other).map_err(UnsealError::from)?;
    if !v2::is_v2(entries) {
        return reseal_v1(sealed, ring, rules, random, meter);
    }
    let v1_names = checked.object().v1_items();
    let mut v2_entries = entries.clone();
    let mut v1_object = sealed.clone();
    v1_object.spec.encrypted_data = v2_entries
        .extract_if(.., |name, _| v1_names.contains(name))
        .collect();
    let edit = fold(&checked, ring, rules.now, random, meter)?;
    let changed = edit.set.keys().filter(|name| !name.starts_with('/'));
    let changed = changed.count();
    edit.apply(&mut v2_entries);
    let mut resealed = if v1_names.is_empty() {
        Resealed::unchanged(sealed)
    } else {
        reseal_v1(&v1_object, ring, rules, random, meter)?
    };
    resealed.changed += changed;
    let v1_entries = &mut resealed.sealed.spec.encrypted_data;
    v1_entries.retain(|name, _| v1_names.contains(name));
    v1_entries.extend(v2_entries);
    Ok(resealed)
}

/// Seals the v2 items again under one lock.
fn fold(
    checked: &Checked,
    ring: &KeyRing,
    now: Timestamp,
    random: &mut impl CryptoRng,
    meter: &mut dyn Meter,
) -> Result<v2::Edit, ResealError> {
    let recipients = ring.sealing_recipients(now)?;
    let recipients = recipients.all();
    meter.spend(lock_sealing_cost(&recipients))?;
    let (mut opened, keys) = (OpenedLocks::default(), ring.openers());
    let spec = fold_spec(&recipients, now);
    Ok(v2::fold(checked, &keys, &spec, &mut opened, meter, random)?)
}

/// Returns the parameters of a fold that gives up no protection of the old locks, since the caller may not be entitled
/// to the values.
fn fold_spec<'a>(recipients: &'a [&'a dyn Recipient], now: Timestamp) -> FoldSpec<'a> {
    FoldSpec {
        recipients,
        allow_classical: false,
        template: Flag::Inherit,
        never_secret: Flag::Inherit,
        alone: Flag::Inherit,
        is_forced: false,
        now,
    }
}

impl Resealed {
    fn unchanged(sealed: &SealedSecret) -> Self {
        Self {
            sealed: SealedSecret {
                metadata: metadata_without_server_fields(&sealed.metadata),
                spec: sealed.spec.clone(),
                status: None,
            },
            changed: 0,
        }
    }
}

/// Seals every v1 item that is not yet sealed for the sealing key. Renders no template, and uses each value only in its
/// own item.
///
/// The deprecated form becomes items, and the Secret in it becomes the template, under the scope of the object. The
/// number of its items is known only after it is unsealed; more than `max_items` are refused. The meter is called
/// before each operation. Uses no private key after the first item that cannot be unsealed.
fn reseal_v1(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: ResealRules,
    random: &mut impl CryptoRng,
    meter: &mut dyn Meter,
) -> Result<Resealed, ResealError> {
    let newest = ring.sealing_key(rules.now)?;
    let certificate = newest.certificate().ok_or(NoSealingKey::NoKey)?;
    let mut resealed = Resealed::unchanged(sealed);
    match unseal::open_all_or_stop(sealed, ring, rules.accept_legacy, meter)? {
        Contents::Items(items) => {
            let used_key = |key: &String| items.keys.get(key).and_then(UsedKey::fingerprint);
            let is_outdated = |key: &String| used_key(key) != Some(newest.fingerprint());
            let items = items.values.iter();
            let items: Vec<_> = items.filter(|(key, _)| is_outdated(key)).collect();
            meter.spend(SEALING_COST * items.len() as u64)?;
            resealed.changed = seal_items(
                &mut resealed.sealed,
                items.into_iter(),
                certificate.public_key(),
            )?;
        }
        Contents::Legacy(unsealed) => {
            let mut secret = unsealed.secret;
            if secret.data.len() > rules.max_items {
                return Err(ResealError::TooManyItems(secret.data.len()));
            }
            meter.spend(SEALING_COST * secret.data.len() as u64)?;
            adopt_metadata(&mut secret, sealed);
            resealed.changed = secret.data.len();
            resealed.sealed.spec = seal(&secret, certificate.public_key(), random)?.spec;
        }
    }
    Ok(resealed)
}

/// Returns the name, `generateName`, namespace, labels, annotations and finalizers. Other fields, such as
/// `resourceVersion`, can make a later write fail.
fn metadata_without_server_fields(metadata: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name.clone(),
        generate_name: metadata.generate_name.clone(),
        namespace: metadata.namespace.clone(),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        finalizers: metadata.finalizers.clone(),
        ..ObjectMeta::default()
    }
}

/// Replaces the name, namespace and scope of the Secret with those of the SealedSecret. Copies the only annotation of
/// the old template that the controller uses.
fn adopt_metadata(secret: &mut Secret, sealed: &SealedSecret) {
    let metadata = &mut secret.metadata;
    metadata.name.clone_from(&sealed.metadata.name);
    metadata.namespace.clone_from(&sealed.metadata.namespace);
    let annotations = metadata.annotations.get_or_insert_default();
    Scope::from_annotations(sealed.metadata.annotations.as_ref()).annotate(annotations);
    let template = sealed.spec.template.metadata.annotations.as_ref();
    if let Some(value) = template.and_then(|texts| texts.get(SKIP_OWNER_ANNOTATION)) {
        annotations.insert(SKIP_OWNER_ANNOTATION.into(), value.clone());
    }
}

/// The values of one object that were not yet sealed for the new key, re-encrypted for it.
#[derive(Debug, Default)]
pub struct ResealedValues {
    /// New sealed values in base64, by item key.
    pub items: BTreeMap<String, String>,
    /// New sealed value of the deprecated `spec.data`.
    pub data: Option<String>,
    /// The key that unsealed the last value, or the caller's `first` if no value was unsealed. Try this key first on
    /// the next object, which was probably sealed at about the same time.
    pub last: Option<Fingerprint>,
    /// The number of re-encrypted values, by the key that they were sealed for before.
    pub from: BTreeMap<Fingerprint, usize>,
    /// Items that no key of the ring can unseal, but that are already sealed for the new key according to their hints:
    /// the private key of the new key may be missing from the ring.
    pub current_by_hint: Vec<String>,
}

/// Re-encrypts the values that are not yet sealed for the key, and keeps the form: `spec.data` stays `spec.data`. The
/// ring need not contain the key. For each value, tries the key that its hint names, then the key that unsealed the
/// previous value (for the first value, `first`), then the keys in the order of the ring.
///
/// # Errors
///
/// Returns [`ResealError`], with the first 1,000 items that cannot be unsealed; the remaining items are not tried after
/// that.
pub fn reseal_values(
    sealed: &SealedSecret,
    ring: &KeyRing,
    key: &PublicKey,
    first: Option<&Fingerprint>,
) -> Result<ResealedValues, ResealError> {
    let label = unseal::label(sealed);
    let hints = hints::read(sealed.metadata.annotations.as_ref());
    let mut new = ResealedValues {
        last: first.cloned(),
        ..ResealedValues::default()
    };
    let mut errors = ItemErrors::default();
    for (item, text) in &sealed.spec.encrypted_data {
        if errors.items.len() == MAX_NAMED {
            errors.untried += 1;
            continue;
        }
        let hint = hints.get(item);
        let first: Vec<&Fingerprint> = hint.into_iter().chain(new.last.as_ref()).collect();
        match unseal::open_item(text, ring, &label, &first) {
            Ok((value, unsealed_by)) => {
                if let Some(text) = new.reseal(&value, unsealed_by, key, &label)? {
                    new.items.insert(item.clone(), text);
                }
            }
            Err(ItemProblem::NoKey(_)) if hint == Some(key.fingerprint()) => {
                new.current_by_hint.push(item.clone());
            }
            Err(problem) => errors.items.push(ItemError {
                key: item.clone(),
                problem,
            }),
        }
    }
    if !errors.items.is_empty() {
        errors.explain(sealed, ring);
        return Err(UnsealError::from(errors).into());
    }
    if let Some(data) = &sealed.spec.data {
        let bytes = sealed_text::decode(data).map_err(UnsealError::from)?;
        let result = ring.open_value(&label, &bytes, new.last.as_ref().as_slice());
        let (value, ring_key) = result.map_err(UnsealError::from)?;
        let unsealed_by = ring_key.fingerprint().clone();
        new.data = new.reseal(&value, unsealed_by, key, &label)?;
    }
    Ok(new)
}

impl ResealedValues {
    fn reseal(
        &mut self,
        value: &OpenedValue,
        unsealed_by: Fingerprint,
        key: &PublicKey,
        label: &Label,
    ) -> Result<Option<String>, SealError> {
        self.last = Some(unsealed_by.clone());
        if unsealed_by == *key.fingerprint() {
            return Ok(None);
        }
        *self.from.entry(unsealed_by).or_default() += 1;
        let sealed = value.seal_again(key, label)?;
        Ok(Some(base64::encode(&sealed)))
    }
}

fn seal_items<'a>(
    sealed: &mut SealedSecret,
    items: impl Iterator<Item = (&'a String, &'a ItemValue)>,
    key: &PublicKey,
) -> Result<usize, SealError> {
    let (label, mut changed) = (unseal::label(sealed), 0);
    let mut hints = hints::read(sealed.metadata.annotations.as_ref());
    for (item, value) in items {
        let ItemValue::V1(value) = value else {
            continue;
        };
        let text = base64::encode(&value.seal_again(key, &label)?);
        sealed.spec.encrypted_data.insert(item.clone(), text);
        if let Some(hint) = hints.get_mut(item) {
            *hint = key.fingerprint().clone();
        }
        changed += 1;
    }
    if let Some(annotations) = sealed.metadata.annotations.as_mut()
        && changed > 0
        && !hints.is_empty()
    {
        hints::annotate(annotations, &hints);
    }
    Ok(changed)
}

#[cfg(test)]
mod v2_tests;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use rand::{SeedableRng, rngs::StdRng};
    use serde_json::json;

    use super::*;
    use crate::envelope;
    use crate::key::new_test_key;
    use crate::key_ring::RingKey;
    use crate::meter::Unmetered;
    use crate::plain::Plain;
    use crate::scope::Scope;
    use crate::secret::Secret;
    use crate::unseal::{Randomness, Rules};

    fn rings() -> (KeyRing, KeyRing) {
        let [old, new] = [1, 2].map(|i| {
            let key = new_test_key(i);
            let time = Timestamp::from_second(i).unwrap();
            Arc::new(RingKey::new(format!("k{i}"), time, key.pair))
        });
        (KeyRing::new([old.clone()]), KeyRing::new([old, new]))
    }

    fn sealed_for(ring: &KeyRing, scope: Scope) -> SealedSecret {
        let mut secret = Secret::default();
        secret.metadata.name = Some("n".into());
        secret.metadata.namespace = Some("ns".into());
        scope.annotate(secret.metadata.annotations.get_or_insert_default());
        secret.data.insert("a".into(), Plain::from("1".to_owned()));
        secret.data.insert("b".into(), Plain::from("2".to_owned()));
        let key = ring
            .sealing_key(Timestamp::UNIX_EPOCH)
            .unwrap()
            .certificate()
            .unwrap()
            .public_key();
        seal(&secret, key, &mut StdRng::seed_from_u64(1)).unwrap()
    }

    fn reseal_for_newest(sealed: &SealedSecret, ring: &KeyRing) -> Result<Resealed, ResealError> {
        reseal(
            sealed,
            ring,
            rules(),
            &mut StdRng::seed_from_u64(2),
            &mut Unmetered,
        )
    }

    fn rules() -> ResealRules {
        ResealRules {
            now: Timestamp::UNIX_EPOCH,
            accept_legacy: true,
            max_items: 2,
            policy: v2::Policy::default(),
        }
    }

    fn assert_values(sealed: &SealedSecret, ring: &KeyRing) -> BTreeMap<String, UsedKey> {
        let rules = Rules {
            accept_legacy: true,
            refuse_random: true,
        };
        let mut randomness = Randomness {
            now: Timestamp::UNIX_EPOCH,
            rng: &mut StdRng::seed_from_u64(3),
        };
        let unsealed = unseal::unseal(sealed, ring, rules, &mut randomness).unwrap();
        assert_eq!(unsealed.secret.data["a"].expose(), b"1");
        assert_eq!(unsealed.secret.data["b"].expose(), b"2");
        unsealed.sealed_by
    }

    #[test]
    fn r1_r2_r3_re_encrypts_old_items_and_changes_nothing_else() {
        let (old, both) = rings();
        for scope in Scope::ALL {
            let mut sealed = sealed_for(&old, scope);
            let template = &mut sealed.spec.template;
            template.metadata.labels = Some([("team".to_owned(), "red".to_owned())].into());
            template.data = Some([("t".to_owned(), Some("{{ fail .a }}".to_owned()))].into());
            let annotations = sealed.metadata.annotations.get_or_insert_default();
            annotations.insert("note".into(), "top".into());
            sealed.metadata.uid = Some("u".into());
            let first = reseal_for_newest(&sealed, &both).unwrap();
            assert_eq!(first.changed, 2, "{scope:?}");
            assert_eq!(first.sealed.spec.template, sealed.spec.template);
            assert_eq!(
                first.sealed.metadata.annotations,
                sealed.metadata.annotations
            );
            assert_eq!(first.sealed.metadata.uid, None);
            let mut without_templates = first.sealed.clone();
            without_templates.spec.template.data = None;
            let newest = both
                .sealing_key(Timestamp::UNIX_EPOCH)
                .unwrap()
                .fingerprint();
            let is_newest = |by: &UsedKey| by.fingerprint() == Some(newest);
            assert!(
                assert_values(&without_templates, &both)
                    .values()
                    .all(is_newest)
            );

            let again = reseal_for_newest(&first.sealed, &both).unwrap();
            assert_eq!(again.changed, 0);
            assert_eq!(again.sealed, first.sealed);
        }
    }

    #[test]
    fn keeps_the_spelling_of_hints_where_nothing_is_re_encrypted() {
        let (old, _) = rings();
        let mut sealed = sealed_for(&old, Scope::Strict);
        let hints = [("a".to_owned(), old.keys()[0].fingerprint().clone())].into();
        let annotations = sealed.metadata.annotations.get_or_insert_default();
        hints::annotate(annotations, &hints);
        for text in annotations.values_mut() {
            text.push(' ');
        }
        assert_eq!(reseal_for_newest(&sealed, &old).unwrap().sealed, sealed);
    }

    #[test]
    fn takes_the_scope_from_the_object_and_not_from_its_template() {
        let (old, both) = rings();
        let mut sealed = sealed_for(&old, Scope::Strict);
        let annotations = sealed
            .spec
            .template
            .metadata
            .annotations
            .get_or_insert_default();
        Scope::ClusterWide.annotate(annotations);
        let mut moved = reseal_for_newest(&sealed, &both).unwrap().sealed;
        assert_values(&moved, &both);
        moved.metadata.name = Some("other".into());
        assert!(unseal::check(&moved, &both, true).is_err());

        Scope::ClusterWide.annotate(sealed.metadata.annotations.get_or_insert_default());
        assert!(matches!(
            reseal_for_newest(&sealed, &both),
            Err(ResealError::Unseal(_))
        ));
    }

    #[test]
    fn updates_key_hints_of_re_encrypted_items() {
        let (old, both) = rings();
        let mut sealed = sealed_for(&old, Scope::Strict);
        let fingerprint = |ring: &KeyRing| {
            ring.sealing_key(Timestamp::UNIX_EPOCH)
                .unwrap()
                .fingerprint()
                .clone()
        };
        let hints = [("a".to_owned(), fingerprint(&old))].into();
        hints::annotate(sealed.metadata.annotations.get_or_insert_default(), &hints);
        let resealed = reseal_for_newest(&sealed, &both).unwrap().sealed;
        let hints = hints::read(resealed.metadata.annotations.as_ref());
        assert_eq!(hints, [("a".to_owned(), fingerprint(&both))].into());
    }

    #[test]
    fn re_encrypts_for_a_key_that_is_not_in_the_ring() {
        let (old, both) = rings();
        let newest = both.newest_key().unwrap();
        let key = newest.certificate().unwrap().public_key();
        let mut sealed = sealed_for(&old, Scope::NamespaceWide);
        let new = reseal_values(&sealed, &old, key, None).unwrap();
        assert_eq!(new.from, [(old.keys()[0].fingerprint().clone(), 2)].into());
        sealed.spec.encrypted_data.extend(new.items);
        let is_newest = |by: &UsedKey| by.fingerprint() == Some(newest.fingerprint());
        assert!(assert_values(&sealed, &both).values().all(is_newest));

        let empty = SealedSecret::new("n", crate::resource::SealedSecretSpec::default());
        let first = Some(newest.fingerprint());
        let new = reseal_values(&empty, &both, key, first).unwrap();
        assert_eq!(
            new.last.as_ref(),
            first,
            "the next object also tries it first"
        );

        let again = reseal_values(&sealed, &both, key, None).unwrap();
        assert_eq!((again.items.len(), again.from.len()), (0, 0));

        // Without the newest private key, only hints show which items are already re-encrypted.
        assert!(reseal_values(&sealed, &old, key, None).is_err());
        let hints = ["a", "b"].map(|item| (item.to_owned(), newest.fingerprint().clone()));
        hints::annotate(
            sealed.metadata.annotations.get_or_insert_default(),
            &hints.into(),
        );
        let new_from_hints = reseal_values(&sealed, &old, key, None).unwrap();
        assert_eq!(
            (
                new_from_hints.items.len(),
                new_from_hints.current_by_hint.len()
            ),
            (0, 2)
        );
    }

    /// Returns an object with scope `outer` in the deprecated form, which contains a Secret that declares scope
    /// `inner`.
    fn deprecated_object(keys: &KeyRing, inner: Scope, outer: Scope) -> SealedSecret {
        let mut annotations = BTreeMap::from([("own".to_owned(), "1".to_owned())]);
        inner.annotate(&mut annotations);
        let secret_json = json!({
            "kind": "Secret", "apiVersion": "v1", "type": "example.com/own",
            "metadata": { "name": "x", "labels": { "l": "1" }, "annotations": annotations },
            "data": { "a": "MQ==", "b": "Mg==" },
        });
        let mut sealed = sealed_for(keys, outer);
        let key = keys
            .sealing_key(Timestamp::UNIX_EPOCH)
            .unwrap()
            .certificate()
            .unwrap()
            .public_key();
        let (label, mut rng) = (unseal::label(&sealed), StdRng::seed_from_u64(4));
        let value =
            envelope::seal(key, &label, secret_json.to_string().as_bytes(), &mut rng).unwrap();
        sealed.spec.encrypted_data.clear();
        sealed.spec.data = Some(base64::encode(&value));
        sealed
    }

    #[test]
    fn converts_the_deprecated_form_to_items_with_the_scope_of_the_object() {
        let (old, both) = rings();
        for inner in Scope::ALL {
            for outer in Scope::ALL {
                let case = format!("{inner} in {outer}");
                let sealed = deprecated_object(&old, inner, outer);
                let resealed = reseal_for_newest(&sealed, &both).unwrap();
                assert_eq!(resealed.changed, 2, "{case}");
                let new = resealed.sealed;
                assert_eq!(new.spec.data, None, "{case}");
                assert_eq!(new.spec.template.type_.as_deref(), Some("example.com/own"));
                assert_eq!(new.metadata.annotations, sealed.metadata.annotations);
                assert_values(&new, &both);
                for claimed_scope in Scope::ALL {
                    let mut forged = new.clone();
                    claimed_scope.annotate(forged.metadata.annotations.get_or_insert_default());
                    let is_unsealed = unseal::check(&forged, &both, true).is_ok();
                    assert_eq!(
                        is_unsealed,
                        claimed_scope == outer,
                        "{case}, claims {claimed_scope}"
                    );
                }
            }
        }
    }

    #[test]
    fn adds_no_annotation_to_the_secret_of_the_deprecated_form() {
        let (old, both) = rings();
        let mut sealed = deprecated_object(&old, Scope::Strict, Scope::NamespaceWide);
        let outer = sealed.metadata.annotations.get_or_insert_default();
        outer.insert("argocd.argoproj.io/sync-wave".into(), "1".into());
        let template = &mut sealed.spec.template.metadata.annotations;
        template
            .get_or_insert_default()
            .extend([SKIP_OWNER_ANNOTATION, "other"].map(|name| (name.into(), "true".into())));
        let new = reseal_for_newest(&sealed, &both).unwrap().sealed;
        assert_eq!(new.metadata.annotations, sealed.metadata.annotations);
        let mut want = BTreeMap::from([
            ("own".to_owned(), "1".to_owned()),
            (SKIP_OWNER_ANNOTATION.to_owned(), "true".to_owned()),
        ]);
        Scope::NamespaceWide.annotate(&mut want);
        assert_eq!(new.spec.template.metadata.annotations, Some(want));
    }

    #[test]
    fn refuses_more_items_than_the_caller_allows() {
        let (old, both) = rings();
        let sealed = deprecated_object(&old, Scope::Strict, Scope::Strict);
        let result = reseal(
            &sealed,
            &both,
            ResealRules {
                max_items: 1,
                ..rules()
            },
            &mut StdRng::seed_from_u64(2),
            &mut Unmetered,
        );
        assert!(
            matches!(result, Err(ResealError::TooManyItems(2))),
            "{result:?}"
        );
    }
}
