//! Former values of items, which a Secret keeps for a while under `ITEM.previous`, so that programs with the former
//! value and programs with the new value can work at the same time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::former_mark::Prover;
use shared::plain::Plain;
use shared::resource::{
    KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION, KEEP_PREVIOUS_UNTIL_ANNOTATION,
    PREVIOUS_VALUES_ANNOTATION, PreviousValues, SealedSecret, time,
};
use shared::secret::Secret;
use shared::secret_types::MAX_SECRET_LEN;

use crate::no_secret::is_legacy;
use crate::ownership::is_equivalent;
use crate::public_size;

/// The retention period of former values if the SealedSecret specifies none.
const DEFAULT_DURATION: SignedDuration = SignedDuration::from_hours(1);
/// The longest retention period of former values.
const MAX_DURATION: SignedDuration = SignedDuration::from_hours(24 * 7);
/// The pause between two checks whether Pods still use former values.
const CHECK_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// Maximum number of items whose former values are kept.
const MAX_ITEMS: usize = 50;
/// Values of [`KEEP_PREVIOUS_UNTIL_ANNOTATION`].
const UNTIL_TIME: &str = "time";
const UNTIL_PODS: &str = "pods";
/// The suffix that turns the name of an item into the name of its former value.
const SUFFIX: &str = ".previous";
/// Maximum length of an item key.
const MAX_KEY_LEN: usize = 253;

/// The request of a SealedSecret to keep the former values of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    items: BTreeSet<String>,
    /// Items whose keys are too long for [`SUFFIX`], so that their former values cannot be kept.
    too_long: BTreeSet<String>,
    duration: SignedDuration,
    /// Whether former values are kept for the full retention period, even if every Pod already has the current values.
    keeps_full_period: bool,
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
    #[error(
        "the annotation {KEEP_PREVIOUS_ANNOTATION} names more than {MAX_ITEMS} items; name fewer items"
    )]
    TooManyItems,
}

/// Why former values are not kept although the SealedSecret requests them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// The status would show which items exist.
    #[error(
        "no former values are kept, because the Secret is sealed as a whole in the deprecated field 'data'; seal its items \
         one by one"
    )]
    SealedAsAWhole,
    /// The status would show whether rendered values leave room for former values.
    #[error(
        "no former values are kept, because templates produce values of the Secret, whose size must not become public; \
         request former values in a SealedSecret without `spec.template.data`"
    )]
    Templates,
    /// The key of the former value would be too long.
    #[error(
        "the former value of the item {0:?} is not kept, because the key `ITEM{SUFFIX}` would be longer than {MAX_KEY_LEN} \
         characters; use a shorter item name"
    )]
    NameTooLong(String),
}

impl Request {
    /// Returns the first public reason why some or all former values are not kept; `None` if there is none. The result
    /// does not depend on values.
    pub fn why_not_kept(&self, sealed: &SealedSecret) -> Option<NotKept> {
        if is_legacy(sealed) {
            return Some(NotKept::SealedAsAWhole);
        }
        if !public_size::is_public(sealed) {
            return Some(NotKept::Templates);
        }
        let items = &sealed.spec.encrypted_data;
        let mut too_long = self.too_long.iter();
        let item = too_long.find(|item| items.contains_key(*item))?;
        Some(NotKept::NameTooLong(item.clone()))
    }

    /// Parses the annotations of a SealedSecret. Returns `None` without [`KEEP_PREVIOUS_ANNOTATION`].
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
        let fits = |item: &String| item.len() + SUFFIX.len() <= MAX_KEY_LEN;
        let (items, too_long) = parse_items(items)?.into_iter().partition(fits);
        let duration = annotation(KEEP_PREVIOUS_FOR_ANNOTATION);
        let duration = duration.map_or(Ok(DEFAULT_DURATION), |text| parse_duration(text))?;
        let keeps_full_period = match annotation(KEEP_PREVIOUS_UNTIL_ANNOTATION).map(String::as_str)
        {
            None | Some(UNTIL_PODS) => false,
            Some(UNTIL_TIME) => true,
            Some(event) => return Err(InvalidRequest::Event(event.to_owned())),
        };
        Ok(Some(Self {
            items,
            too_long,
            duration,
            keeps_full_period,
        }))
    }

    /// Returns whether former values are kept for the full retention period, even if every Pod already has the current
    /// values.
    ///
    /// A program that tries both values needs the former value until the other system, such as a database, accepts the
    /// new value. The state of Pods does not show when this happens.
    pub fn keeps_full_period(&self) -> bool {
        self.keeps_full_period
    }

    /// Returns the items whose former values are requested and can be kept.
    pub fn items(&self) -> &BTreeSet<String> {
        &self.items
    }
}

