//! Go's date layouts. A layout is the moment Mon Jan 2 15:04:05 MST 2006, written in the requested format.

use super::{MONTHS, Time, WEEKDAYS};

/// One element of a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Element {
    LongMonth,
    Month,
    NumberMonth,
    ZeroMonth,
    LongWeekday,
    Weekday,
    Day,
    SpaceDay,
    ZeroDay,
    SpaceYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    UpperNoon,
    LowerNoon,
    ZoneName,
    Offset(Offset),
    /// Number of digits, the separator, and whether to drop trailing zeros.
    Fraction(usize, u8, bool),
}

/// Format of an offset from UTC.
#[allow(clippy::struct_excessive_bools, reason = "the fields are independent")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offset {
    /// Whether UTC is written as `Z`.
    pub(super) zulu: bool,
    pub(super) colon: bool,
    pub(super) minutes: bool,
    pub(super) seconds: bool,
}

/// Returns the text before the next element, the element, and the rest.
pub(super) fn next(layout: &[u8]) -> (&[u8], Option<Element>, &[u8]) {
    for at in 0..layout.len() {
        if let Some((skip, element, len)) = element(&layout[at..]) {
            return (
                &layout[..at + skip],
                Some(element),
                &layout[at + skip + len..],
            );
        }
    }
    (layout, None, b"")
}

/// Parses an element at the start of `text`: returns the number of literal bytes before the element (0 or 1), the
/// element, and its length.
fn element(text: &[u8]) -> Option<(usize, Element, usize)> {
    let lower_at = |at: usize| text.get(at).is_some_and(u8::is_ascii_lowercase);
    let starts = |with: &str| text.starts_with(with.as_bytes());
    let matched = |element, len| Some((0, element, len));
    match text[0] {
        b'J' if starts("January") => matched(Element::LongMonth, 7),
        b'J' if starts("Jan") && !lower_at(3) => matched(Element::Month, 3),
        b'M' if starts("Monday") => matched(Element::LongWeekday, 6),
        b'M' if starts("Mon") && !lower_at(3) => matched(Element::Weekday, 3),
        b'M' if starts("MST") => matched(Element::ZoneName, 3),
        b'0' => match text.get(1)? {
            b'1' => matched(Element::ZeroMonth, 2),
            b'2' => matched(Element::ZeroDay, 2),
            b'3' => matched(Element::ZeroHour12, 2),
            b'4' => matched(Element::ZeroMinute, 2),
            b'5' => matched(Element::ZeroSecond, 2),
            b'6' => matched(Element::Year, 2),
            b'0' if starts("002") => matched(Element::ZeroYearDay, 3),
            _ => None,
        },
        b'1' if starts("15") => matched(Element::Hour, 2),
        b'1' => matched(Element::NumberMonth, 1),
        b'2' if starts("2006") => matched(Element::LongYear, 4),
        b'2' => matched(Element::Day, 1),
        b'_' if starts("_2006") => Some((1, Element::LongYear, 4)),
        b'_' if starts("_2") => matched(Element::SpaceDay, 2),
        b'_' if starts("__2") => matched(Element::SpaceYearDay, 3),
        b'3' => matched(Element::Hour12, 1),
        b'4' => matched(Element::Minute, 1),
        b'5' => matched(Element::Second, 1),
        b'P' if starts("PM") => matched(Element::UpperNoon, 2),
        b'p' if starts("pm") => matched(Element::LowerNoon, 2),
        b'-' | b'Z' => offset(text),
        b'.' | b',' => fraction(text),
        _ => None,
    }
}

fn offset(text: &[u8]) -> Option<(usize, Element, usize)> {
    let zulu = text[0] == b'Z';
    let forms: [(&[u8], bool, bool, bool); 5] = [
        (b"070000", false, true, true),
        (b"07:00:00", true, true, true),
        (b"0700", false, true, false),
        (b"07:00", true, true, false),
        (b"07", false, false, false),
    ];
    let (form, colon, minutes, seconds) = forms
        .into_iter()
        .find(|(form, ..)| text[1..].starts_with(form))?;
    Some((
        0,
        Element::Offset(Offset {
            zulu,
            colon,
            minutes,
            seconds,
        }),
        form.len() + 1,
    ))
}

