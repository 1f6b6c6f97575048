//! Dates and durations.

use go::duration;

use super::cast::clamped_int;
use super::{Args, Function, Outcome, Type};
use crate::dates::{self, Time};
use crate::environment::Environment;
use crate::error::Fault;
use crate::value::{IntKind, Value};

const SECOND: i64 = 1_000_000_000;

const NOT_A_DURATION: &str = "the first argument must be a duration, such as -1.5h or 10m30s";

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("now", &[], |env, _| {
        Ok(Value::Time(Time::from_timestamp(env.now)))
    })
    .non_deterministic(),
    Function::new("date", &[Type::Text, Type::Any], |env, args| {
        in_zone(env, args, b"Local")
    })
    .non_deterministic(),
    Function::new(
        "date_in_zone",
        &[Type::Text, Type::Any, Type::Text],
        |env, args| in_zone(env, args, &args.text(2)),
    )
    .non_deterministic(),
    Function::new(
        "dateInZone",
        &[Type::Text, Type::Any, Type::Text],
        |env, args| in_zone(env, args, &args.text(2)),
    )
    .non_deterministic(),
    Function::new("htmlDate", &[Type::Any], |env, args| {
        Ok(html_date(env, args, b"Local"))
    })
    .non_deterministic(),
    Function::new("htmlDateInZone", &[Type::Any, Type::Text], |env, args| {
        Ok(html_date(env, args, &args.text(1)))
    })
    .non_deterministic(),
    Function::new("ago", &[Type::Any], |env, args| {
        let time = match args.value(0) {
            Value::Time(time) => time,
            value => unix_time(env, &value),
        };
        let elapsed = Time::from_timestamp(env.now).since(&time);
        Ok(Value::text(duration::text(dates::round_duration(
            elapsed, SECOND,
        ))))
    })
    .non_deterministic(),
    Function::new("dateModify", &[Type::Text, Type::Time], |_, args| {
        Ok(modify_date(args).unwrap_or(args.value(1)))
    }),
    Function::new("date_modify", &[Type::Text, Type::Time], |_, args| {
        Ok(modify_date(args).unwrap_or(args.value(1)))
    }),
    Function::new("mustDateModify", &[Type::Text, Type::Time], |_, args| {
        modify_date(args).ok_or(Fault::failed(NOT_A_DURATION))
    }),
    Function::new("must_date_modify", &[Type::Text, Type::Time], |_, args| {
        modify_date(args).ok_or(Fault::failed(NOT_A_DURATION))
    }),
    Function::new("toDate", &[Type::Text, Type::Text], |env, args| {
        charge_layout(env, &args.text(0))?;
        Ok(Value::Time(
            dates::parse(&args.text(0), &args.text(1)).unwrap_or_else(Time::zero),
        ))
    }),
    Function::new("mustToDate", &[Type::Text, Type::Text], |env, args| {
        charge_layout(env, &args.text(0))?;
        let time = dates::parse(&args.text(0), &args.text(1));
        Ok(Value::Time(time.ok_or(Fault::failed(
            "the string does not match the date layout, or the date does not exist",
        ))?))
    }),
    Function::new("unixEpoch", &[Type::Time], |_, args| match args.value(0) {
        Value::Time(time) => Ok(Value::text(time.seconds.to_string())),
        _ => Ok(Value::text("")),
    }),
    Function::new("duration", &[Type::Any], |_, args| {
        let seconds = match args.value(0) {
            Value::Text(text) => clamped_int(&text),
            Value::Int(int) if int.kind == IntKind::Int64 => int.bits,
            _ => 0,
        };
        Ok(Value::text(duration::text(seconds.wrapping_mul(SECOND))))
    }),
    Function::new("durationRound", &[Type::Any], duration_round).non_deterministic(),
];

/// Returns a date argument as sprig interprets it: a time, or seconds as an int or int64; anything else means
/// now.
fn to_time(env: &Environment<'_>, value: &Value) -> Time {
    match value {
        Value::Time(time) => time.clone(),
        value => unix_time(env, value),
    }
}

fn unix_time(env: &Environment<'_>, value: &Value) -> Time {
    match value {
        Value::Int(int) if matches!(int.kind, IntKind::Int | IntKind::Int64) => {
            Time::from_unix(int.bits)
        }
        _ => Time::from_timestamp(env.now),
    }
}

fn in_zone(env: &mut Environment<'_>, args: &Args<'_>, zone: &[u8]) -> Outcome {
    charge_layout(env, &args.text(0))?;
    let time = to_time(env, &args.value(1)).in_zone(zone);
    Ok(time.format(&args.text(0)).into())
}

/// Charges for formatting or parsing according to a layout: a single byte of a layout can stand for a part that takes
/// a long time to format.
pub(crate) fn charge_layout(env: &mut Environment<'_>, layout: &[u8]) -> Result<(), Fault> {
    env.gauge.charge_steps(layout.len() / 4)
}

fn html_date(env: &Environment<'_>, args: &Args<'_>, zone: &[u8]) -> Value {
    to_time(env, &args.value(0))
        .in_zone(zone)
        .format(b"2006-01-02")
        .into()
}

/// Parses a duration; `None` for one that is invalid or too long.
fn parse_duration(text: &[u8]) -> Option<i64> {
    duration::parse(std::str::from_utf8(text).ok()?)
}

fn modify_date(args: &Args<'_>) -> Option<Value> {
    let offset = parse_duration(&args.text(0))?;
    match args.value(1) {
        Value::Time(time) => Some(Value::Time(time.add(offset))),
        _ => None,
    }
}

/// Returns the duration without its sign, in the largest unit that it exceeds, rounded down, such as `3mo` or `2h`.
fn duration_round(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let nanos = match args.value(0) {
        Value::Text(text) => parse_duration(&text).unwrap_or(0),
        Value::Int(int) if int.kind == IntKind::Int64 => int.bits,
        Value::Time(time) => Time::from_timestamp(env.now).since(&time),
        _ => 0,
    };
    let magnitude = nanos.unsigned_abs();
    let hour = 3600 * SECOND.unsigned_abs();
    let units = [
        (hour * 24 * 365, "y"),
        (hour * 24 * 30, "mo"),
        (hour * 24, "d"),
        (hour, "h"),
        (hour / 60, "m"),
        (hour / 3600, "s"),
    ];
    let unit = units.iter().find(|(unit, _)| magnitude > *unit);
    Ok(Value::text(unit.map_or_else(
        || "0s".to_owned(),
        |(unit, name)| format!("{}{name}", magnitude / unit),
    )))
}