/// Returns the distinct items of a list. Stops at the first item above the maximum, since the list can be long.
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

/// The annotation with which the controller records the versions of the values of requested items, and names the former
/// values that it added. Other clients can write the annotation too, so only marks with a valid proof count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marks {
    /// The identifier of the key that computed the versions.
    key_id: String,
    /// The version of the value of each requested item.
    versions: BTreeMap<String, String>,
    /// The items with a former value, each with the time when the former value was stored.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    former: BTreeMap<String, Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    proof: String,
}

/// The former values in a Secret, according to marks with a valid proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerValues {
    marks: Marks,
}

/// The inputs that determine which former values stay in a Secret.
#[derive(Debug)]
pub struct Retention<'a> {
    /// The request of the SealedSecret; `None` if it is unknown, or if the Secret may have no former values.
    pub request: Option<&'a Request>,
    /// Whether the request is unknown, because the SealedSecret cannot be read. If so, the default period applies.
    pub is_unknown: bool,
    /// Whether programs no longer need the former values.
    pub drops_former: bool,
    /// The current time.
    pub now: Timestamp,
    /// The items that the SealedSecret itself specifies. They are never removed.
    pub own_items: BTreeSet<&'a str>,
}

impl FormerValues {
    /// Returns the former values in a Secret; `None` if the Secret has no marks with a valid proof.
    pub fn of(secret: &Secret, prover: &Prover<'_>) -> Option<Self> {
        let annotations = secret.metadata.annotations.as_ref()?;
        let text = annotations.get(PREVIOUS_VALUES_ANNOTATION)?;
        let marks: Marks = serde_json::from_str(text).ok()?;
        marks.is_proven(secret, prover).then_some(Self { marks })
    }

    /// Returns whether the Secret has marks but no former values.
    pub fn is_empty(&self) -> bool {
        self.marks.former.is_empty()
    }

