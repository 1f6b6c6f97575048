use std::sync::{Arc, LazyLock};

use shared::key::{KeySize, KeySpec};
use shared::key_ring::{KeyRing, RingKey};
use shared::resource::SealedSecretSpec;

use super::*;

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: SignedDuration::from_hours(1),
        common_name: String::new(),
    };
    let key = spec.generate(at(0), &mut shared::random::system()).unwrap();
    KeyRing::new([Arc::new(RingKey::new("k".into(), at(0), key.pair))])
});

fn prover() -> Prover<'static> {
    Prover {
        namespace: "ns",
        name: "n",
        uid: "u",
        ring: &RING,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn request(items: &str) -> Request {
    let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
    let annotations = [
        (KEEP_PREVIOUS_ANNOTATION.to_owned(), items.to_owned()),
        (KEEP_PREVIOUS_FOR_ANNOTATION.to_owned(), "100s".to_owned()),
    ];
    sealed.metadata.annotations = Some(annotations.into());
    Request::of(&sealed).unwrap().unwrap()
}

fn secret(items: &[(&str, &str)]) -> Secret {
    let mut secret = Secret::default();
    for (item, value) in items {
        let value = Plain::from((*value).to_owned());
        secret.data.insert((*item).to_owned(), value);
    }
    secret
}

fn new_values<'a>(versions: &[(&str, &str)], second: i64) -> NewValues<'a> {
    let versions = versions.iter();
    let versions = versions.map(|(item, version)| ((*item).to_owned(), (*version).to_owned()));
    NewValues {
        versions: versions.collect(),
        key_id: "k",
        is_changed: false,
        drops_former: false,
        public_len: 0,
        now: at(second),
    }
}

/// Returns the Secret after values with these versions were written at this second.
fn next(existing: Option<&Secret>, items: &[(&str, &str)], second: i64) -> Secret {
    let mut desired = secret(items);
    let new = new_values(items, second);
    keep(&mut desired, existing, &request("a, b"), new, &prover());
    desired
}

fn values(secret: &Secret) -> Vec<(&str, &str)> {
    let values = secret.data.iter();
    let values = values.map(|(item, value)| (item.as_str(), value.expose()));
    let text = |(item, bytes)| (item, std::str::from_utf8(bytes).unwrap());
    values.map(text).collect()
}

fn former(secret: &Secret) -> Option<FormerValues> {
    FormerValues::of(secret, &prover()).filter(|former| !former.is_empty())
}

fn until(secret: &Secret, now: i64) -> Option<i64> {
    let request = request("a, b");
    Some(former(secret)?.until(Some(&request), at(now)).as_second())
}

fn retention(request: Option<&Request>, second: i64) -> Retention<'_> {
    Retention {
        request,
        is_unknown: false,
        drops_former: false,
        now: at(second),
        own_items: BTreeSet::new(),
    }
}

fn removed(secret: &Secret, retention: &Retention<'_>) -> Option<Secret> {
    former(secret)?.removed_from(secret, retention, &prover())
}

#[test]
fn a_former_value_is_kept_until_its_retention_period_ends() {
    let first = next(None, &[("a", "1"), ("b", "2")], 0);
    assert_eq!(until(&first, 0), None);
    let second = next(Some(&first), &[("a", "3"), ("b", "2")], 10);
    let want = [("a", "3"), ("a.previous", "1"), ("b", "2")];
    assert_eq!(values(&second), want);
    assert_eq!(until(&second, 10), Some(110));
    let status = former(&second).unwrap().status(None, at(10));
    assert_eq!(status.items, ["a"]);
    for (now, is_kept) in [(109, true), (110, false)] {
        let third = next(Some(&second), &[("a", "3"), ("b", "2")], now);
        assert_eq!(third.data.contains_key("a.previous"), is_kept, "{now}");
    }
}

#[test]
fn the_same_values_keep_the_same_marks() {
    let first = next(None, &[("a", "1"), ("b", "2")], 0);
    let second = next(Some(&first), &[("a", "3"), ("b", "2")], 10);
    let third = next(Some(&second), &[("a", "3"), ("b", "2")], 20);
    assert_eq!(third, second);
}

#[test]
fn former_values_that_no_program_needs_are_dropped() {
    let first = next(None, &[("a", "1"), ("b", "2")], 0);
    let second = next(Some(&first), &[("a", "3"), ("b", "2")], 10);
    let request = request("a,b");
    let retention = Retention {
        drops_former: true,
        ..retention(Some(&request), 20)
    };
    let third = removed(&second, &retention).unwrap();
    assert_eq!(values(&third), [("a", "3"), ("b", "2")]);
    assert_eq!(former(&third), None);
    let marked = FormerValues::of(&third, &prover());
    assert!(marked.is_some(), "the versions stay");
}