fn fraction(text: &[u8]) -> Option<(usize, Element, usize)> {
    let digit = *text.get(1).filter(|digit| matches!(digit, b'0' | b'9'))?;
    let count = text[1..].iter().take_while(|&&byte| byte == digit).count();
    if text.get(count + 1).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    Some((
        0,
        Element::Fraction(count, text[0], digit == b'9'),
        count + 1,
    ))
}

pub(super) fn format(time: &Time, layout: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = layout;
    loop {
        let (literal, element, after) = next(rest);
        out.extend_from_slice(literal);
        let Some(element) = element else {
            return out;
        };
        out.extend_from_slice(format_element(time, element).as_bytes());
        rest = after;
    }
}

fn format_element(time: &Time, element: Element) -> String {
    let parts = time.parts();
    let name = |names: &[&'static str], at: i64| {
        usize::try_from(at)
            .ok()
            .and_then(|at| names.get(at))
            .copied()
            .unwrap_or("")
    };
    let hour12 = if parts.hour % 12 == 0 {
        12
    } else {
        parts.hour % 12
    };
    match element {
        Element::LongMonth => name(&MONTHS, parts.month - 1).to_owned(),
        Element::Month => name(&MONTHS, parts.month - 1).chars().take(3).collect(),
        Element::LongWeekday => name(&WEEKDAYS, parts.weekday).to_owned(),
        Element::Weekday => name(&WEEKDAYS, parts.weekday).chars().take(3).collect(),
        Element::NumberMonth => parts.month.to_string(),
        Element::ZeroMonth => format!("{:02}", parts.month),
        Element::Day => parts.day.to_string(),
        Element::SpaceDay => format!("{:2}", parts.day),
        Element::ZeroDay => format!("{:02}", parts.day),
        Element::SpaceYearDay => format!("{:3}", parts.year_day),
        Element::ZeroYearDay => format!("{:03}", parts.year_day),
        Element::Hour => format!("{:02}", parts.hour),
        Element::Hour12 => hour12.to_string(),
        Element::ZeroHour12 => format!("{hour12:02}"),
        Element::Minute => parts.minute.to_string(),
        Element::ZeroMinute => format!("{:02}", parts.minute),
        Element::Second => parts.second.to_string(),
        Element::ZeroSecond => format!("{:02}", parts.second),
        Element::LongYear if parts.year < 0 => format!("-{:04}", -parts.year),
        Element::LongYear => format!("{:04}", parts.year),
        Element::Year => format!("{:02}", parts.year.max(0) % 100),
        Element::UpperNoon => if parts.hour >= 12 { "PM" } else { "AM" }.to_owned(),
        Element::LowerNoon => if parts.hour >= 12 { "pm" } else { "am" }.to_owned(),
        Element::ZoneName => zone_name(time),
        Element::Offset(offset) => format_offset(time.zone_at().0, offset),
        Element::Fraction(digits, separator, trim) => {
            format_fraction(time.nanos, digits, separator, trim)
        }
    }
}

/// Returns the abbreviation of the zone, or its offset if it has none.
fn zone_name(time: &Time) -> String {
    let (seconds, name) = time.zone_at();
    if name.is_empty() {
        let minutes = (seconds / 60).abs();
        let sign = if seconds / 60 < 0 { '-' } else { '+' };
        return format!("{sign}{:02}{:02}", minutes / 60, minutes % 60);
    }
    name
}

fn format_offset(seconds: i64, form: Offset) -> String {
    if form.zulu && seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if seconds / 60 < 0 { '-' } else { '+' };
    let minutes = (seconds / 60).abs();
    let colon = if form.colon { ":" } else { "" };
    let part = |is_shown: bool, number: i64| {
        if is_shown {
            format!("{colon}{number:02}")
        } else {
            String::new()
        }
    };
    let hours = format!("{sign}{:02}", minutes / 60);
    [
        hours,
        part(form.minutes, minutes % 60),
        part(form.seconds, (seconds % 60).abs()),
    ]
    .concat()
}

fn format_fraction(nanos: i64, digits: usize, separator: u8, trim: bool) -> String {
    let nine_digits = format!("{nanos:09}");
    let fraction = &nine_digits[..digits.min(9)];
    let fraction = if trim {
        fraction.trim_end_matches('0')
    } else {
        fraction
    };
    if trim && fraction.is_empty() {
        String::new()
    } else {
        format!("{}{fraction}", char::from(separator))
    }
}
