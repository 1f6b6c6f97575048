//! Parses times according to a Go layout.

use super::layout::{self, Element, Offset};
use super::{MONTHS, Time, WEEKDAYS, Zone, calendar};

/// The fields read so far; `None`, zero, false or empty for those that were not read.
#[derive(Default)]
struct ParsedFields {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
    afternoon: Option<bool>,
    utc: bool,
    offset: Option<i64>,
    zone_name: String,
}

/// Parses a time, in the local zone if the string names none. Returns `None` if the string does not match the
/// layout, or the date does not exist.
pub(crate) fn parse(layout: &[u8], text: &[u8]) -> Option<Time> {
    let mut parsed = ParsedFields::default();
    let (mut layout, mut rest) = (layout, text);
    loop {
        let (literal, element, after) = layout::next(layout);
        rest = skip(rest, literal)?;
        let Some(element) = element else {
            return if rest.is_empty() {
                parsed.finish()
            } else {
                None
            };
        };
        layout = after;
        rest = parsed.element(element, rest, layout)?;
    }
}

/// Skips literal text, which must match. Runs of spaces match each other regardless of their length, and match the end
/// of the string.
fn skip<'t>(text: &'t [u8], literal: &[u8]) -> Option<&'t [u8]> {
    let (mut text, mut literal) = (text, literal);
    while let Some(&first) = literal.first() {
        if first == b' ' {
            if text.first().is_some_and(|&byte| byte != b' ') {
                return None;
            }
            literal = literal.trim_leading_byte(b' ');
            text = text.trim_leading_byte(b' ');
            continue;
        }
        text = text.strip_prefix(&[first])?;
        literal = &literal[1..];
    }
    Some(text)
}

trait TrimLeadingByte {
    fn trim_leading_byte(&self, byte: u8) -> &Self;
}

impl TrimLeadingByte for [u8] {
    fn trim_leading_byte(&self, byte: u8) -> &Self {
        let count = self.iter().take_while(|&&first| first == byte).count();
        &self[count..]
    }
}

fn digit(text: &[u8], at: usize) -> Option<i64> {
    text.get(at)
        .filter(|byte| byte.is_ascii_digit())
        .map(|byte| i64::from(byte - b'0'))
}

/// Reads one or two digits; exactly two if `fixed`.
fn two_digits(text: &[u8], fixed: bool) -> Option<(i64, &[u8])> {
    let first = digit(text, 0)?;
    match digit(text, 1) {
        Some(second) => Some((first * 10 + second, &text[2..])),
        None if fixed => None,
        None => Some((first, &text[1..])),
    }
}

fn check_below(number: (i64, &[u8]), limit: i64) -> Option<(i64, &[u8])> {
    (number.0 < limit).then_some(number)
}

fn parse_name<'t>(names: &[&str], len: Option<usize>, text: &'t [u8]) -> Option<(i64, &'t [u8])> {
    names.iter().zip(0..).find_map(|(name, at)| {
        let name = &name[..len.unwrap_or(name.len())];
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name.as_bytes())
            .then(|| (at, &text[name.len()..]))
    })
}

