//! The rotate-by dates of new values.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anyhow::{Result, bail};
use jiff::Timestamp;
use shared::resource::{ROTATE_BY_ANNOTATION, SealedSecret};
use shared::rotate_by::{self, Due, MAX_BYTES, RotateBy, RotateByDates};
use shared::v2;

use super::names;
use super::object::{Item, Object};
use crate::failure::Failure;
use crate::report::shown;

/// New dates, by item key; `None` removes the date of the former value.
pub type NewDates = BTreeMap<String, Option<Due>>;

/// Returns the dates of items of an existing object whose values are set now.
///
/// # Errors
///
/// Fails if the annotation is too large, or would be.
pub fn of_new_values<'a>(
    sealed: &SealedSecret,
    items: impl Iterator<Item = &'a String>,
    rotate_by: Option<RotateBy>,
    now: Timestamp,
) -> Result<NewDates> {
    let mut recorded = rotate_by::read(sealed.metadata.annotations.as_ref());
    let today = rotate_by::date_of(now);
    let dates = rotate_by::renewed(&recorded.dates, items, rotate_by, today);
    for (item, due) in &dates {
        recorded.set(item, *due);
    }
    let is_too_large = recorded.is_too_large || recorded.to_text().len() > MAX_BYTES;
    if is_too_large && !dates.is_empty() {
        bail!(too_large(&sealed.qualified_name()));
    }
    Ok(dates)
}

/// Returns a warning about a date of `--rotate-by` from which new values are overdue at once.
pub fn past_warning(rotate_by: Option<RotateBy>, now: Timestamp) -> Option<String> {
    let Some(RotateBy::On(date)) = rotate_by else {
        return None;
    };
    let when = match date.cmp(&rotate_by::date_of(now)) {
        Ordering::Less => "in the past",
        Ordering::Equal => "today",
        Ordering::Greater => return None,
    };
    Some(format!(
        "--rotate-by {date}: the date is {when}; the value is overdue at once"
    ))
}

/// Adds the same date to each item of a new object, or none if the values are never overdue.
///
/// # Errors
///
/// Fails if the annotation would be too large.
pub fn add_to_new_object(
    object: &mut SealedSecret,
    rotate_by: RotateBy,
    now: Timestamp,
) -> Result<()> {
    let Some(due) = rotate_by.due(rotate_by::date_of(now)) else {
        return Ok(());
    };
    let items: Vec<String> = v2::items(&object.spec.encrypted_data)
        .map(|(item, _)| item.clone())
        .collect();
    if items.is_empty() {
        return Ok(());
    }
    let annotations = object.metadata.annotations.get_or_insert_default();
    rotate_by::annotate(annotations, items.iter(), due);
    let text = annotations.get(ROTATE_BY_ANNOTATION);
    if text.is_some_and(|text| text.len() > MAX_BYTES) {
        bail!(too_large(&object.qualified_name()));
    }
    Ok(())
}

fn too_large(object: &str) -> Failure {
    Failure::new(format!(
        "{}: the annotation {ROTATE_BY_ANNOTATION} may have at most {MAX_BYTES} bytes",
        shown(object)
    ))
    .hint("split the object, or remove dates from the annotation")
}

/// Returns a notice for each date that is removed.
pub fn removal_notices(dates: &NewDates) -> Vec<String> {
    let removed = dates.iter().filter(|(_, due)| due.is_none());
    let notice = |(item, _): (&String, _)| {
        format!(
            "the date of the former value of {item} was removed from the annotation {ROTATE_BY_ANNOTATION}; to renew \
             the date with each value, set the value with --rotate-by and a period such as 90d"
        )
    };
    removed.map(notice).collect()
}

/// The maximum number of characters of a line that a message shows.
const MAX_SHOWN_CHARS: usize = 80;

/// Returns a message for each part of the annotation that has no effect.
pub fn problems(dates: &RotateByDates) -> Vec<String> {
    if dates.is_too_large {
        return vec![format!(
            "the annotation {ROTATE_BY_ANNOTATION} has more than {MAX_BYTES} bytes, so none of its dates has an effect"
        )];
    }
    let message = |line: &String| {
        let start: String = line.chars().take(MAX_SHOWN_CHARS).collect();
        format!(
            "the line {start:?} of the annotation {ROTATE_BY_ANNOTATION} has no effect: write one line for each item, \
             such as `password 2027-03-01 90d`"
        )
    };
    dates.ignored.iter().map(message).collect()
}

/// Returns the names in dates that are no items of the object; none if an item key is invalid, such as a variable that
/// another program replaces: the items are then unknown.
pub fn missing_items(object: &Object) -> Vec<&String> {
    let is_invalid = |item: &Item| names::check_item(&item.key).is_err();
    if object.items.iter().any(is_invalid) {
        return Vec::new();
    }
    let dated = object.rotate_by.dates.keys();
    let missing = dated.filter(|name| !object.texts().contains_key(*name));
    missing.collect()
}