/// Attack: an author repeatedly changes another item, so that a former value stays.
#[test]
fn each_item_has_its_own_retention_period() {
    let first = next(None, &[("a", "1"), ("b", "2")], 0);
    let second = next(Some(&first), &[("a", "3"), ("b", "2")], 10);
    let third = next(Some(&second), &[("a", "3"), ("b", "4")], 60);
    let want = [
        ("a", "3"),
        ("a.previous", "1"),
        ("b", "4"),
        ("b.previous", "2"),
    ];
    assert_eq!(values(&third), want);
    assert_eq!(until(&third, 60), Some(110));
    let request = request("a,b");
    let fourth = removed(&third, &retention(Some(&request), 110)).unwrap();
    assert_eq!(
        values(&fourth),
        [("a", "3"), ("b", "4"), ("b.previous", "2")]
    );
    assert_eq!(until(&fourth, 110), Some(160));
}

#[test]
fn the_first_change_after_the_request_keeps_the_former_value() {
    let existing = secret(&[("a", "1")]);
    for is_changed in [false, true] {
        let mut desired = secret(&[("a", "2")]);
        let new = NewValues {
            is_changed,
            ..new_values(&[("a", "2")], 0)
        };
        keep(&mut desired, Some(&existing), &request("a"), new, &prover());
        assert_eq!(desired.data.contains_key("a.previous"), is_changed);
    }
}

/// Attack: an author lets the controller remove or replace an item `ITEM.previous` of the SealedSecret.
#[test]
fn an_item_of_the_sealed_secret_is_neither_replaced_nor_removed() {
    let first = next(None, &[("a", "1"), ("a.previous", "own"), ("b", "1")], 0);
    let again = [("a", "2"), ("a.previous", "own"), ("b", "2")];
    let second = next(Some(&first), &again, 1);
    assert_eq!(former(&second).unwrap().status(None, at(1)).items, ["b"]);
    let third = removed(&second, &retention(None, 1)).unwrap();
    assert_eq!(values(&third), again);

    // The item is new in a version that cannot be unsealed.
    let first = next(None, &[("a", "1")], 0);
    let second = next(Some(&first), &[("a", "2")], 1);
    let retention = Retention {
        own_items: BTreeSet::from(["a.previous"]),
        ..retention(None, 1)
    };
    let third = removed(&second, &retention).unwrap();
    assert_eq!(values(&third), [("a", "2"), ("a.previous", "1")]);
    assert_eq!(former(&third), None);
}

/// Attack: an author finds out the length of a value by the number of bytes that still fit together with its former
/// value.
#[test]
fn public_sizes_decide_whether_former_values_are_kept() {
    let first = next(None, &[("a", "sixteen bytes ..")], 0);
    for (public_len, is_kept) in [(MAX_SECRET_LEN - 47, true), (MAX_SECRET_LEN - 46, false)] {
        let mut desired = secret(&[("a", "2")]);
        let new = NewValues {
            public_len,
            ..new_values(&[("a", "2")], 1)
        };
        keep(&mut desired, Some(&first), &request("a"), new, &prover());
        assert_eq!(desired.data.contains_key("a.previous"), is_kept);
    }
}

#[test]
fn an_immutable_secret_keeps_no_former_values() {
    let first = next(None, &[("a", "1")], 0);
    let mut desired = secret(&[("a", "2")]);
    desired.immutable = Some(true);
    let new = new_values(&[("a", "2")], 1);
    keep(&mut desired, Some(&first), &request("a"), new, &prover());
    assert_eq!(desired.data.len(), 1);
}

/// Attack: a client or a template sets or changes marks, or copies them from another object.
#[test]
fn only_the_controller_can_mark_former_values() {
    type Change = fn(&mut Secret);
    let first = next(None, &[("a", "1"), ("b", "1")], 0);
    let second = next(Some(&first), &[("a", "2"), ("b", "1")], 10);
    let changes: [(&str, bool, Change); 4] = [
        ("unchanged", true, |_| ()),
        ("another item", true, |secret| {
            secret.data.insert("b".into(), "3".to_owned().into());
        }),
        ("the former value", false, |secret| {
            secret
                .data
                .insert("a.previous".into(), "3".to_owned().into());
        }),
        ("the time", false, |secret| {
            let annotations = secret.metadata.annotations.as_mut().unwrap();
            let marks = annotations.get_mut(PREVIOUS_VALUES_ANNOTATION).unwrap();
            *marks = marks.replace("1970", "2999");
        }),
    ];
    for (why, is_valid, change) in changes {
        let mut secret = second.clone();
        change(&mut secret);
        assert_eq!(former(&secret).is_some(), is_valid, "{why}");
    }
    for other in [
        Prover {
            uid: "v",
            ..prover()
        },
        Prover {
            name: "m",
            ..prover()
        },
        Prover {
            namespace: "os",
            ..prover()
        },
        Prover {
            ring: &KeyRing::default(),
            ..prover()
        },
    ] {
        assert_eq!(FormerValues::of(&second, &other), None, "{other:?}");
    }
    let mut second = second;
    remove_marks(&mut second);
    assert_eq!(former(&second), None);
}

/// Fault: a clock was ahead when a value changed.
#[test]
fn a_time_in_the_future_counts_only_within_the_retention_period() {
    let first = next(None, &[("a", "1")], 0);
    let second = next(Some(&first), &[("a", "2")], 1_000);
    for (now, want) in [(1_000, 1_100), (900, 1_100), (899, 0)] {
        assert_eq!(until(&second, now), Some(want), "{now}");
    }
}