impl ParsedFields {
    /// Reads one element and returns the rest of the string. `layout` is the layout after the element.
    fn element<'t>(&mut self, element: Element, text: &'t [u8], layout: &[u8]) -> Option<&'t [u8]> {
        let rest = match element {
            Element::Year => {
                let (year, rest) = two_digits(text, true)?;
                self.year = if year >= 69 { year + 1900 } else { year + 2000 };
                return Some(rest);
            }
            Element::LongYear => {
                let year = (0..4).try_fold(0, |year, at| Some(year * 10 + digit(text, at)?))?;
                self.year = year;
                return Some(&text[4..]);
            }
            Element::Month | Element::LongMonth => {
                let (at, rest) =
                    parse_name(&MONTHS, (element == Element::Month).then_some(3), text)?;
                self.month = Some(at + 1);
                rest
            }
            Element::NumberMonth | Element::ZeroMonth => {
                let (month, rest) = two_digits(text, element == Element::ZeroMonth)?;
                self.month = Some(month).filter(|month| (1..=12).contains(month));
                self.month?;
                rest
            }
            Element::Weekday | Element::LongWeekday => {
                parse_name(&WEEKDAYS, (element == Element::Weekday).then_some(3), text)?.1
            }
            Element::Day | Element::SpaceDay | Element::ZeroDay => {
                let space = element == Element::SpaceDay;
                let text = if space {
                    text.strip_prefix(b" ").unwrap_or(text)
                } else {
                    text
                };
                let (day, rest) = two_digits(text, element == Element::ZeroDay)?;
                self.day = Some(day);
                rest
            }
            Element::SpaceYearDay | Element::ZeroYearDay => self.year_day(element, text)?,
            Element::Hour => self.set_hour(check_below(two_digits(text, false)?, 24)?),
            Element::Hour12 | Element::ZeroHour12 => self.set_hour(check_below(
                two_digits(text, element == Element::ZeroHour12)?,
                13,
            )?),
            Element::Minute | Element::ZeroMinute => {
                let (minute, rest) =
                    check_below(two_digits(text, element == Element::ZeroMinute)?, 60)?;
                self.minute = minute;
                rest
            }
            Element::Second | Element::ZeroSecond => {
                let (second, rest) =
                    check_below(two_digits(text, element == Element::ZeroSecond)?, 60)?;
                self.second = second;
                self.extra_fraction(rest, layout)?
            }
            Element::UpperNoon => self.noon(text, [b"AM", b"PM"])?,
            Element::LowerNoon => self.noon(text, [b"am", b"pm"])?,
            Element::Offset(form) => self.offset(form, text)?,
            Element::ZoneName => self.zone_name(text)?,
            Element::Fraction(digits, _, false) => self.fraction(text, digits)?,
            Element::Fraction(_, _, true) => match fraction_digits(text) {
                0 => text,
                digits => self.fraction(text, digits)?,
            },
        };
        Some(rest)
    }

    fn set_hour<'t>(&mut self, (hour, rest): (i64, &'t [u8])) -> &'t [u8] {
        self.hour = hour;
        rest
    }

    fn year_day<'t>(&mut self, element: Element, text: &'t [u8]) -> Option<&'t [u8]> {
        let mut text = text;
        if element == Element::SpaceYearDay {
            for _ in 0..2 {
                text = text.strip_prefix(b" ").unwrap_or(text);
            }
        }
        let count = (0..3).take_while(|&at| digit(text, at).is_some()).count();
        if count == 0 || element == Element::ZeroYearDay && count != 3 {
            return None;
        }
        self.year_day = (0..count).try_fold(0, |day, at| Some(day * 10 + digit(text, at)?));
        Some(&text[count..])
    }

    /// Reads a fraction of a second, which may follow even if the layout has none.
    fn extra_fraction<'t>(&mut self, text: &'t [u8], layout: &[u8]) -> Option<&'t [u8]> {
        let digits = fraction_digits(text);
        if digits == 0 || matches!(layout::next(layout).1, Some(Element::Fraction(..))) {
            return Some(text);
        }
        self.fraction(text, digits)
    }

    fn fraction<'t>(&mut self, text: &'t [u8], digits: usize) -> Option<&'t [u8]> {
        if !matches!(text.first(), Some(b'.' | b',')) || text.len() < digits + 1 {
            return None;
        }
        let mut nanos = 0;
        for at in 0..9 {
            nanos = nanos * 10 + if at < digits { digit(text, at + 1)? } else { 0 };
        }
        self.nanos = nanos;
        Some(&text[digits + 1..])
    }

    fn noon<'t>(&mut self, text: &'t [u8], [before, after]: [&[u8]; 2]) -> Option<&'t [u8]> {
        let head = text.get(..2)?;
        if head != before && head != after {
            return None;
        }
        self.afternoon = Some(head == after);
        Some(&text[2..])
    }

    fn offset<'t>(&mut self, form: Offset, text: &'t [u8]) -> Option<&'t [u8]> {
        if form.zulu && text.first() == Some(&b'Z') {
            self.utc = true;
            return Some(&text[1..]);
        }
        let sign = match text.first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (hours, mut rest) = two_digits(&text[1..], true)?;
        let mut seconds = hours * 3600;
        for (is_present, max, unit) in [(form.minutes, 60, 60), (form.seconds, 60, 1)] {
            if is_present {
                rest = if form.colon {
                    rest.strip_prefix(b":")?
                } else {
                    rest
                };
                let (number, after) = two_digits(rest, true)?;
                (number <= max).then_some(())?;
                seconds += number * unit;
                rest = after;
            }
        }
        (hours <= 24).then_some(())?;
        self.offset = Some(sign * seconds);
        Some(rest)
    }

    fn zone_name<'t>(&mut self, text: &'t [u8]) -> Option<&'t [u8]> {
        if let Some(rest) = text.strip_prefix(b"UTC") {
            self.utc = true;
            return Some(rest);
        }
        let len = abbreviation(text)?;
        std::str::from_utf8(&text[..len])
            .ok()?
            .clone_into(&mut self.zone_name);
        Some(&text[len..])
    }

    fn finish(mut self) -> Option<Time> {
        match self.afternoon {
            Some(true) if self.hour < 12 => self.hour += 12,
            Some(false) if self.hour == 12 => self.hour = 0,
            _ => {}
        }
        if let Some(year_day) = self.year_day {
            let max = if calendar::is_leap(self.year) {
                366
            } else {
                365
            };
            (1..=max).contains(&year_day).then_some(())?;
            let (_, month, day) =
                calendar::civil(calendar::days_since_epoch(self.year, 1, 1) + year_day - 1);
            let is_consistent = self.month.is_none_or(|read| read == month)
                && self.day.is_none_or(|read| read == day);
            is_consistent.then_some(())?;
            (self.month, self.day) = (Some(month), Some(day));
        }
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        (1..=calendar::days_in(self.year, month))
            .contains(&day)
            .then_some(())?;
        let days = calendar::days_since_epoch(self.year, month, day);
        let seconds = days * 86_400 + self.hour * 3600 + self.minute * 60 + self.second;
        Some(self.in_zone(seconds))
    }

    fn in_zone(self, seconds: i64) -> Time {
        let nanos = self.nanos;
        let new_time = |seconds, zone| Time {
            seconds,
            nanos,
            zone,
        };
        if self.utc {
            return new_time(seconds, Zone::Utc);
        }
        if let Some(offset) = self.offset {
            let local = offset == 0 && matches!(&*self.zone_name, "" | "UTC");
            let zone = if local {
                Zone::Local
            } else {
                Zone::Fixed(offset, self.zone_name.into())
            };
            return new_time(seconds - offset, zone);
        }
        if self.zone_name.is_empty() {
            return new_time(seconds, Zone::Local);
        }
        let hours: i64 = self
            .zone_name
            .strip_prefix("GMT")
            .and_then(|hours| hours.parse().ok())
            .unwrap_or(0);
        // Go shifts the time here: the parsed time counts as UTC.
        new_time(seconds, Zone::Fixed(hours * 3600, self.zone_name.into()))
    }
}

