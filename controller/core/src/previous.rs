//! Former values that a Secret keeps for a while under `ITEM.previous`, so that programs with the former value and programs
//! with the new one can work at the same time.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::plain::Plain;
use shared::resource::{
    KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION, PREVIOUS_VALUES_ANNOTATION,
    PreviousValues, SealedSecret, time,
};
use shared::secret::Secret;
use shared::secret_types::{MAX_SECRET_LEN, values_len};

/// How long former values are kept if the SealedSecret does not say.
const DEFAULT_DURATION: SignedDuration = SignedDuration::from_hours(1);
/// The longest time for which former values are kept.
const MAX_DURATION: SignedDuration = SignedDuration::from_hours(24 * 7);
/// What follows the name of an item in the name of its former value.
const SUFFIX: &str = ".previous";

/// The items whose former values a SealedSecret keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    items: Vec<String>,
    duration: SignedDuration,
}

/// The annotation with the duration cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the annotation {KEEP_PREVIOUS_FOR_ANNOTATION} has the value {0:?}; use a duration of at most a week, for example 30m"
)]
pub struct InvalidDuration(String);

impl Request {
    /// Reads the annotations of a SealedSecret. Returns `None` if it keeps no former values.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidDuration`] if former values are to be kept for an unknown time, or for more than a week.
    pub fn of(sealed: &SealedSecret) -> Result<Option<Self>, InvalidDuration> {
        let annotation = |name: &str| sealed.metadata.annotations.as_ref()?.get(name);
        let Some(items) = annotation(KEEP_PREVIOUS_ANNOTATION) else {
            return Ok(None);
        };
        let items = items.split(',').map(str::trim);
        let items = items.filter(|item| !item.is_empty()).map(str::to_owned);
        let duration = annotation(KEEP_PREVIOUS_FOR_ANNOTATION);
        let duration = duration.map_or(Ok(DEFAULT_DURATION), |text| parse_duration(text))?;
        Ok(Some(Self {
            items: items.collect(),
            duration,
        }))
    }

    /// Returns the items.
    pub fn items(&self) -> &[String] {
        &self.items
    }
}

fn parse_duration(text: &str) -> Result<SignedDuration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let duration: SignedDuration = text.parse().map_err(|_| invalid())?;
    let is_allowed = SignedDuration::ZERO < duration && duration <= MAX_DURATION;
    is_allowed.then_some(duration).ok_or_else(invalid)
}

/// What a Secret records about its values, in an annotation.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marks {
    /// The key of the versions.
    key_id: String,
    /// The version of each value.
    versions: BTreeMap<String, String>,
    /// Until when the former values are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// The new values of a Secret, as far as they decide which former values are kept.
#[derive(Debug)]
pub struct NewValues<'a> {
    /// The version of the value of each requested item.
    pub versions: BTreeMap<String, String>,
    /// The identifier of the key of the versions.
    pub key_id: &'a str,
    /// Whether values without a mark have changed.
    pub is_changed: bool,
    /// Whether no program needs the former values any more.
    pub drops_former: bool,
}

/// What a Secret keeps besides its values.
#[derive(Debug, Default, PartialEq)]
pub struct Kept {
    /// The former values.
    pub previous: Option<PreviousValues>,
    /// Whether the Secret gets other marks: it differs from the existing one without an edit by another client.
    pub has_new_marks: bool,
}

/// Adds the former values to the desired Secret, and records the versions of its values.
///
/// Decides by versions and never compares values, so a value that is set again counts as changed. A second change replaces
/// the former value of the first. Former values that leave no room are not kept.
pub fn keep(
    desired: &mut Secret,
    existing: Option<&Secret>,
    request: &Request,
    new: NewValues<'_>,
    now: Timestamp,
) -> Kept {
    let before = existing.map(marks_of).unwrap_or_default();
    let kept_until = before
        .until
        .filter(|until| now < *until && !new.drops_former);
    let mut until = kept_until;
    let mut former_values = BTreeMap::new();
    for item in &request.items {
        let name = format!("{item}{SUFFIX}");
        if desired.data.contains_key(&name) || !desired.data.contains_key(item) {
            continue;
        }
        let is_changed = before.is_changed(item, &new);
        let source = if is_changed { item } else { &name };
        let former = existing.and_then(|secret| secret.data.get(source));
        if let Some(former) = former.filter(|_| is_changed || kept_until.is_some()) {
            former_values.insert(name, former.clone());
            let end = is_changed.then(|| now.saturating_add(request.duration).unwrap_or(now));
            until = until.max(end);
        }
    }
    if !fits(desired, &former_values) {
        former_values.clear();
    }
    let until = until.filter(|_| !former_values.is_empty());
    let items = former_values
        .keys()
        .filter_map(|name| name.strip_suffix(SUFFIX));
    let items = items.map(str::to_owned).collect();
    desired.data.extend(former_values);
    let marks = Marks {
        key_id: new.key_id.to_owned(),
        versions: new.versions,
        until,
    };
    let until = until.map(|until| Some(time(until)));
    let kept = Kept {
        previous: until.map(|until| PreviousValues { items, until }),
        has_new_marks: marks != before,
    };
    marks.put_on(desired);
    kept
}

impl Marks {
    fn is_changed(&self, item: &str, new: &NewValues<'_>) -> bool {
        let mark = self
            .versions
            .get(item)
            .filter(|_| self.key_id == new.key_id);
        mark.map_or(new.is_changed, |mark| Some(mark) != new.versions.get(item))
    }

