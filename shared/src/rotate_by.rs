//! Rotate-by dates: an annotation of the SealedSecret with the date from which the value of an item is overdue for a
//! change.
//!
//! The annotation has one line for each item, sorted by item: `KEY DATE PERIOD`, such as `password 2027-03-01 90d`. The
//! period is optional: a new value gets a date that is later than today by the period. Dates are in UTC.
//!
//! The annotation is advice: anyone who can write the object can write any date. No decision about values may rely on
//! it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::names;
use crate::resource::{ROTATE_BY_ANNOTATION, SealedSecret};

/// The maximum size of the annotation in bytes. A larger annotation is not parsed. The API server accepts 256 KiB of
/// annotations in total.
pub const MAX_BYTES: usize = 128 << 10;

/// The maximum number of days of a period, some 100 years.
pub const MAX_DAYS: u16 = 36_500;

/// A number of days from 1 to 36,500, as text `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(u16);

/// The text is not a period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of days from 1 to {MAX_DAYS}, such as 90d")]
pub struct MalformedPeriod;

impl Period {
    /// Returns the number of days.
    pub fn days(self) -> i64 {
        self.0.into()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}d", self.0)
    }
}

impl FromStr for Period {
    type Err = MalformedPeriod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_suffix('d').unwrap_or_default();
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let days = digits.parse().ok().filter(|_| is_number);
        let days = days.filter(|days| (1..=MAX_DAYS).contains(days));
        days.map(Self).ok_or(MalformedPeriod)
    }
}

/// When new values become overdue: after a period, on a date, or never. As text `90d`, `2027-03-01` or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotateBy {
    /// Repeatedly, after this period.
    After(Period),
    /// Once, on this date.
    On(Date),
    /// Never: the values have no date.
    Never,
}

/// The text is neither a period nor a date nor `never`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a number of days from 1 to {MAX_DAYS}, such as 90d, a date, such as 2027-03-01, or `never`"
)]
pub struct MalformedRotateBy;

impl RotateBy {
    /// Returns the date of a value that is set today, if it has one.
    pub fn due(self, today: Date) -> Option<Due> {
        match self {
            Self::After(period) => Some(Due::after(period, today)),
            Self::On(date) => Some(Due { date, period: None }),
            Self::Never => None,
        }
    }
}

impl fmt::Display for RotateBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(period) => period.fmt(f),
            Self::On(date) => date.fmt(f),
            Self::Never => f.write_str("never"),
        }
    }
}

impl FromStr for RotateBy {
    type Err = MalformedRotateBy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let period = text.parse().ok().map(Self::After);
        let date = || parse_date(text).map(Self::On);
        period.or_else(date).ok_or(MalformedRotateBy)
    }
}

/// Parses a date of the form `2027-03-01`.
fn parse_date(text: &str) -> Option<Date> {
    let is_form = |(i, byte): (usize, u8)| match i {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    let has_form = text.len() == 10 && text.bytes().enumerate().all(is_form);
    text.parse().ok().filter(|_| has_form)
}

/// The date of an item. Ordered by date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The first day on which the value is overdue, in UTC.
    pub date: Date,
    /// The time from one value to the next; `None` if the date of the next value is unknown.
    pub period: Option<Period>,
}

impl Due {
    /// Returns the date of a value that is set today.
    pub fn after(period: Period, today: Date) -> Self {
        let days = SignedDuration::from_hours(24 * period.days());
        Self {
            date: today.saturating_add(days),
            period: Some(period),
        }
    }

    /// Returns the number of days until the date; zero or negative if the value is overdue.
    pub fn days_left(self, today: Date) -> i64 {
        self.date.duration_since(today).as_hours() / 24
    }

    fn line(self, item: &str) -> String {
        let period = self.period.map(|period| format!(" {period}"));
        format!("{item} {}{}", self.date, period.unwrap_or_default())
    }
}

/// Returns the date in UTC.
pub fn date_of(time: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(time).date()
}

/// Returns the beginning of a date in UTC; `None` if no timestamp can express it.
pub fn start_of(date: Date) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()
}