/// Fault: former values cannot be removed after their retention period, and the controller retries without a pause.
#[test]
fn a_failing_object_is_checked_only_at_the_end_and_then_at_intervals() {
    let first = next(None, &[("a", "1")], 0);
    let second = next(Some(&first), &[("a", "2")], 10);
    let former = former(&second).unwrap();
    for (now, is_synced, want) in [
        (20, true, 30),
        (105, true, 110),
        (20, false, 110),
        (110, true, 120),
        (500, false, 510),
    ] {
        let next = former.next_check(Some(&request("a, b")), is_synced, at(now));
        assert_eq!(next, at(want), "{now}");
    }
}

#[test]
fn former_values_are_removed_when_they_are_no_longer_requested() {
    let first = next(None, &[("a", "1"), ("b", "2")], 0);
    let second = next(Some(&first), &[("a", "3"), ("b", "4")], 10);
    let items = |retention: &Retention<'_>| {
        let secret = removed(&second, retention)?;
        let items = former(&secret).map(|former| former.status(None, at(11)).items);
        Some((
            items.unwrap_or_default().join(","),
            has_marks(&secret.metadata),
        ))
    };
    let (both, one) = (request("a,b"), request("a"));
    assert_eq!(items(&retention(Some(&both), 11)), None);
    assert_eq!(items(&retention(Some(&one), 11)), Some(("a".into(), true)));
    assert_eq!(
        items(&retention(Some(&both), 110)),
        Some((String::new(), true))
    );
    assert_eq!(items(&retention(None, 11)), Some((String::new(), false)));
    let unknown = |second| Retention {
        is_unknown: true,
        ..retention(None, second)
    };
    assert_eq!(items(&unknown(3_609)), None, "the default period");
    assert_eq!(items(&unknown(3_610)), Some((String::new(), true)));
}

/// Attack: an author names so many items that computing their versions keeps the controller busy.
#[test]
fn refuses_more_than_fifty_items_and_counts_each_once() {
    let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
    let numbers: Vec<String> = (0..51).map(|number| number.to_string()).collect();
    for (items, is_valid) in [
        (numbers[..50].join(","), true),
        (numbers.join(","), false),
        ("a,".repeat(100_000), true),
        ("a,".repeat(100_000) + &numbers.join(","), false),
    ] {
        let annotations = [(KEEP_PREVIOUS_ANNOTATION.to_owned(), items)];
        sealed.metadata.annotations = Some(annotations.into());
        assert_eq!(Request::of(&sealed).is_ok(), is_valid);
    }
}

#[test]
fn reports_why_former_values_are_not_kept() {
    let (longest, too_long) = ("a".repeat(244), "a".repeat(245));
    let request = request(&format!("{longest},{too_long}"));
    assert_eq!(request.items(), &BTreeSet::from([longest.clone()]));
    let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
    for (item, want) in [
        (longest, None),
        (too_long.clone(), Some(NotKept::NameTooLong(too_long))),
    ] {
        sealed.spec.encrypted_data.insert(item, "AgB=".into());
        assert_eq!(request.why_not_kept(&sealed), want);
    }
    let template = [("t".to_owned(), None)];
    sealed.spec.template.data = Some(template.into());
    assert_eq!(request.why_not_kept(&sealed), Some(NotKept::Templates));
    sealed.spec.data = Some("AgB=".into());
    assert_eq!(request.why_not_kept(&sealed), Some(NotKept::SealedAsAWhole));
}

#[test]
fn ends_by_time_only_if_requested_and_refuses_unknown_events() {
    for (text, want) in [
        (None, Some(false)),
        (Some("pods"), Some(false)),
        (Some("time"), Some(true)),
        (Some("Time"), None),
        (Some(""), None),
    ] {
        let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
        let annotations = sealed.metadata.annotations.get_or_insert_default();
        annotations.insert(KEEP_PREVIOUS_ANNOTATION.to_owned(), "a".to_owned());
        if let Some(text) = text {
            annotations.insert(KEEP_PREVIOUS_UNTIL_ANNOTATION.to_owned(), text.to_owned());
        }
        let request = Request::of(&sealed).ok().flatten();
        assert_eq!(
            request.map(|request| request.keeps_full_period()),
            want,
            "{text:?}"
        );
    }
}

#[test]
fn refuses_a_duration_that_is_unreadable_or_longer_than_a_week() {
    let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
    for (text, is_valid) in [
        ("30m", true),
        ("168h", true),
        ("169h", false),
        ("0s", false),
        ("-1h", false),
        ("x", false),
    ] {
        let annotations = [
            (KEEP_PREVIOUS_ANNOTATION.to_owned(), "a".to_owned()),
            (KEEP_PREVIOUS_FOR_ANNOTATION.to_owned(), text.to_owned()),
        ];
        sealed.metadata.annotations = Some(annotations.into());
        assert_eq!(Request::of(&sealed).is_ok(), is_valid, "{text}");
    }
}