/// Describes the time until a date.
pub fn time_left(days: i64) -> String {
    match days {
        1 => "in 1 day".to_owned(),
        2.. => format!("in {days} days"),
        0 => "overdue since today".to_owned(),
        -1 => "overdue by 1 day".to_owned(),
        _ => format!("overdue by {} days", days.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use shared::resource::SealedSecretSpec;

    use super::*;

    fn sealed(annotation: &str) -> SealedSecret {
        let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
        let annotation = (ROTATE_BY_ANNOTATION.to_owned(), annotation.to_owned());
        sealed.metadata.annotations = Some([annotation].into());
        sealed
    }

    fn dates_at(sealed: &SealedSecret, rotate_by: Option<&str>, now: &str) -> Vec<String> {
        let items = ["a".to_owned(), "b".to_owned()];
        let rotate_by = rotate_by.map(|text| text.parse().unwrap());
        let now = now.parse().unwrap();
        let dates = of_new_values(sealed, items.iter(), rotate_by, now).unwrap();
        let text = |(item, due): (String, Option<Due>)| match due {
            Some(due) => format!("{item} {}", due.date),
            None => format!("-{item}"),
        };
        dates.into_iter().map(text).collect()
    }

    #[test]
    fn a_value_that_is_set_again_gets_a_new_date_as_the_clock_moves() {
        let recorded = sealed("a 2026-01-31 30d\nb 2026-02-01\n");
        for (rotate_by, now, want) in [
            (None, "2026-01-01T12:00:00Z", ["a 2026-01-31", "-b"]),
            (None, "2026-01-31T23:59:59Z", ["a 2026-03-02", "-b"]),
            (
                Some("90d"),
                "2026-01-01T12:00:00Z",
                ["a 2026-04-01", "b 2026-04-01"],
            ),
            (
                Some("90d"),
                "2027-01-01T12:00:00Z",
                ["a 2027-04-01", "b 2027-04-01"],
            ),
            (
                Some("2026-05-01"),
                "2027-01-01T12:00:00Z",
                ["a 2026-05-01", "b 2026-05-01"],
            ),
        ] {
            assert_eq!(dates_at(&recorded, rotate_by, now), want, "{now}");
        }
    }

    #[test]
    fn names_the_flag_for_each_date_that_is_removed() {
        let dates = [("a".to_owned(), None)].into();
        let notices = removal_notices(&dates);
        assert!(notices.len() == 1 && notices[0].contains("--rotate-by"));
        let due = Due {
            date: jiff::civil::date(2027, 3, 1),
            period: None,
        };
        assert!(removal_notices(&[("a".to_owned(), Some(due))].into()).is_empty());
    }

    #[test]
    fn warns_about_a_date_that_is_not_in_the_future() {
        let now = "2027-03-01T12:00:00Z".parse().unwrap();
        for (text, want) in [
            ("2027-02-28", Some("in the past")),
            ("2027-03-01", Some("today")),
            ("2027-03-02", None),
            ("90d", None),
            ("never", None),
        ] {
            let warning = past_warning(text.parse().ok(), now);
            assert_eq!(warning.is_some(), want.is_some(), "{text}");
            assert!(warning.is_none_or(|warning| want.is_some_and(|want| warning.contains(want))));
        }
        assert_eq!(past_warning(None, now), None);
    }

    #[test]
    fn never_adds_no_date() {
        let mut object = SealedSecret::new("db", SealedSecretSpec::default());
        object.spec.encrypted_data = [("a".to_owned(), String::new())].into();
        add_to_new_object(&mut object, RotateBy::Never, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(object.metadata.annotations, None);
    }

    #[test]
    fn describes_the_time_until_a_date() {
        for (days, want) in [
            (30, "in 30 days"),
            (1, "in 1 day"),
            (0, "overdue since today"),
            (-1, "overdue by 1 day"),
            (-400, "overdue by 400 days"),
        ] {
            assert_eq!(time_left(days), want);
        }
    }

    #[test]
    fn shows_only_the_beginning_of_a_line_without_effect() {
        let text = format!("a 2027-03-01\nb {}\n", "x".repeat(10_000));
        let problems = problems(&rotate_by::parse(&text));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("the line \"b xxx") && problems[0].len() < 400);
        let too_large = rotate_by::parse(&"x".repeat(MAX_BYTES + 1));
        assert_eq!(super::problems(&too_large).len(), 1);
    }

    #[test]
    fn refuses_an_annotation_above_the_limit() {
        let now = Timestamp::UNIX_EPOCH;
        let (item, by) = ("a".to_owned(), "90d".parse().ok());
        let dates = |sealed: &SealedSecret, by| {
            let dates = of_new_values(sealed, std::iter::once(&item), by, now);
            dates.map_err(|error| error.to_string())
        };
        let large = sealed(&"x".repeat(MAX_BYTES));
        assert!(dates(&large, by).unwrap_err().contains("131072 bytes"));
        assert_eq!(dates(&large, None), Ok(NewDates::new()));
        assert!(dates(&sealed(&"x".repeat(MAX_BYTES - 100)), by).is_ok());
    }
}