/// Dates by item key.
pub type Dates = BTreeMap<String, Due>;

/// The parsed annotation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotateByDates {
    /// The dates, including those of items that do not exist.
    pub dates: Dates,
    /// The lines that have no effect: malformed lines, and all but the earliest of several dates of an item.
    pub ignored: BTreeSet<String>,
    /// Whether the annotation is larger than [`MAX_BYTES`]. It is then not parsed.
    pub is_too_large: bool,
}

/// Parses the annotation of a SealedSecret, if there is one.
pub fn read(annotations: Option<&BTreeMap<String, String>>) -> RotateByDates {
    let text = annotations.and_then(|annotations| annotations.get(ROTATE_BY_ANNOTATION));
    text.map_or_else(RotateByDates::default, |text| parse(text))
}

/// Parses the value of the annotation. Malformed lines do not affect other lines.
pub fn parse(text: &str) -> RotateByDates {
    let mut parsed = RotateByDates {
        is_too_large: text.len() > MAX_BYTES,
        ..RotateByDates::default()
    };
    if parsed.is_too_large {
        return parsed;
    }
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some((item, due)) => parsed.add(item, due),
            None => drop(parsed.ignored.insert(line.to_owned())),
        }
    }
    parsed
}

fn parse_line(line: &str) -> Option<(&str, Due)> {
    let mut words = line.split_ascii_whitespace();
    let item = words
        .next()
        .filter(|item| names::check_item(item).is_ok())?;
    let date = parse_date(words.next()?)?;
    let period = words.next().map(str::parse).transpose().ok()?;
    words
        .next()
        .is_none()
        .then_some((item, Due { date, period }))
}

impl RotateByDates {
    /// Adds the date of a line. Keeps the earliest date of an item, and adds the other to the ignored lines.
    fn add(&mut self, item: &str, due: Due) {
        let earliest = *self.dates.entry(item.to_owned()).or_insert(due);
        let later = match due.cmp(&earliest) {
            Ordering::Equal => return,
            Ordering::Less => {
                self.dates.insert(item.to_owned(), due);
                earliest
            }
            Ordering::Greater => due,
        };
        self.ignored.insert(later.line(item));
    }

    /// Returns whether a line, even one without effect, begins with the key of an item.
    pub fn has_line(&self, item: &str) -> bool {
        let mut ignored = self.ignored.iter();
        self.dates.contains_key(item)
            || ignored.any(|line| line.split_ascii_whitespace().next() == Some(item))
    }

    /// Sets the date of an item, or removes it. Also removes ignored lines that begin with the key of the item.
    pub fn set(&mut self, item: &str, due: Option<Due>) {
        self.ignored
            .retain(|line| line.split_ascii_whitespace().next() != Some(item));
        // A line with another key would be malformed.
        match due.filter(|_| names::check_item(item).is_ok()) {
            Some(due) => drop(self.dates.insert(item.to_owned(), due)),
            None => drop(self.dates.remove(item)),
        }
    }

    /// Returns the value of the annotation: one line for each item, sorted by item, and then the ignored lines. Each
    /// line ends with a line break, so that YAML has one line for each item, too.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let lines = self.dates.iter().map(|(item, due)| due.line(item));
        for line in lines.chain(self.ignored.iter().cloned()) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// Returns the dates of new values: the date of the flag or the rule or, without one, the date after the recorded
/// period of the item; `None` for an item whose recorded date must be removed, because it was the date of the former
/// value. Items without a date before and after are omitted.
pub fn renewed<'a>(
    recorded: &Dates,
    items: impl Iterator<Item = &'a String>,
    rotate_by: Option<RotateBy>,
    today: Date,
) -> BTreeMap<String, Option<Due>> {
    let renew = |item: &'a String| {
        let before = recorded.get(item);
        let period = || before?.period.map(RotateBy::After);
        let due = rotate_by.or_else(period).and_then(|by| by.due(today));
        (due.is_some() || before.is_some()).then(|| (item.clone(), due))
    };
    items.filter_map(renew).collect()
}