    /// Returns when the most recent former value was stored, just before the Secret was written; the Unix epoch if
    /// there is none.
    pub fn since(&self) -> Timestamp {
        let times = self.marks.former.values().copied();
        times.max().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Returns when the first retention period ends; the Unix epoch if there are no former values, or if the clock was
    /// ahead by more than the period when a former value was stored. Without a request, for example if the SealedSecret
    /// is invalid, the default period applies.
    pub fn until(&self, request: Option<&Request>, now: Timestamp) -> Timestamp {
        let ends = self.marks.former.values();
        let ends = ends.map(|since| end(*since, request, now));
        ends.min().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Returns when to check again whether the former values are still needed. While an object fails, or keeps former
    /// values for the full retention period, the next check is at the end of the period: each check of a failing object
    /// costs an attempt. If former values still exist after the period, their removal failed, and the next attempt
    /// follows after a pause.
    pub fn next_check(
        &self,
        request: Option<&Request>,
        is_synced: bool,
        now: Timestamp,
    ) -> Timestamp {
        let until = self.until(request, now);
        let next = now.saturating_add(CHECK_INTERVAL).unwrap_or(now);
        let keeps_full_period = request.is_some_and(Request::keeps_full_period);
        if until <= now {
            next
        } else if keeps_full_period || !is_synced {
            until
        } else {
            next.min(until)
        }
    }

    /// Returns the former values as the status reports them.
    pub fn status(&self, request: Option<&Request>, now: Timestamp) -> PreviousValues {
        PreviousValues {
            items: self.marks.former.keys().cloned().collect(),
            until: Some(time(self.until(request, now))),
        }
    }

    /// Returns the Secret without the former values that are no longer needed or requested; `None` if nothing changes.
    /// If the Secret may have no former values, it loses its marks too. Nothing can be removed from an immutable
    /// Secret.
    pub fn removed_from(
        &self,
        secret: &Secret,
        retention: &Retention<'_>,
        prover: &Prover<'_>,
    ) -> Option<Secret> {
        let mut marks = self.marks.clone();
        marks
            .former
            .retain(|item, since| retention.keeps(item, *since));
        let drops_marks = retention.request.is_none() && !retention.is_unknown;
        let is_unchanged = marks.former.len() == self.marks.former.len() && !drops_marks;
        if is_unchanged || secret.immutable == Some(true) {
            return None;
        }
        let mut next = secret.clone();
        for item in self.marks.former.keys() {
            let name = former_name(item);
            if !marks.former.contains_key(item) && !retention.own_items.contains(name.as_str()) {
                next.data.remove(&name);
            }
        }
        if drops_marks {
            remove_marks(&mut next);
        } else {
            marks.write_to(&mut next, prover);
        }
        Some(next)
    }
}

impl Retention<'_> {
    fn keeps(&self, item: &str, since: Timestamp) -> bool {
        let is_over = self.drops_former || end(since, self.request, self.now) <= self.now;
        let is_requested = self
            .request
            .map_or(self.is_unknown, |request| request.items.contains(item));
        is_requested && !is_over
    }
}

/// Returns when the retention period of a former value ends. If the clock was ahead by more than the period when the
/// value was stored, the period counts as over: otherwise the value could stay for any time after the clock was
/// corrected.
fn end(since: Timestamp, request: Option<&Request>, now: Timestamp) -> Timestamp {
    let duration = request.map_or(DEFAULT_DURATION, |request| request.duration);
    if since.duration_since(now) > duration {
        Timestamp::UNIX_EPOCH
    } else {
        since.saturating_add(duration).unwrap_or(since)
    }
}

/// The properties of the new values of a Secret that determine which former values are kept.
#[derive(Debug)]
pub struct NewValues<'a> {
    /// The version of the value of each requested item.
    pub versions: BTreeMap<String, String>,
    /// The identifier of the key that computed the versions.
    pub key_id: &'a str,
    /// Whether values without a version of the key `key_id` count as changed.
    pub is_changed: bool,
    /// Whether programs no longer need the former values.
    pub drops_former: bool,
    /// The public size of the values of the Secret.
    pub public_len: usize,
    /// The current time.
    pub now: Timestamp,
}

/// Adds the former values to the desired Secret, and records the versions of the values of the requested items.
///
/// Values are compared only by their versions. After a second change of an item, only the value before the second
/// change is kept. No former value is kept if the former values do not fit into the Secret together, or if the Secret
/// becomes immutable, since nothing could be removed from it later. Only public sizes decide whether former values fit.
pub fn keep(
    desired: &mut Secret,
    existing: Option<&Secret>,
    request: &Request,
    new: NewValues<'_>,
    prover: &Prover<'_>,
) {
    let before = existing.and_then(|secret| FormerValues::of(secret, prover));
    let before = before.map(|former| former.marks).unwrap_or_default();
    let mut marks = Marks {
        key_id: new.key_id.to_owned(),
        ..Marks::default()
    };
    let mut former_values = BTreeMap::new();
    for item in &request.items {
        let name = former_name(item);
        if desired.data.contains_key(&name) || !desired.data.contains_key(item) {
            continue;
        }
        let Some((source, since)) = before.former_value(item, &new, request) else {
            continue;
        };
        if let Some(value) = existing.and_then(|secret| secret.data.get(&source)) {
            former_values.insert(name, value.clone());
            marks.former.insert(item.clone(), since);
        }
    }
    if !fits(new.public_len, &former_values) || desired.immutable == Some(true) {
        former_values.clear();
        marks.former.clear();
    }
    marks.versions = new.versions;
    desired.data.extend(former_values);
    let is_same = existing.filter(|_| before.is_same(&marks));
    match is_same.and_then(marks_text) {
        // The proof of the same marks differs after a renewal of the keys, which must not change the Secret.
        Some(text) => put_marks(desired, text.clone()),
        None => marks.write_to(desired, prover),
    }
}

