use shared::resource::{KEY_LABEL, PATCH_ANNOTATION};

use super::*;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Plain> {
    let to_owned_pair = |(k, v): &(&str, &str)| ((*k).to_owned(), Plain::from((*v).to_owned()));
    pairs.iter().map(to_owned_pair).collect()
}

fn secret(pairs: &[(&str, &str)]) -> Box<Secret> {
    Box::new(Secret {
        data: values(pairs),
        ..Secret::default()
    })
}

#[test]
fn refuses_missing_items_and_a_public_size_above_the_limit() {
    let typed = |type_: &str, items: &[(&str, &str)]| {
        let mut secret = secret(items);
        secret.type_ = Some(type_.to_owned());
        secret
    };
    let complete = Plan::Create(typed(
        "kubernetes.io/tls",
        &[("tls.crt", ""), ("tls.key", "")],
    ));
    let Plan::Create(created) = enforce_api_rules(complete, |_| None) else {
        panic!("refused a complete Secret");
    };
    assert_eq!(created.data.len(), 2);
    for write in [Plan::Create, Plan::Replace] {
        let plan = write(typed("kubernetes.io/tls", &[("tls.crt", "")]));
        let Plan::Refuse(refusal) = enforce_api_rules(plan, |_| None) else {
            panic!("accepted a Secret without a required item");
        };
        assert_eq!(
            refusal.to_string(),
            "cannot write the Secret: a Secret of type kubernetes.io/tls requires the item tls.key; add the missing \
             items, or change the type"
        );
        let large = "x".repeat(MAX_SECRET_LEN);
        for (size, is_public, is_refused) in [
            (MAX_SECRET_LEN, true, false),
            (MAX_SECRET_LEN + 1, true, true),
            (MAX_SECRET_LEN + 1, false, false),
        ] {
            let remainder = "x".repeat(size - MAX_SECRET_LEN);
            let items = [("a", large.as_str()), ("b", remainder.as_str())];
            let plan = enforce_api_rules(write(secret(&items)), |_| is_public.then_some(size));
            let got = matches!(plan, Plan::Refuse(Refusal::TooLarge(_)));
            assert_eq!(got, is_refused, "{size} {is_public}");
        }
    }
}

#[test]
fn plans_the_change_from_the_existing_to_the_desired_state() {
    use Desired::{Delivered, Nothing, Unknown};
    use Existing::{Absent, NotOwned};
    use Plan::{Create, Leave, Refuse, Remove, Replace};
    let id = ObjectId {
        namespace: "ns".into(),
        name: "n".into(),
    };
    let owned = |pairs| Existing::Owned(Content::Values(values(pairs)));
    let desired_secret = || Desired::Secret {
        secret: secret(&[("a", "1")]),
        random_items: BTreeSet::new(),
    };
    let malformed = || Refusal::Malformed("broken".into());
    let not_owned = Refusal::NotManaged(id.clone());
    for (case_name, desired, existing, plan) in [
        (
            "new",
            desired_secret(),
            Absent,
            Create(secret(&[("a", "1")])),
        ),
        ("up to date", desired_secret(), owned(&[("a", "1")]), Leave),
        (
            "different value",
            desired_secret(),
            owned(&[("a", "2")]),
            Replace(secret(&[("a", "1")])),
        ),
        (
            "additional item",
            desired_secret(),
            owned(&[("a", "1"), ("b", "")]),
            Replace(secret(&[("a", "1")])),
        ),
        (
            "missing item",
            desired_secret(),
            owned(&[]),
            Replace(secret(&[("a", "1")])),
        ),
        ("not owned", desired_secret(), NotOwned, Refuse(not_owned)),
        (
            "unreadable",
            desired_secret(),
            Existing::Unreadable("why".into()),
            Refuse(Refusal::Unreadable("why".into())),
        ),
        ("deleted", Nothing, owned(&[("a", "1")]), Remove),
        ("only delivered", Delivered, owned(&[("a", "1")]), Remove),
        ("only delivered, without a Secret", Delivered, Absent, Leave),
        ("only delivered, not owned", Delivered, NotOwned, Leave),
        ("deleted, without a Secret", Nothing, Absent, Leave),
        (
            "deleted, and the Secret is not owned",
            Nothing,
            NotOwned,
            Leave,
        ),
        (
            "malformed, without a Secret",
            Unknown(malformed()),
            Absent,
            Refuse(malformed()),
        ),
        (
            "malformed, with a Secret of an earlier version",
            Unknown(malformed()),
            owned(&[]),
            Refuse(malformed()),
        ),
        (
            "malformed, and the Secret is not owned",
            Unknown(malformed()),
            NotOwned,
            Refuse(malformed()),
        ),
    ] {
        assert_eq!(
            decide(&id, desired, &existing, Circumstances::default()),
            plan,
            "{case_name}"
        );
    }
}