    fn put_on(&self, secret: &mut Secret) {
        if let Ok(text) = serde_json::to_string(self) {
            let annotations = secret.metadata.annotations.get_or_insert_default();
            annotations.insert(PREVIOUS_VALUES_ANNOTATION.to_owned(), text);
        }
    }
}

/// Returns the marks of a Secret. An annotation that cannot be read counts as missing.
fn marks_of(secret: &Secret) -> Marks {
    let annotations = secret.metadata.annotations.as_ref();
    let text = annotations.and_then(|texts| texts.get(PREVIOUS_VALUES_ANNOTATION));
    let marks = text.and_then(|text| serde_json::from_str(text).ok());
    marks.unwrap_or_default()
}

fn fits(desired: &Secret, former: &BTreeMap<String, Plain>) -> bool {
    let former = former.values().map(|value| value.expose().len());
    values_len(desired) + former.sum::<usize>() <= MAX_SECRET_LEN
}

#[cfg(test)]
mod tests {
    use shared::resource::SealedSecretSpec;

    use super::*;

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

    fn new_values<'a>(versions: &[(&str, &str)]) -> NewValues<'a> {
        let versions = versions.iter();
        let versions = versions.map(|(item, version)| ((*item).to_owned(), (*version).to_owned()));
        NewValues {
            versions: versions.collect(),
            key_id: "k",
            is_changed: false,
            drops_former: false,
        }
    }

    /// Returns the Secret after values with these versions were written at that second.
    fn next(
        existing: Option<&Secret>,
        values: &[(&str, &str)],
        second: i64,
        drops_former: bool,
    ) -> (Secret, Kept) {
        let mut desired = secret(values);
        let new = NewValues {
            drops_former,
            ..new_values(values)
        };
        let kept = keep(&mut desired, existing, &request("a, b"), new, at(second));
        (desired, kept)
    }

    fn values(secret: &Secret) -> Vec<(&str, &str)> {
        let values = secret.data.iter();
        let values = values.map(|(item, value)| (item.as_str(), value.expose()));
        let text = |(item, bytes)| (item, std::str::from_utf8(bytes).unwrap());
        values.map(text).collect()
    }

    #[test]
    fn a_changed_value_leaves_its_former_value_until_the_time_is_over() {
        let (first, kept) = next(None, &[("a", "1"), ("b", "2")], 0, false);
        assert_eq!(kept.previous, None);
        let (second, kept) = next(Some(&first), &[("a", "3"), ("b", "2")], 10, false);
        assert_eq!(
            values(&second),
            [("a", "3"), ("a.previous", "1"), ("b", "2")]
        );
        let until = Some(time(at(110)));
        let items = vec!["a".to_owned()];
        assert_eq!(kept.previous, Some(PreviousValues { items, until }));
        for (second_of, is_kept) in [(109, true), (110, false)] {
            let (third, _) = next(Some(&second), &[("a", "3"), ("b", "2")], second_of, false);
            assert_eq!(
                third.data.contains_key("a.previous"),
                is_kept,
                "{second_of}"
            );
        }
    }

    #[test]
    fn values_that_no_program_needs_any_more_are_dropped() {
        let (first, _) = next(None, &[("a", "1")], 0, false);
        let (second, _) = next(Some(&first), &[("a", "2")], 10, false);
        let (third, kept) = next(Some(&second), &[("a", "2")], 20, true);
        assert_eq!(values(&third), [("a", "2")]);
        assert!(
            kept.has_new_marks,
            "the change is no edit of another client"
        );
        let (fourth, kept) = next(Some(&third), &[("a", "2")], 30, true);
        assert_eq!((fourth, kept.has_new_marks), (third, false));
    }

    #[test]
    fn a_change_of_another_item_keeps_the_former_value_of_the_first() {
        let (first, _) = next(None, &[("a", "1"), ("b", "2")], 0, false);
        let (second, _) = next(Some(&first), &[("a", "3"), ("b", "2")], 10, false);
        let (third, kept) = next(Some(&second), &[("a", "3"), ("b", "4")], 20, false);
        let want = [
            ("a", "3"),
            ("a.previous", "1"),
            ("b", "4"),
            ("b.previous", "2"),
        ];
        assert_eq!(values(&third), want);
        assert_eq!(kept.previous.unwrap().until, Some(time(at(120))));
    }

    #[test]
    fn the_first_change_after_the_request_keeps_the_former_value() {
        let existing = secret(&[("a", "1")]);
        for is_changed in [false, true] {
            let mut desired = secret(&[("a", "2")]);
            let new = NewValues {
                is_changed,
                ..new_values(&[("a", "2")])
            };
            keep(&mut desired, Some(&existing), &request("a"), new, at(0));
            assert_eq!(desired.data.contains_key("a.previous"), is_changed);
        }
    }

    #[test]
    fn an_item_of_the_sealed_secret_is_not_replaced_by_a_former_value() {
        let (first, _) = next(None, &[("a", "1"), ("a.previous", "own")], 0, false);
        let (second, kept) = next(Some(&first), &[("a", "2"), ("a.previous", "own")], 1, false);
        assert_eq!(values(&second), [("a", "2"), ("a.previous", "own")]);
        assert_eq!(kept.previous, None);
    }

    #[test]
    fn former_values_that_leave_no_room_are_not_kept() {
        let large = "x".repeat(MAX_SECRET_LEN / 2 + 1);
        let (first, _) = next(None, &[("a", &large)], 0, false);
        let mut desired = secret(&[("a", &large)]);
        let kept = keep(
            &mut desired,
            Some(&first),
            &request("a"),
            new_values(&[("a", "2")]),
            at(1),
        );
        assert_eq!((kept.previous, desired.data.len()), (None, 1));
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
}
