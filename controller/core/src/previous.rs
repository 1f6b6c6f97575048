//! Former values of items, which a Secret keeps for a while under `ITEM.previous`, so that programs with the former
//! value and programs with the new value can work at the same time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::plain::Plain;
use shared::resource::{
    KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION, KEEP_PREVIOUS_UNTIL_ANNOTATION,
    PREVIOUS_VALUES_ANNOTATION, PreviousValues, SealedSecret, time,
};
use shared::secret::Secret;
use shared::secret_types::{MAX_SECRET_LEN, values_len};

/// The retention period of former values if the SealedSecret specifies none.
const DEFAULT_DURATION: SignedDuration = SignedDuration::from_hours(1);
/// The longest retention period of former values.
const MAX_DURATION: SignedDuration = SignedDuration::from_hours(24 * 7);
/// The pause between two checks whether Pods still use former values.
const CHECK_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// How far the clock of the replica that wrote the Secret may be ahead.
const MAX_CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(1);
/// Maximum number of items whose former values are kept.
const MAX_ITEMS: usize = 50;
/// Values of [`KEEP_PREVIOUS_UNTIL_ANNOTATION`].
const UNTIL_TIME: &str = "time";
const UNTIL_PODS: &str = "pods";
/// The suffix that turns the name of an item into the name of its former value.
const SUFFIX: &str = ".previous";

/// The request of a SealedSecret to keep the former values of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    items: BTreeSet<String>,
    duration: SignedDuration,
    /// Whether former values are kept for the full retention period, even if every Pod already has the current values.
    is_by_time: bool,
}

/// The annotations about former values are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The duration is invalid or too long.
    #[error(
        "the annotation {KEEP_PREVIOUS_FOR_ANNOTATION} has the value {0:?}; use a duration of at most a week, for example 30m"
    )]
    Duration(String),
    /// The event that ends the retention period is unknown.
    #[error(
        "the annotation {KEEP_PREVIOUS_UNTIL_ANNOTATION} has the value {0:?}; use `pods` or `time`"
    )]
    Event(String),
    /// The list has too many items.
    #[error("the annotation {KEEP_PREVIOUS_ANNOTATION} names more than {MAX_ITEMS} items")]
    TooManyItems,
}

impl Request {
    /// Parses the annotations of a SealedSecret. Returns `None` if the SealedSecret requests no former values.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidRequest`] if the annotations name more than 50 items, an unknown event, or a duration that is
    /// invalid or longer than a week.
    pub fn of(sealed: &SealedSecret) -> Result<Option<Self>, InvalidRequest> {
        let annotation = |name: &str| sealed.metadata.annotations.as_ref()?.get(name);
        let Some(items) = annotation(KEEP_PREVIOUS_ANNOTATION) else {
            return Ok(None);
        };
        let items = parse_items(items)?;
        let duration = annotation(KEEP_PREVIOUS_FOR_ANNOTATION);
        let duration = duration.map_or(Ok(DEFAULT_DURATION), |text| parse_duration(text))?;
        let is_by_time = match annotation(KEEP_PREVIOUS_UNTIL_ANNOTATION).map(String::as_str) {
            None | Some(UNTIL_PODS) => false,
            Some(UNTIL_TIME) => true,
            Some(event) => return Err(InvalidRequest::Event(event.to_owned())),
        };
        Ok(Some(Self {
            items,
            duration,
            is_by_time,
        }))
    }

    /// Returns whether former values are kept for the full retention period, even if every Pod already has the current
    /// values.
    ///
    /// A program that tries both values needs the former value until the other system, such as a database, accepts the
    /// new value. The state of Pods does not show when this happens.
    pub fn is_by_time(&self) -> bool {
        self.is_by_time
    }

    /// Returns the items whose former values are kept.
    pub fn items(&self) -> &BTreeSet<String> {
        &self.items
    }
}

/// Returns the distinct items of a list. Stops at the first item above the maximum, since the list can be a mebibyte
/// long.
fn parse_items(text: &str) -> Result<BTreeSet<String>, InvalidRequest> {
    let mut items = BTreeSet::new();
    let names = text.split(',').map(str::trim);
    for name in names.filter(|name| !name.is_empty()) {
        items.insert(name.to_owned());
        if items.len() > MAX_ITEMS {
            return Err(InvalidRequest::TooManyItems);
        }
    }
    Ok(items)
}

