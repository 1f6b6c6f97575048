//! Adapts objects that the API server stores but that the types of `k8s_openapi` cannot parse.
//!
//! Clients choose parts of an object that this project does not need: times in `managedFields` in years that Go accepts
//! but [`Timestamp`] cannot represent, and JSON that is nested deeper than `serde_json` parses. With typed parsing, one
//! such object makes a whole list unreadable. So objects are read as JSON first ([`Object`]), and adapted with
//! [`adapt_metadata`].

use jiff::Timestamp;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value as Json};
use std::fmt;

/// Maximum nesting of the values that are kept. No field that this project reads is nested half as deep, and
/// `serde_json` stops at 128 levels.
const MAX_LEVELS: usize = 48;
/// The time fields of metadata; all other times are in `managedFields`.
const TIME_FIELDS: [&str; 2] = ["creationTimestamp", "deletionTimestamp"];
const MANAGED_FIELDS: &str = "managedFields";
/// Go's zero time. Replaces times in negative years.
const EARLIEST_TIME: &str = "0001-01-01T00:00:00Z";

/// An object, or a list of objects, of the API server, with readable metadata. Omits `managedFields`, which can be the
/// largest part of an object, during parsing. Values nested deeper than `MAX_LEVELS` are `null`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object(pub Json);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seed = BoundedSeed {
            levels: MAX_LEVELS,
            part: Part::Object,
        };
        let mut object = seed.deserialize(deserializer)?;
        adapt_object(&mut object);
        Ok(Self(object))
    }
}

fn adapt_object(object: &mut Json) {
    if let Some(items) = object.get_mut("items").and_then(Json::as_array_mut) {
        items.iter_mut().for_each(adapt_object);
    }
    if let Some(metadata) = object.get_mut("metadata") {
        adapt_metadata(metadata);
    }
}

/// Replaces the times of metadata, including those of `managedFields`, as [`adapt_time`] does.
pub fn adapt_metadata(metadata: &mut Json) {
    for name in TIME_FIELDS {
        metadata.get_mut(name).map(adapt_time);
    }
    let entries = metadata
        .get_mut(MANAGED_FIELDS)
        .and_then(Json::as_array_mut);
    for entry in entries.into_iter().flatten() {
        entry.get_mut("time").map(adapt_time);
    }
}

/// Replaces a time that [`Timestamp`] or Go cannot represent: in a negative year with Go's zero time, after
/// [`Timestamp::MAX`] with that time, and with a longer fraction than nanoseconds by truncating it. Leaves other values
/// unchanged, including text that is not a time.
pub fn adapt_time(time: &mut Json) {
    if let Some(text) = time.as_str().and_then(nearest_valid_time) {
        *time = text.into();
    }
}

/// Returns the replacement for a time, as [`adapt_time`] describes; `None` if the string needs no replacement or is not
/// a time.
///
/// Go reads years up to 9999 with offsets of up to a day, writes the year 10000 and negative years that result from
/// them, and takes any number of digits for a fraction of a second.
fn nearest_valid_time(text: &str) -> Option<String> {
    let is_negative = text.starts_with('-');
    if !is_negative && text.parse::<Timestamp>().is_ok() {
        return None;
    }
    let digits = text.trim_start_matches('-');
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    let (year, suffix) = digits.split_at(end);
    let suffix = with_short_fraction(suffix);
    // Combined with a year that every parser accepts, the suffix shows whether the time is well-formed.
    let is_time = year.len() >= 4 && format!("2000{suffix}").parse::<Timestamp>().is_ok();
    if !is_time {
        return None;
    }
    let shortened = format!("{year}{suffix}");
    let is_within = year.len() == 4 && shortened.parse::<Timestamp>().is_ok();
    match is_negative {
        true => Some(EARLIEST_TIME.to_owned()),
        false if is_within => Some(shortened),
        false => (year > "9998" || year.len() > 4)
            .then(|| Timestamp::MAX.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    }
}

/// Truncates a fraction of a second to nanoseconds.
fn with_short_fraction(suffix: &str) -> String {
    let Some((before, fraction)) = suffix.split_once('.') else {
        return suffix.to_owned();
    };
    let end = fraction
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(fraction.len());
    let (digits, zone) = fraction.split_at(end);
    format!("{before}.{}{zone}", &digits[..digits.len().min(9)])
}

/// The part of an object that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// An object or a list of objects.
    Object,
    /// The items of a list.
    Items,
    Metadata,
    Other,
}

impl Part {
    /// Returns the part that the field with this name contains; `None` if the field is skipped.
    fn for_field(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Object, "metadata") => Some(Self::Metadata),
            (Self::Object, "items") => Some(Self::Items),
            (Self::Metadata, MANAGED_FIELDS) => None,
            _ => Some(Self::Other),
        }
    }
}

/// Reads a JSON value up to a number of nesting levels.
#[derive(Clone, Copy)]
struct BoundedSeed {
    levels: usize,
    part: Part,
}

impl BoundedSeed {
    fn for_child(self, part: Part) -> Self {
        Self {
            levels: self.levels.saturating_sub(1),
            part,
        }
    }
}