/// Returns the number of digits after a leading point or comma; zero if there is neither.
fn fraction_digits(text: &[u8]) -> usize {
    match text {
        [b'.' | b',', rest @ ..] => rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    }
}

/// Returns the length of the zone abbreviation at the start of a string; `None` if there is none.
fn abbreviation(text: &[u8]) -> Option<usize> {
    if text.len() < 3 {
        return None;
    }
    if text.starts_with(b"ChST") || text.starts_with(b"MeST") {
        return Some(4);
    }
    if text.starts_with(b"GMT") {
        return Some(3 + signed_hours(&text[3..]));
    }
    if matches!(text[0], b'+' | b'-') {
        return Some(signed_hours(text)).filter(|&len| len > 0);
    }
    match text
        .iter()
        .take(6)
        .take_while(|byte| byte.is_ascii_uppercase())
        .count()
    {
        5 if text[4] == b'T' => Some(5),
        4 if text[3] == b'T' || text.starts_with(b"WITA") => Some(4),
        3 => Some(3),
        _ => None,
    }
}

/// Returns the length of a sign and hours up to 23, or 0.
fn signed_hours(text: &[u8]) -> usize {
    if !matches!(text.first(), Some(b'+' | b'-')) {
        return 0;
    }
    let digits = text[1..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let hours = text[1..=digits].iter().try_fold(0_u64, |hours, byte| {
        hours.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    });
    match hours {
        Some(0..=23) if digits > 0 => digits + 1,
        _ => 0,
    }
}