fn parse_duration(text: &str) -> Result<SignedDuration, InvalidRequest> {
    let invalid = || InvalidRequest::Duration(text.to_owned());
    let duration: SignedDuration = text.parse().map_err(|_| invalid())?;
    let is_allowed = SignedDuration::ZERO < duration && duration <= MAX_DURATION;
    is_allowed.then_some(duration).ok_or_else(invalid)
}

/// The annotation with which the controller records the versions of the values of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marks {
    /// The identifier of the key that computed the versions.
    key_id: String,
    /// The version of each value.
    versions: BTreeMap<String, String>,
    /// When the most recent former value was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
}

/// The former values in a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerValues {
    items: BTreeSet<String>,
    since: Timestamp,
}

impl FormerValues {
    /// Returns the former values in a Secret, according to the marks on the Secret; `None` if there are none. If the
    /// marks lie in the future, the retention period counts as over, since it would never end otherwise.
    pub fn of(secret: &Secret, now: Timestamp) -> Option<Self> {
        let marks = marks_of(secret);
        let is_possible = |since: &Timestamp| since.duration_since(now) <= MAX_CLOCK_DIFFERENCE;
        let since = marks.since?;
        let since = Some(since)
            .filter(is_possible)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let has_former = |item: &String| secret.data.contains_key(&former_name(item));
        let items: BTreeSet<String> = marks.versions.into_keys().filter(has_former).collect();
        (!items.is_empty()).then_some(Self { items, since })
    }

    /// Returns when the most recent former value was stored, just before the Secret was written.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Returns when the retention period ends. Without a request, for example if the SealedSecret is invalid, the
    /// default period applies.
    pub fn until(&self, request: Option<&Request>) -> Timestamp {
        let duration = request.map_or(DEFAULT_DURATION, |request| request.duration);
        self.since.saturating_add(duration).unwrap_or(self.since)
    }

    /// Returns when to check again whether the former values are still needed. While an object fails, or keeps former
    /// values for the full retention period, the next check is at the end of the period: each check of a failing object
    /// costs an attempt. Former values that exist after the end could not be removed; another attempt follows after a
    /// pause.
    pub fn next_check(
        &self,
        request: Option<&Request>,
        is_synced: bool,
        now: Timestamp,
    ) -> Timestamp {
        let until = self.until(request);
        let next = now.saturating_add(CHECK_INTERVAL).unwrap_or(now);
        let is_by_time = request.is_some_and(Request::is_by_time);
        if until <= now {
            next
        } else if is_by_time || !is_synced {
            until
        } else {
            next.min(until)
        }
    }

    /// Returns the former values as the status reports them.
    pub fn status(&self, request: Option<&Request>) -> PreviousValues {
        PreviousValues {
            items: self.items.iter().cloned().collect(),
            until: Some(time(self.until(request))),
        }
    }

    /// Returns the Secret without the former values that the SealedSecret no longer requests, or without any if the
    /// retention period is over; `None` if nothing changes. Nothing can be removed from an immutable Secret.
    pub fn removed_from(
        &self,
        secret: &Secret,
        request: Option<&Request>,
        is_over: bool,
    ) -> Option<Secret> {
        let is_kept =
            |item: &String| !is_over && request.is_some_and(|request| request.items.contains(item));
        let dropped: Vec<&String> = self.items.iter().filter(|item| !is_kept(item)).collect();
        if dropped.is_empty() || secret.immutable == Some(true) {
            return None;
        }
        let mut next = secret.clone();
        for item in &dropped {
            next.data.remove(&former_name(item));
        }
        if dropped.len() == self.items.len() {
            let marks = Marks {
                since: None,
                ..marks_of(secret)
            };
            marks.write_to(&mut next);
        }
        Some(next)
    }
}

/// The new values of a Secret, as far as they determine which former values are kept.
#[derive(Debug)]
pub struct NewValues<'a> {
    /// The version of the value of each requested item.
    pub versions: BTreeMap<String, String>,
    /// The identifier of the key that computed the versions.
    pub key_id: &'a str,
    /// Whether values without a mark count as changed.
    pub is_changed: bool,
    /// Whether no program needs the former values anymore.
    pub drops_former: bool,
}

