use shared::plain::Plain;

use super::*;

fn metadata_entries(pairs: &[(&str, &str)]) -> Metadata {
    let to_owned_pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    (!pairs.is_empty()).then(|| pairs.iter().map(to_owned_pair).collect())
}

fn metadata(annotations: &[(&str, &str)], controller: Option<&str>) -> ObjectMeta {
    let owner = |uid: &str| OwnerReference {
        uid: uid.into(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    ObjectMeta {
        annotations: metadata_entries(annotations),
        owner_references: controller.map(|uid| vec![owner(uid)]),
        ..ObjectMeta::default()
    }
}

fn secret(annotations: &[(&str, &str)], controller: Option<&str>, data: &[(&str, &str)]) -> Secret {
    let item = |(k, v): &(&str, &str)| ((*k).to_owned(), Plain::from((*v).to_owned()));
    Secret {
        metadata: metadata(annotations, controller),
        data: data.iter().map(item).collect(),
        ..Secret::default()
    }
}

#[test]
fn a_secret_is_owned_by_owner_reference_or_consent_annotation() {
    let sealed = ObjectMeta {
        uid: Some("u".into()),
        ..ObjectMeta::default()
    };
    let no_annotation = metadata(&[], None);
    let skips_owner = metadata(&[(SKIP_OWNER_ANNOTATION, "true")], None);
    for (case_name, existing, template, want) in [
        ("without owner", metadata(&[], None), &no_annotation, false),
        (
            "owned by the SealedSecret",
            metadata(&[], Some("u")),
            &no_annotation,
            true,
        ),
        (
            "owned by another object",
            metadata(&[], Some("v")),
            &no_annotation,
            false,
        ),
        (
            "managed",
            metadata(&[(MANAGED_ANNOTATION, "true")], None),
            &no_annotation,
            true,
        ),
        (
            "managed, with an invalid value",
            metadata(&[(MANAGED_ANNOTATION, "True")], None),
            &no_annotation,
            false,
        ),
        (
            "to be merged into",
            metadata(&[(PATCH_ANNOTATION, "true")], Some("v")),
            &no_annotation,
            true,
        ),
        (
            "created without owner",
            skips_owner.clone(),
            &skips_owner,
            true,
        ),
        (
            "created without owner, and the template no longer has the annotation",
            skips_owner.clone(),
            &no_annotation,
            false,
        ),
        (
            "owned by another object despite the annotation",
            metadata(&[(SKIP_OWNER_ANNOTATION, "true")], Some("v")),
            &skips_owner,
            false,
        ),
    ] {
        assert_eq!(
            is_owned(&existing, &sealed, template, false),
            want,
            "{case_name}"
        );
    }
    assert!(!is_controlled_by(&metadata(&[], Some("")), None));
}

#[test]
fn replacing_keeps_metadata_of_other_clients_only_on_request() {
    let existing = secret(
        &[("unrelated", "1"), ("own", "old")],
        None,
        &[("a", "1"), ("b", "2")],
    );
    let desired = || secret(&[("own", "new")], Some("u"), &[("a", "3")]);
    let next = successor(desired(), &existing, false, false);
    assert_eq!(
        next.metadata.annotations,
        metadata_entries(&[("own", "new")])
    );
    assert_eq!(next.data, desired().data);
    assert!(is_controlled_by(&next.metadata, Some("u")));
    let next = successor(desired(), &existing, true, false);
    assert_eq!(
        next.metadata.annotations,
        metadata_entries(&[("own", "new"), ("unrelated", "1")])
    );
}

#[test]
fn a_merge_adds_items_and_takes_ownership_only_with_the_managed_annotation() {
    for (annotations, owner) in [
        (&[(PATCH_ANNOTATION, "true")][..], Some("v")),
        (
            &[(PATCH_ANNOTATION, "true"), (MANAGED_ANNOTATION, "true")][..],
            Some("u"),
        ),
    ] {
        let mut existing = secret(annotations, Some("v"), &[("a", "1"), ("b", "2")]);
        existing.type_ = Some("kubernetes.io/tls".into());
        let next = successor(
            secret(&[("x", "y")], Some("u"), &[("a", "3")]),
            &existing,
            false,
            false,
        );
        assert_eq!(next.data, secret(&[], None, &[("a", "3"), ("b", "2")]).data);
        assert_eq!(next.type_, existing.type_);
        assert_eq!(
            next.metadata.annotations.as_ref().unwrap().len(),
            annotations.len() + 1
        );
        assert!(is_controlled_by(&next.metadata, owner));
    }
}

#[test]
fn c16_an_unset_type_equals_opaque() {
    let mut opaque = secret(&[], None, &[]);
    opaque.type_ = Some("Opaque".into());
    opaque.immutable = Some(false);
    opaque.metadata.labels = Some(BTreeMap::new());
    assert!(is_equivalent(&secret(&[], None, &[]), &opaque));
    opaque.type_ = Some("kubernetes.io/tls".into());
    assert!(!is_equivalent(&secret(&[], None, &[]), &opaque));
}

/// Attack: an author adds consent annotations and immutability to a template, to take over a Secret into which it is
/// merged.
#[test]
fn a_merge_neither_adds_consent_annotations_nor_makes_the_secret_immutable() {
    let existing = secret(
        &[(PATCH_ANNOTATION, "true")],
        Some("v"),
        &[("unrelated", "1")],
    );
    let annotations = [
        (MANAGED_ANNOTATION, "true"),
        (PATCH_ANNOTATION, "false"),
        (SKIP_OWNER_ANNOTATION, "true"),
        ("x", "y"),
    ];
    let mut desired = secret(&annotations, Some("u"), &[("a", "2")]);
    desired.immutable = Some(true);
    let next = successor(desired.clone(), &existing, false, false);
    assert_eq!(
        next.metadata.annotations,
        metadata_entries(&[(PATCH_ANNOTATION, "true"), ("x", "y")])
    );
    assert_eq!(next.immutable, None);
    assert_eq!(
        next.metadata.owner_references,
        existing.metadata.owner_references
    );
    // A second update changes nothing.
    assert_eq!(successor(desired, &next, false, false), next);
}

/// Attack: a client adds the annotation for merging to a Secret that the controller created, with or without removing
/// the owner, so that its items stay and later versions no longer replace the Secret.
#[test]
fn only_the_template_allows_a_merge_into_a_secret_without_another_owner() {
    let patch = (PATCH_ANNOTATION, "true");
    let edited = secret(&[patch], Some("u"), &[("a", "1"), ("evil", "x")]);
    let original = secret(&[], Some("u"), &[("a", "1")]);
    for settled in [false, true] {
        let next = successor(original.clone(), &edited, settled, true);
        assert_eq!(next.data, original.data, "settled: {settled}");
        assert!(!is_merged_into(&next.metadata), "settled: {settled}");
    }
    let mut desired = original.clone();
    desired.metadata.annotations = metadata_entries(&[patch]);
    let mut with_owner = edited.clone();
    with_owner.metadata = metadata(&[patch], Some("u"));
    let owners = with_owner.metadata.owner_references.get_or_insert_default();
    owners.push(OwnerReference::default());
    let next = successor(desired.clone(), &with_owner, true, true);
    assert_eq!(next.data, edited.data, "the template allows the merge");
    assert_eq!(
        next.metadata.owner_references,
        desired.metadata.owner_references
    );
    // If the origin of the Secret is unknown, its annotation counts as consent, as in upstream.
    assert_eq!(successor(original, &edited, false, false).data, edited.data);
    let sealed = metadata(&[], None);
    let without_owner = metadata(&[patch], None);
    for (is_exclusive, want) in [(false, true), (true, false)] {
        assert_eq!(
            is_owned(&without_owner, &sealed, &desired.metadata, is_exclusive),
            want
        );
    }
}