/// Removes the marks of a Secret.
pub fn remove_marks(secret: &mut Secret) {
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.remove(PREVIOUS_VALUES_ANNOTATION);
    }
}

/// Replaces the marks of a Secret with the marks of another Secret.
pub fn copy_marks(from: &ObjectMeta, into: &mut ObjectMeta) {
    let annotations = into.annotations.get_or_insert_default();
    annotations.remove(PREVIOUS_VALUES_ANNOTATION);
    let from = from.annotations.as_ref();
    let marks = from.and_then(|texts| texts.get_key_value(PREVIOUS_VALUES_ANNOTATION));
    annotations.extend(marks.map(|(key, text)| (key.clone(), text.clone())));
}

/// Returns whether a Secret has an annotation with marks, which another client may have written.
pub fn has_marks(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations.is_some_and(|texts| texts.contains_key(PREVIOUS_VALUES_ANNOTATION))
}

/// Returns whether two Secrets are equivalent except for their marks.
pub fn differ_only_in_marks(a: &Secret, b: &Secret) -> bool {
    let without_marks = |secret: &Secret| {
        let mut secret = secret.clone();
        remove_marks(&mut secret);
        secret
    };
    is_equivalent(&without_marks(a), &without_marks(b))
}

impl Marks {
    /// Returns which value of the existing Secret becomes or stays the former value of `item`, by its key in that
    /// Secret, and since when it has been a former value; `None` if no former value is kept.
    fn former_value(
        &self,
        item: &str,
        new: &NewValues<'_>,
        request: &Request,
    ) -> Option<(String, Timestamp)> {
        if self.is_changed(item, new) {
            return Some((item.to_owned(), new.now));
        }
        let since = *self.former.get(item)?;
        let is_over = new.drops_former || end(since, Some(request), new.now) <= new.now;
        (!is_over).then(|| (former_name(item), since))
    }

    fn is_changed(&self, item: &str, new: &NewValues<'_>) -> bool {
        let mark = self
            .versions
            .get(item)
            .filter(|_| self.key_id == new.key_id);
        mark.map_or(new.is_changed, |mark| Some(mark) != new.versions.get(item))
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.key_id, &self.versions, &self.former)
            == (&other.key_id, &other.versions, &other.former)
    }

    fn is_proven(&self, secret: &Secret, prover: &Prover<'_>) -> bool {
        prover.is_proven(&self.proof, &self.text_to_prove(), &self.values(secret))
    }

    /// Adds the marks to a Secret that has their former values. Without a key that can prove the marks, their proof is
    /// empty, so that they do not count.
    fn write_to(mut self, secret: &mut Secret, prover: &Prover<'_>) {
        let proof = prover.prove(&self.text_to_prove(), self.values(secret));
        self.proof = proof.unwrap_or_default();
        if let Ok(text) = serde_json::to_string(&self) {
            put_marks(secret, text);
        }
    }

    fn text_to_prove(&self) -> String {
        let (key_id, versions, former) = (&self.key_id, &self.versions, &self.former);
        json!([key_id, versions, former]).to_string()
    }

    /// Returns the former values in a Secret, with `None` for each missing value.
    fn values<'a>(&'a self, secret: &'a Secret) -> impl Iterator<Item = Option<&'a Plain>> + Clone {
        let items = self.former.keys();
        items.map(|item| secret.data.get(&former_name(item)))
    }
}

fn former_name(item: &str) -> String {
    format!("{item}{SUFFIX}")
}

fn marks_text(secret: &Secret) -> Option<&String> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations.get(PREVIOUS_VALUES_ANNOTATION)
}

fn put_marks(secret: &mut Secret, text: String) {
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(PREVIOUS_VALUES_ANNOTATION.to_owned(), text);
}

fn fits(public_len: usize, former: &BTreeMap<String, Plain>) -> bool {
    let former = former.values();
    let former = former.map(|value| public_size::padded_len(value.expose().len()));
    public_len + former.sum::<usize>() <= MAX_SECRET_LEN
}

#[cfg(test)]
mod tests;