/// Adds the former values to the desired Secret, and records the versions of its values. Returns whether the Secret
/// then differs from the existing Secret without an edit by another client.
///
/// Values are compared only by their versions, so a value that is set again counts as changed. After a second change,
/// the former value of the second change replaces that of the first. Former values that do not fit into the Secret are
/// not kept, and neither are those of a Secret that becomes immutable, since they could not be removed.
pub fn keep(
    desired: &mut Secret,
    existing: Option<&Secret>,
    request: &Request,
    new: NewValues<'_>,
    now: Timestamp,
) -> bool {
    let before = existing.map(marks_of).unwrap_or_default();
    let former = existing.and_then(|secret| FormerValues::of(secret, now));
    let kept = former.filter(|former| now < former.until(Some(request)) && !new.drops_former);
    let mut since = kept.as_ref().map(|former| former.since);
    let mut former_values = BTreeMap::new();
    for item in &request.items {
        let name = former_name(item);
        if desired.data.contains_key(&name) || !desired.data.contains_key(item) {
            continue;
        }
        let is_changed = before.is_changed(item, &new);
        let is_kept = kept.as_ref().is_some_and(|kept| kept.items.contains(item));
        let source = match (is_changed, is_kept) {
            (true, _) => item,
            (false, true) => &name,
            (false, false) => continue,
        };
        if let Some(value) = existing.and_then(|secret| secret.data.get(source)) {
            former_values.insert(name, value.clone());
            since = since.max(is_changed.then_some(now));
        }
    }
    if !fits(desired, &former_values) || desired.immutable == Some(true) {
        former_values.clear();
    }
    let marks = Marks {
        key_id: new.key_id.to_owned(),
        versions: new.versions,
        since: since.filter(|_| !former_values.is_empty()),
    };
    desired.data.extend(former_values);
    marks.write_to(desired);
    marks != before
}

/// Removes marks that the author of a template added to the Secret.
pub fn remove_marks(secret: &mut Secret) {
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.remove(PREVIOUS_VALUES_ANNOTATION);
    }
}

impl Marks {
    fn is_changed(&self, item: &str, new: &NewValues<'_>) -> bool {
        let mark = self
            .versions
            .get(item)
            .filter(|_| self.key_id == new.key_id);
        mark.map_or(new.is_changed, |mark| Some(mark) != new.versions.get(item))
    }

    fn write_to(&self, secret: &mut Secret) {
        if let Ok(text) = serde_json::to_string(self) {
            let annotations = secret.metadata.annotations.get_or_insert_default();
            annotations.insert(PREVIOUS_VALUES_ANNOTATION.to_owned(), text);
        }
    }
}

fn former_name(item: &str) -> String {
    format!("{item}{SUFFIX}")
}