/// Returns the plan for a merge into a Secret with that type and label.
fn plan_merge(type_: &str, label: Option<&str>) -> Plan {
    let id = ObjectId {
        namespace: "keys".into(),
        name: "n".into(),
    };
    let mut existing = *secret(&[("a", "1")]);
    existing.type_ = Some(type_.into());
    let metadata = &mut existing.metadata;
    metadata.namespace = Some(id.namespace.clone());
    metadata.name = Some(id.name.clone());
    metadata.annotations = Some([(PATCH_ANNOTATION.into(), "true".into())].into());
    metadata.labels = label.map(|label| [(label.into(), "active".into())].into());
    let desired = Desired::Secret {
        secret: secret(&[("a", "sealed")]),
        random_items: BTreeSet::new(),
    };
    let existing = Existing::Owned(Content::Secret(Box::new(existing)));
    decide(&id, desired, &existing, Circumstances::default())
}

/// Attack: an author merges their own key into a sealing key that allows merging, or items into a Secret of a type
/// that the author limits forbid.
#[test]
fn refuses_to_merge_into_a_secret_that_the_author_limits_forbid() {
    let limits = AuthorLimits::default().guarding_keys("keys", "old");
    for (type_, label, is_allowed) in [
        ("Opaque", None, true),
        ("kubernetes.io/tls", Some("app"), true),
        ("kubernetes.io/tls", Some(KEY_LABEL), false),
        ("kubernetes.io/service-account-token", None, false),
        ("bootstrap.kubernetes.io/token", None, false),
    ] {
        let plan = plan_merge(type_, label);
        assert!(matches!(plan, Plan::Replace(_)), "{type_} {label:?}");
        let plan = enforce_limits(&limits, plan);
        assert_eq!(
            matches!(plan, Plan::Replace(_)),
            is_allowed,
            "{type_} {label:?}: {plan:?}"
        );
    }
}

/// Attack: an author applies a version with a guessed value, to learn from an unchanged Secret that the guess is
/// right.
#[test]
fn a_new_version_is_written_even_if_its_values_are_equal() {
    let id = ObjectId {
        namespace: "ns".into(),
        name: "n".into(),
    };
    let plan = |value, immutable, settled, hides_equality| {
        let mut existing = secret(&[("a", "1")]);
        existing.immutable = immutable;
        let mut desired = secret(&[("a", value)]);
        desired.immutable = immutable.filter(|immutable| *immutable);
        let desired = Desired::Secret {
            secret: desired,
            random_items: BTreeSet::new(),
        };
        let circumstances = Circumstances {
            settled,
            hides_equality,
            ..Circumstances::default()
        };
        let existing = Existing::Owned(Content::Secret(existing));
        decide(&id, desired, &existing, circumstances)
    };
    for immutable in [None, Some(false)] {
        for value in ["1", "2"] {
            let Plan::Replace(next) = plan(value, immutable, false, true) else {
                panic!("{value} was not written")
            };
            assert_eq!(next.data, values(&[("a", value)]));
            assert_ne!(next.immutable, Some(true));
            assert!(
                value == "2" || next.immutable != immutable,
                "an equal Secret would not be a new revision"
            );
        }
        assert_eq!(plan("1", immutable, true, true), Plan::Leave);
        assert_eq!(plan("1", immutable, false, false), Plan::Leave);
    }
    let refusal = Plan::Refuse(Refusal::Immutable(id.clone()));
    for value in ["1", "2"] {
        assert_eq!(plan(value, Some(true), false, true), refusal);
    }
    assert_eq!(plan("1", Some(true), true, true), Plan::Leave);
    assert_eq!(plan("1", Some(true), false, false), Plan::Leave);
}