impl<'de> DeserializeSeed<'de> for BoundedSeed {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        if self.levels == 0 {
            // `serde_json` ignores a value without recursion, so its depth is not limited.
            deserializer.deserialize_ignored_any(IgnoredAny)?;
            return Ok(Json::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BoundedSeed {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let part = if self.part == Part::Items {
            Part::Object
        } else {
            Part::Other
        };
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.for_child(part))? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            match self.part.for_field(&name) {
                Some(part) => {
                    let value = map.next_value_seed(self.for_child(part))?;
                    fields.insert(name, value);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const LATEST_TIME: &str = "9999-12-30T22:00:00Z";

    fn adapt(text: &str) -> String {
        let mut metadata = json!({ "creationTimestamp": text });
        adapt_metadata(&mut metadata);
        metadata["creationTimestamp"].as_str().unwrap().to_owned()
    }

    fn is_readable(metadata: Json) -> bool {
        serde_json::from_value::<ObjectMeta>(metadata).is_ok()
    }

    /// Attack: a client hides an object from the controller with a time that the API server stores and the types
    /// refuse.
    #[test]
    fn replaces_a_time_out_of_range_with_the_nearest_valid_time() {
        for (text, want) in [
            ("2006-01-02T15:04:05Z", "2006-01-02T15:04:05Z"),
            ("2006-01-02t15:04:05z", "2006-01-02t15:04:05z"),
            ("2006-01-02T15:04:05+23:59", "2006-01-02T15:04:05+23:59"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            (LATEST_TIME, LATEST_TIME),
            ("9999-12-30T22:00:01Z", LATEST_TIME),
            ("9999-12-31T23:59:59Z", LATEST_TIME),
            ("9999-12-31T23:59:59.999999Z", LATEST_TIME),
            ("9999-12-31T23:59:59-14:00", LATEST_TIME),
            ("10000-01-01T13:59:59Z", LATEST_TIME),
            ("10000-01-01T13:59:59.000000Z", LATEST_TIME),
            ("-0001-12-31T10:00:00Z", EARLIEST_TIME),
            ("-0001-12-31T10:00:00.000000Z", EARLIEST_TIME),
            (
                "2006-01-02T15:04:05.1234567891234Z",
                "2006-01-02T15:04:05.123456789Z",
            ),
        ] {
            assert_eq!(adapt(text), want);
            assert!(is_readable(json!({ "creationTimestamp": want })), "{text}");
        }
    }

    #[test]
    fn keeps_text_that_is_not_a_time() {
        for text in [
            "",
            "soon",
            "2006",
            "99999",
            "9999-13-01T00:00:00Z",
            "2001-02-29T00:00:00Z",
            "-",
            "é-01-01",
        ] {
            assert_eq!(adapt(text), text);
        }
    }

    proptest! {
        /// Attack: a client chooses a time of any year and offset that Go can write, to hide an object.
        #[test]
        fn times_that_go_writes_become_readable(
            year in -1i32..=10_000, month in 1u8..=12, day in 1u8..=28, hour in 0u8..24, minute in 0u8..60,
            fraction in "(\\.[0-9]{1,20})?", zone in "Z|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]",
        ) {
            // Go pads years to four digits after the sign.
            let sign = if year < 0 { "-" } else { "" };
            let year = year.unsigned_abs();
            let text = format!("{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:59{fraction}{zone}");
            let mut metadata = json!({
                "creationTimestamp": text, "deletionTimestamp": text, "managedFields": [{ "time": text }, {}, 5],
            });
            adapt_metadata(&mut metadata);
            metadata["managedFields"].as_array_mut().unwrap().pop();
            prop_assert!(is_readable(metadata.clone()), "{text}: {metadata}");
        }

        #[test]
        fn keeps_the_instant_of_every_readable_time(text in "[-+.:TZtz0-9 ]{0,30}") {
            let before = text.parse::<Timestamp>().ok().filter(|_| !text.starts_with('-'));
            if let Some(before) = before {
                prop_assert_eq!(adapt(&text).parse::<Timestamp>().unwrap(), before);
            }
        }
    }

    /// Attack: a client nests a part of an object deeper than `serde_json` parses, to hide the object from the
    /// controller.
    #[test]
    fn drops_managed_fields_and_deeply_nested_values() {
        for levels in [MAX_LEVELS - 1, MAX_LEVELS, 127, 128, 129, 10_000] {
            let deep = format!("{}{}", "{\"a\":".repeat(levels) + "1", "}".repeat(levels));
            let entry = format!(r#"[{{"time":"9999-12-31T23:59:59Z","fieldsV1":{deep}}}]"#);
            let item = format!(
                r#"{{"metadata":{{"name":"n","managedFields":{entry},"creationTimestamp":"9999-12-31T23:59:59Z"}},
                    "spec":{{"deep":{deep},"managedFields":1}}}}"#
            );
            let Object(object) = serde_json::from_str(&item).unwrap();
            let Object(list) =
                serde_json::from_str(&format!(r#"{{"items":[{item},{item}]}}"#)).unwrap();
            for object in [&object, &list["items"][1]] {
                let want = json!({ "name": "n", "creationTimestamp": LATEST_TIME });
                assert_eq!(object["metadata"], want, "{levels}");
                assert_eq!(object["spec"]["managedFields"], 1);
                assert!(object["spec"]["deep"]["a"].is_object());
            }
        }
    }

    #[test]
    fn keeps_every_value_that_is_not_nested_too_deeply() {
        let text = r#"{"a":[1,-2,3.5,true,null,"é\n",{"metadata":{"managedFields":[]}}],"b":{}}"#;
        let Object(object) = serde_json::from_str(text).unwrap();
        assert_eq!(object, serde_json::from_str::<Json>(text).unwrap());
    }
}
