//! Instants with a time zone, and durations, as in Go's package time.

use std::sync::Arc;

use crate::value::Value;

mod calendar;
mod duration;
mod layout;
mod parsing;

pub(crate) use duration::{round_duration, truncate_duration};
pub(crate) use parsing::parse;

const SECOND: i64 = 1_000_000_000;

pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(crate) const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// An instant and the zone to display it in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Time {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub(crate) seconds: i64,
    /// Nanoseconds of the second, 0 to 999,999,999.
    pub(crate) nanos: i64,
    pub(crate) zone: Zone,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Zone {
    Utc,
    /// The machine's zone: UTC, as in Bitnami's container.
    Local,
    /// Seconds east of Greenwich, and the abbreviation, which may be empty.
    Fixed(i64, Arc<str>),
    Named(jiff::tz::TimeZone),
}

/// Date, time of day and weekday of a time in its zone.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) year: i64,
    /// From 1 to 12.
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    /// 0 is Sunday.
    pub(crate) weekday: i64,
    /// From 1 to 366.
    pub(crate) year_day: i64,
}

impl Time {
    /// Returns Go's zero time, 0001-01-01 00:00:00 UTC.
    pub(crate) fn zero() -> Self {
        Self {
            seconds: -62_135_596_800,
            nanos: 0,
            zone: Zone::Utc,
        }
    }

    pub(crate) fn from_unix(seconds: i64) -> Self {
        Self {
            seconds,
            nanos: 0,
            zone: Zone::Local,
        }
    }

    pub(crate) fn from_timestamp(now: jiff::Timestamp) -> Self {
        let nanos = i64::from(now.subsec_nanosecond());
        Self {
            seconds: now.as_second() + nanos.div_euclid(SECOND),
            nanos: nanos.rem_euclid(SECOND),
            zone: Zone::Local,
        }
    }

    /// Returns the zone's offset in seconds and its abbreviation at this instant.
    pub(crate) fn zone_at(&self) -> (i64, String) {
        match &self.zone {
            Zone::Utc | Zone::Local => (0, "UTC".to_owned()),
            Zone::Fixed(offset, name) => (*offset, name.to_string()),
            Zone::Named(zone) => match jiff::Timestamp::from_second(self.seconds) {
                Ok(at) => {
                    let info = zone.to_offset_info(at);
                    (
                        i64::from(info.offset().seconds()),
                        info.abbreviation().to_owned(),
                    )
                }
                Err(_) => (0, "UTC".to_owned()),
            },
        }
    }

    pub(crate) fn parts(&self) -> Parts {
        let local = self.seconds.saturating_add(self.zone_at().0);
        let (days, rest) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = calendar::civil(days);
        Parts {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7),
            year_day: days - calendar::days_since_epoch(year, 1, 1) + 1,
        }
    }

    /// Converts to the zone with an IANA name, or to UTC if the name is unknown.
    pub(crate) fn in_zone(&self, name: &[u8]) -> Self {
        Self {
            zone: zone(name),
            ..self.clone()
        }
    }

    pub(crate) fn add(&self, nanos: i64) -> Self {
        let total = self.nanos + nanos.rem_euclid(SECOND);
        let seconds = self
            .seconds
            .wrapping_add(nanos.div_euclid(SECOND))
            .wrapping_add(total / SECOND);
        Self {
            seconds,
            nanos: total % SECOND,
            zone: self.zone.clone(),
        }
    }

    /// Returns the nanoseconds since another time, clamped to the range of a duration.
    pub(crate) fn since(&self, other: &Self) -> i64 {
        let seconds = i128::from(self.seconds) - i128::from(other.seconds);
        let nanos = seconds * i128::from(SECOND) + i128::from(self.nanos - other.nanos);
        i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
    }

    pub(crate) fn order(&self) -> (i64, i64) {
        (self.seconds, self.nanos)
    }

    /// Returns the same time of day on another date; days and months out of range roll over.
    pub(crate) fn add_date(&self, years: i64, months: i64, days: i64) -> Self {
        let parts = self.parts();
        let month = parts.month.wrapping_add(months);
        let day = parts.day.wrapping_add(days);
        let date = calendar::days_since_epoch(parts.year.wrapping_add(years), month, 1)
            .wrapping_add(day)
            .wrapping_sub(1);
        let clock = parts.hour * 3600 + parts.minute * 60 + parts.second;
        let seconds = date.wrapping_mul(86_400).wrapping_add(clock);
        let guess = Self {
            seconds: seconds.wrapping_sub(self.zone_at().0),
            ..self.clone()
        };
        Self {
            seconds: seconds.wrapping_sub(guess.zone_at().0),
            ..self.clone()
        }
    }

    pub(crate) fn format(&self, layout: &[u8]) -> Vec<u8> {
        layout::format(self, layout)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.format(b"2006-01-02 15:04:05.999999999 -0700 MST"))
            .unwrap_or_default()
    }

    /// Formats as RFC 3339 with nanoseconds; `None` unless the year is from 0 to 9999.
    pub(crate) fn json(&self) -> Option<String> {
        (0..=9999).contains(&self.parts().year).then_some(())?;
        String::from_utf8(self.format(b"2006-01-02T15:04:05.999999999Z07:00")).ok()
    }

    /// Formats as `%#v` does.
    pub(crate) fn go_string(&self) -> String {
        let parts = self.parts();
        let month = usize::try_from(parts.month - 1)
            .ok()
            .and_then(|at| MONTHS.get(at))
            .unwrap_or(&"January");
        let zone = match &self.zone {
            Zone::Utc => "time.UTC".to_owned(),
            Zone::Local => "time.Local".to_owned(),
            Zone::Fixed(_, name) => format!("time.Location({name:?})"),
            Zone::Named(zone) => format!("time.Location({:?})", zone.iana_name().unwrap_or("")),
        };
        let Parts {
            year,
            day,
            hour,
            minute,
            second,
            ..
        } = parts;
        format!(
            "time.Date({year}, time.{month}, {day}, {hour}, {minute}, {second}, {}, {zone})",
            self.nanos
        )
    }

    /// Returns the fields that verbs such as `%d`, which do not call the `String` method, print. Go prints the
    /// unexported fields of `time.Time`; this crate prints the Unix time.
    pub(crate) fn fields(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("seconds", Value::int64(self.seconds)),
            ("nanos", Value::int64(self.nanos)),
        ]
    }
}

/// Returns the zone with an IANA name, from the compiled-in database; UTC if the name is unknown.
fn zone(name: &[u8]) -> Zone {
    match name {
        b"" | b"UTC" => return Zone::Utc,
        b"Local" => return Zone::Local,
        _ => {}
    }
    let named_zone = std::str::from_utf8(name).ok().and_then(|name| {
        let zone = jiff::tz::TimeZoneDatabase::bundled().get(name).ok()?;
        (zone.iana_name() == Some(name)).then_some(zone)
    });
    named_zone.map_or(Zone::Utc, Zone::Named)
}