/// Adds the annotation to a new object, with the same date for each item.
pub fn annotate<'a>(
    annotations: &mut BTreeMap<String, String>,
    items: impl Iterator<Item = &'a String>,
    due: Due,
) {
    let mut parsed = RotateByDates::default();
    for item in items {
        parsed.set(item, Some(due));
    }
    if !parsed.dates.is_empty() {
        annotations.insert(ROTATE_BY_ANNOTATION.into(), parsed.to_text());
    }
}

/// Returns the earliest date of the items that the object has.
pub fn earliest(sealed: &SealedSecret) -> Option<Date> {
    let parsed = read(sealed.metadata.annotations.as_ref());
    let items = &sealed.spec.encrypted_data;
    let dates = parsed.dates.iter();
    let existing = dates.filter(|(item, _)| items.contains_key(*item));
    existing.map(|(_, due)| due.date).min()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::collection::btree_map;
    use proptest::prelude::{Strategy, any, prop};

    use super::*;
    use crate::resource::SealedSecretSpec;

    fn due(text: &str) -> Due {
        parse_line(&format!("a {text}")).unwrap().1
    }

    #[test]
    fn parses_lines_and_keeps_those_that_it_cannot_parse() {
        for (line, want) in [
            ("a 2027-03-01 90d", Some((date(2027, 3, 1), Some("90d")))),
            ("  a\t2027-03-01  ", Some((date(2027, 3, 1), None))),
            ("a 2028-02-29", Some((date(2028, 2, 29), None))),
            ("a 2027-02-29", None),
            ("a 2027-3-1", None),
            ("a 20270301", None),
            ("a 2027-03-01T00", None),
            ("a +027-03-01", None),
            ("a 2027-03-01 90", None),
            ("a 2027-03-01 0d", None),
            ("a 2027-03-01 +9d", None),
            ("a 2027-03-01 36501d", None),
            ("a 2027-03-01 90d x", None),
            ("a", None),
            ("a/b 2027-03-01", None),
            ("\u{202e} 2027-03-01", None),
        ] {
            let parsed = parse(&format!("z 2030-01-01\n{line}\n"));
            let actual = parsed.dates.get("a").map(|due| (due.date, due.period));
            let want = want.map(|(date, period): (_, Option<&str>)| {
                (date, period.map(|text| text.parse().unwrap()))
            });
            assert_eq!(actual, want, "{line:?}");
            assert_eq!(parsed.ignored.is_empty(), want.is_some(), "{line:?}");
            assert!(parsed.dates.contains_key("z"), "{line:?}");
        }
        assert_eq!(parse(" \n\r\n"), RotateByDates::default());
    }

    #[test]
    fn the_earliest_date_of_an_item_counts() {
        let lines = ["a 2027-05-01", "a 2027-04-01 30d", "a 2027-06-01"];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let parsed = parse(&order.map(|i| lines[i]).join("\n"));
            assert_eq!(
                parsed.dates,
                [("a".to_owned(), due("2027-04-01 30d"))].into()
            );
            assert_eq!(
                parsed.ignored,
                [lines[0].to_owned(), lines[2].to_owned()].into()
            );
        }
        assert!(parse("a 2027-05-01\na 2027-05-01\n").ignored.is_empty());
    }

    /// Attack: an author writes a huge annotation.
    #[test]
    fn does_not_parse_an_annotation_above_the_limit() {
        let line = "a 2027-03-01\n";
        let parsed = parse(&line.repeat(MAX_BYTES / line.len() + 1));
        assert!(parsed.is_too_large && parsed.dates.is_empty() && parsed.ignored.is_empty());
        assert!(!parse(&line.repeat(MAX_BYTES / line.len())).is_too_large);
    }

    #[test]
    fn keeps_malformed_lines_of_other_items() {
        let mut parsed = parse("b soon\na 2027-03-01\na later\n");
        assert_eq!(
            ["a", "b", "c", "soon"].map(|item| parsed.has_line(item)),
            [true, true, false, false]
        );
        parsed.set("a", Some(due("2027-05-01 30d")));
        assert_eq!(parsed.to_text(), "a 2027-05-01 30d\nb soon\n");
        parsed.set("b", None);
        parsed.set("a", None);
        assert_eq!(parsed.to_text(), "");
        parsed.set("a b", Some(due("2027-05-01")));
        assert_eq!(parsed.to_text(), "", "no annotation can name this item");
    }

    #[test]
    fn a_new_value_gets_the_date_of_the_flag_or_of_the_recorded_period() {
        let today = date(2026, 12, 1);
        let recorded = parse("a 2026-12-24\nb 2026-11-01 30d\n").dates;
        let items = ["a", "b", "c"].map(str::to_owned);
        let renew = |rotate_by: Option<&str>| {
            let rotate_by = rotate_by.map(|text| text.parse().unwrap());
            let dates = renewed(&recorded, items.iter(), rotate_by, today);
            let text = |(item, due): (String, Option<Due>)| match due {
                Some(due) => due.line(&item),
                None => format!("-{item}"),
            };
            dates.into_iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(renew(None), ["-a", "b 2026-12-31 30d"]);
        assert_eq!(renew(Some("never")), ["-a", "-b"]);
        assert_eq!(
            renew(Some("2027-03-01")),
            ["a 2027-03-01", "b 2027-03-01", "c 2027-03-01"]
        );
        assert_eq!(
            renew(Some("90d")),
            ["a 2027-03-01 90d", "b 2027-03-01 90d", "c 2027-03-01 90d"]
        );
    }

    #[test]
    fn counts_days_in_utc() {
        let today = date_of("2026-12-01T23:59:59Z".parse().unwrap());
        assert_eq!(today, date(2026, 12, 1));
        for (text, want) in [
            ("2026-12-01", 0),
            ("2026-12-02", 1),
            ("2026-11-30", -1),
            ("2027-12-01", 365),
        ] {
            assert_eq!(due(text).days_left(today), want, "{text}");
        }
        let start = start_of(today).unwrap();
        assert_eq!(start, "2026-12-01T00:00:00Z".parse().unwrap());
        let last: Period = "36500d".parse().unwrap();
        assert_eq!(Due::after(last, date(9999, 12, 1)).date, date(9999, 12, 31));
    }

    #[test]
    fn returns_the_earliest_date_of_the_existing_items() {
        let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
        let text = "gone 2020-01-01\na 2027-01-01\nb 2026-06-01\n";
        let annotation = (ROTATE_BY_ANNOTATION.to_owned(), text.to_owned());
        sealed.metadata.annotations = Some([annotation].into());
        assert_eq!(earliest(&sealed), None);
        let items = ["a", "b"].map(|item| (item.to_owned(), String::new()));
        sealed.spec.encrypted_data = items.into();
        assert_eq!(earliest(&sealed), Some(date(2026, 6, 1)));
    }

    fn dates() -> impl Strategy<Value = Dates> {
        let period = prop::option::of(1..=MAX_DAYS);
        let entry = (0..3_000_000_i64, period).prop_map(|(days, period)| Due {
            date: date(1000, 1, 1).saturating_add(SignedDuration::from_hours(24 * days)),
            period: period.map(Period),
        });
        btree_map("[A-Za-z0-9_-][A-Za-z0-9._-]{0,9}", entry, 0..6)
    }

    proptest::proptest! {
        #[test]
        fn parses_the_dates_that_it_writes(dates in dates()) {
            let written = RotateByDates { dates, ..RotateByDates::default() };
            proptest::prop_assert_eq!(parse(&written.to_text()), written);
        }

        #[test]
        fn parsed_text_is_unchanged_after_writing_and_parsing(text in "([ab] ?|2027-01-0[1-3]|[1-3]d| |\r|\n|.){0,40}") {
            let parsed = parse(&text);
            proptest::prop_assert_eq!(parse(&parsed.to_text()), parsed);
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