/// Attack: an author changes the type of a Secret, which is refused repeatedly, and uses a template that begins to
/// fail at a time that depends on a value: the time of the new error would reveal the value.
#[test]
fn value_independent_refusals_come_before_rendering() {
    let id = ObjectId {
        namespace: "ns".into(),
        name: "n".into(),
    };
    let without_values = |type_: &str, immutable| Secret {
        type_: Some(type_.into()),
        immutable,
        ..Secret::default()
    };
    let existing = |immutable| {
        let mut existing = secret(&[("a", "1")]);
        existing.immutable = immutable;
        Existing::Owned(Content::Secret(existing))
    };
    for (case_name, without_values, existing, is_refused) in [
        (
            "different type",
            without_values("x/y", None),
            existing(None),
            true,
        ),
        (
            "unchanged",
            without_values("Opaque", None),
            existing(None),
            false,
        ),
        (
            "becomes mutable",
            without_values("Opaque", None),
            existing(Some(true)),
            true,
        ),
        (
            "stays immutable",
            without_values("Opaque", Some(true)),
            existing(Some(true)),
            false,
        ),
        (
            "not owned",
            without_values("Opaque", None),
            Existing::NotOwned,
            true,
        ),
        (
            "absent",
            without_values("x/y", None),
            Existing::Absent,
            false,
        ),
    ] {
        let refusal = value_independent_refusal(&id, without_values, &existing, false, false);
        assert_eq!(refusal.is_some(), is_refused, "{case_name}: {refusal:?}");
    }
}

#[test]
fn the_refusal_of_a_secret_that_is_not_owned_has_upstreams_text() {
    let id = ObjectId {
        namespace: "ns".into(),
        name: "n".into(),
    };
    assert_eq!(
        Refusal::NotManaged(id).to_string(),
        "failed update: Resource \"n\" already exists and is not managed by SealedSecret"
    );
}

/// Attack: a client adds so many annotations to the Secret that no API server accepts the correction of its values.
#[test]
fn a_correction_drops_the_metadata_of_other_clients_if_it_is_too_large() {
    let id = ObjectId {
        namespace: "ns".into(),
        name: "n".into(),
    };
    for (count, is_kept) in [(4_000, true), (6_000, false)] {
        let mut existing = secret(&[("a", "edited")]);
        let annotations = (0..count).map(|i| (format!("x{i}"), String::new()));
        existing.metadata.annotations = Some(annotations.collect());
        let mut desired = secret(&[("a", "1")]);
        desired.metadata.annotations = Some([("own".into(), "x".into())].into());
        let desired = Desired::Secret {
            secret: desired,
            random_items: BTreeSet::new(),
        };
        let circumstances = Circumstances {
            settled: true,
            ..Circumstances::default()
        };
        let existing = Existing::Owned(Content::Secret(existing));
        let Plan::Replace(next) = decide(&id, desired, &existing, circumstances) else {
            panic!("{count}: not corrected")
        };
        assert_eq!(next.data, values(&[("a", "1")]));
        let annotations = next.metadata.annotations.unwrap();
        assert!(annotations.contains_key("own"));
        assert_eq!(annotations.len() > 1, is_kept, "{count}");
    }
}