/// Returns the marks of a Secret. An unreadable annotation counts as missing.
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

    /// Returns the Secret after values with these versions were written at the second `now`, and whether its marks
    /// changed.
    fn next(
        existing: Option<&Secret>,
        values: &[(&str, &str)],
        second: i64,
        drops_former: bool,
    ) -> (Secret, bool) {
        let mut desired = secret(values);
        let new = NewValues {
            drops_former,
            ..new_values(values)
        };
        let is_due = keep(&mut desired, existing, &request("a, b"), new, at(second));
        (desired, is_due)
    }

    fn values(secret: &Secret) -> Vec<(&str, &str)> {
        let values = secret.data.iter();
        let values = values.map(|(item, value)| (item.as_str(), value.expose()));
        let text = |(item, bytes)| (item, std::str::from_utf8(bytes).unwrap());
        values.map(text).collect()
    }

    fn until(secret: &Secret, now: i64) -> Option<i64> {
        let former = FormerValues::of(secret, at(now))?;
        Some(former.until(Some(&request("a, b"))).as_second())
    }

    #[test]
    fn a_former_value_is_kept_until_its_retention_period_ends() {
        let (first, _) = next(None, &[("a", "1"), ("b", "2")], 0, false);
        assert_eq!(until(&first, 0), None);
        let (second, _) = next(Some(&first), &[("a", "3"), ("b", "2")], 10, false);
        let want = [("a", "3"), ("a.previous", "1"), ("b", "2")];
        assert_eq!(values(&second), want);
        assert_eq!(until(&second, 10), Some(110));
        let status = FormerValues::of(&second, at(10)).unwrap().status(None);
        assert_eq!(status.items, ["a"]);
        for (second_of, is_kept) in [(109, true), (110, false)] {
            let again = [("a", "3"), ("b", "2")];
            let (third, _) = next(Some(&second), &again, second_of, false);
            assert_eq!(
                third.data.contains_key("a.previous"),
                is_kept,
                "{second_of}"
            );
        }
    }

    #[test]
    fn former_values_that_no_program_needs_are_dropped() {
        let (first, _) = next(None, &[("a", "1")], 0, false);
        let (second, _) = next(Some(&first), &[("a", "2")], 10, false);
        let (third, is_due) = next(Some(&second), &[("a", "2")], 20, true);
        assert_eq!(values(&third), [("a", "2")]);
        assert!(is_due, "the change is not an edit of another client");
        let (fourth, is_due) = next(Some(&third), &[("a", "2")], 30, true);
        assert_eq!((fourth, is_due), (third, false));
    }

    #[test]
    fn a_change_of_another_item_keeps_the_former_value_of_the_first() {
        let (first, _) = next(None, &[("a", "1"), ("b", "2")], 0, false);
        let (second, _) = next(Some(&first), &[("a", "3"), ("b", "2")], 10, false);
        let (third, _) = next(Some(&second), &[("a", "3"), ("b", "4")], 20, false);
        let want = [
            ("a", "3"),
            ("a.previous", "1"),
            ("b", "4"),
            ("b.previous", "2"),
        ];
        assert_eq!(values(&third), want);
        assert_eq!(until(&third, 20), Some(120));
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
        let again = [("a", "2"), ("a.previous", "own")];
        let (second, _) = next(Some(&first), &again, 1, false);
        assert_eq!(values(&second), again);
        assert_eq!(until(&second, 1), None);
    }

    #[test]
    fn former_values_that_do_not_fit_or_cannot_be_removed_are_not_kept() {
        let large = "x".repeat(MAX_SECRET_LEN / 2 + 1);
        let (first, _) = next(None, &[("a", &large)], 0, false);
        let mut desired = secret(&[("a", &large)]);
        let new = new_values(&[("a", "2")]);
        keep(&mut desired, Some(&first), &request("a"), new, at(1));
        assert_eq!(desired.data.len(), 1);

        let (first, _) = next(None, &[("a", "1")], 0, false);
        let mut desired = secret(&[("a", "2")]);
        desired.immutable = Some(true);
        let new = new_values(&[("a", "2")]);
        keep(&mut desired, Some(&first), &request("a"), new, at(1));
        assert_eq!(desired.data.len(), 1);
    }

    /// Attack: an author keeps a former value for longer than a week, with marks in the future in the template.
    #[test]
    fn marks_in_the_future_do_not_extend_the_retention_period() {
        let (first, _) = next(None, &[("a", "1")], 0, false);
        let (mut second, _) = next(Some(&first), &[("a", "2")], 10, false);
        let annotations = second.metadata.annotations.as_mut().unwrap();
        let marks = annotations.get_mut(PREVIOUS_VALUES_ANNOTATION).unwrap();
        *marks = marks.replace("1970", "2999");
        for now in [50, 1_000_000] {
            assert!(
                until(&second, now).unwrap() <= 100,
                "the retention period is over"
            );
        }
        remove_marks(&mut second);
        assert_eq!(until(&second, 50), None);
    }

    /// Fault: former values cannot be removed after their retention period, and the controller retries without a pause.
    #[test]
    fn a_failing_object_is_checked_only_at_the_end_and_then_at_intervals() {
        let (first, _) = next(None, &[("a", "1")], 0, false);
        let (second, _) = next(Some(&first), &[("a", "2")], 10, false);
        let former = FormerValues::of(&second, at(10)).unwrap();
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
        let (first, _) = next(None, &[("a", "1"), ("b", "2")], 0, false);
        let (second, _) = next(Some(&first), &[("a", "3"), ("b", "4")], 10, false);
        let former = FormerValues::of(&second, at(11)).unwrap();
        let removed = |request: Option<&Request>, is_over| {
            let secret = former.removed_from(&second, request, is_over)?;
            let former = FormerValues::of(&secret, at(11));
            Some(former.map_or_else(Vec::new, |former| former.items.into_iter().collect()))
        };
        assert_eq!(removed(Some(&request("a,b")), false), None);
        assert_eq!(
            removed(Some(&request("a")), false),
            Some(vec!["a".to_owned()])
        );
        assert_eq!(removed(Some(&request("a,b")), true), Some(vec![]));
        assert_eq!(removed(None, false), Some(vec![]));
    }

    /// Attack: an author names so many items that computing their versions keeps the controller busy.
    #[test]
    fn refuses_more_items_than_fifty_and_counts_each_once() {
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
                request.map(|request| request.is_by_time()),
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
}
