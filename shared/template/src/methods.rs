//! Methods of times, durations and versions.

use crate::dates::{self, MONTHS, Time, WEEKDAYS, Zone};
use crate::error::Fault;
use crate::functions::{self, Args, Function, Outcome, Type};
use crate::semver::Version;
use crate::value::{Int, IntKind, Pointer, Value};

/// Returns the method of this value with this name. The value is the method's first argument.
pub(crate) fn find(value: &Value, name: &str) -> Option<&'static Function> {
    let table = match value {
        Value::Time(_) => TIME,
        Value::Int(int) if int.kind == IntKind::Duration => DURATION,
        Value::Int(int) if matches!(int.kind, IntKind::Month | IntKind::Weekday) => {
            MONTH_OR_WEEKDAY
        }
        Value::Version(_, Pointer::Yes) => {
            return VERSION_POINTER
                .iter()
                .chain(VERSION)
                .find(|method| method.name == name);
        }
        Value::Version(_, Pointer::No) => VERSION,
        _ => return None,
    };
    table.iter().find(|method| method.name == name)
}

impl Value {
    /// Returns the result of the value's `String` method; `None` if it has no such method.
    pub(crate) fn string_method(&self) -> Option<String> {
        match self {
            Self::Time(time) => Some(time.text()),
            Self::Version(version, _) => Some(version.to_string()),
            Self::Int(Int {
                kind: IntKind::Duration,
                bits,
            }) => Some(go::duration::text(*bits)),
            Self::Int(Int {
                kind: IntKind::Month,
                bits,
            }) => Some(
                name_at(&MONTHS, bits.wrapping_sub(1))
                    .unwrap_or_else(|| format!("%!Month({bits})")),
            ),
            Self::Int(Int {
                kind: IntKind::Weekday,
                bits,
            }) => Some(name_at(&WEEKDAYS, *bits).unwrap_or_else(|| format!("%!Weekday({bits})"))),
            _ => None,
        }
    }
}

fn name_at(names: &[&str], at: i64) -> Option<String> {
    usize::try_from(at)
        .ok()
        .and_then(|at| names.get(at))
        .map(|name| (*name).to_owned())
}

fn time(args: &Args<'_>, at: usize) -> Time {
    match args.value(at) {
        Value::Time(time) => time,
        _ => Time::zero(),
    }
}

fn version(args: &Args<'_>, at: usize) -> Result<std::rc::Rc<Version>, Fault> {
    match args.value(at) {
        Value::Version(version, _) => Ok(version),
        _ => Err(Fault::failed("nil is not a version")),
    }
}

fn new_int(kind: IntKind, bits: i64) -> Value {
    Value::Int(Int { kind, bits })
}

fn string(args: &Args<'_>) -> Value {
    Value::text(args.value(0).string_method().unwrap_or_default())
}

fn unix_nanos(args: &Args<'_>) -> i128 {
    let time = time(args, 0);
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

/// Converts to an int64, wrapping around as Go does.
#[allow(
    clippy::cast_possible_truncation,
    reason = "wrapping is Go's arithmetic"
)]
fn wrap_to_int64(number: i128) -> Value {
    Value::int64(number as i64)
}

static TIME: &[Function] = &[
    Function::new("String", &[], |_, args| Ok(string(args))),
    Function::new("GoString", &[], |_, args| {
        Ok(Value::text(time(args, 0).go_string()))
    }),
    Function::new("Format", &[Type::Text], |env, args| {
        functions::charge_layout(env, &args.text(1))?;
        Ok(time(args, 0).format(&args.text(1)).into())
    }),
    Function::new("Year", &[], |_, args| {
        Ok(Value::int(time(args, 0).parts().year))
    }),
    Function::new("Month", &[], |_, args| {
        Ok(new_int(IntKind::Month, time(args, 0).parts().month))
    }),
    Function::new("Day", &[], |_, args| {
        Ok(Value::int(time(args, 0).parts().day))
    }),
    Function::new("Hour", &[], |_, args| {
        Ok(Value::int(time(args, 0).parts().hour))
    }),
    Function::new("Minute", &[], |_, args| {
        Ok(Value::int(time(args, 0).parts().minute))
    }),
    Function::new("Second", &[], |_, args| {
        Ok(Value::int(time(args, 0).parts().second))
    }),
    Function::new("Nanosecond", &[], |_, args| {
        Ok(Value::int(time(args, 0).nanos))
    }),
    Function::new("YearDay", &[], |_, args| {
        Ok(Value::int(time(args, 0).parts().year_day))
    }),
    Function::new("Weekday", &[], |_, args| {
        Ok(new_int(IntKind::Weekday, time(args, 0).parts().weekday))
    }),
    Function::new("Unix", &[], |_, args| {
        Ok(Value::int64(time(args, 0).seconds))
    }),
    Function::new("UnixMilli", &[], |_, args| {
        Ok(wrap_to_int64(unix_nanos(args).div_euclid(1_000_000)))
    }),
    Function::new("UnixMicro", &[], |_, args| {
        Ok(wrap_to_int64(unix_nanos(args).div_euclid(1000)))
    }),
    Function::new("UnixNano", &[], |_, args| {
        Ok(wrap_to_int64(unix_nanos(args)))
    }),
    Function::new("IsZero", &[], |_, args| {
        Ok(Value::Bool(time(args, 0).order() == Time::zero().order()))
    }),
    Function::new("UTC", &[], |_, args| {
        Ok(Value::Time(Time {
            zone: Zone::Utc,
            ..time(args, 0)
        }))
    }),
    Function::new("Local", &[], |_, args| {
        Ok(Value::Time(Time {
            zone: Zone::Local,
            ..time(args, 0)
        }))
    }),
    Function::new("Add", &[Type::Duration], |_, args| {
        Ok(Value::Time(time(args, 0).add(args.int(1))))
    }),
    Function::new("Sub", &[Type::Time], |_, args| {
        Ok(new_int(
            IntKind::Duration,
            time(args, 0).since(&time(args, 1)),
        ))
    }),
    Function::new("AddDate", &[Type::Int, Type::Int, Type::Int], |_, args| {
        Ok(Value::Time(time(args, 0).add_date(
            args.int(1),
            args.int(2),
            args.int(3),
        )))
    }),
    Function::new("After", &[Type::Time], |_, args| {
        Ok(Value::Bool(time(args, 0).order() > time(args, 1).order()))
    }),
    Function::new("Before", &[Type::Time], |_, args| {
        Ok(Value::Bool(time(args, 0).order() < time(args, 1).order()))
    }),
    Function::new("Equal", &[Type::Time], |_, args| {
        Ok(Value::Bool(time(args, 0).order() == time(args, 1).order()))
    }),
    Function::new("Compare", &[Type::Time], |_, args| {
        Ok(Value::int(
            time(args, 0).order().cmp(&time(args, 1).order()) as i64,
        ))
    }),
];

static DURATION: &[Function] = &[
    Function::new("String", &[], |_, args| Ok(string(args))),
    Function::new("Nanoseconds", &[], |_, args| Ok(Value::int64(args.int(0)))),
    Function::new("Microseconds", &[], |_, args| {
        Ok(Value::int64(args.int(0) / 1000))
    }),
    Function::new("Milliseconds", &[], |_, args| {
        Ok(Value::int64(args.int(0) / 1_000_000))
    }),
    Function::new("Seconds", &[], |_, args| Ok(in_units(args, 1_000_000_000))),
    Function::new("Minutes", &[], |_, args| Ok(in_units(args, 60_000_000_000))),
    Function::new("Hours", &[], |_, args| {
        Ok(in_units(args, 3_600_000_000_000))
    }),
    Function::new("Abs", &[], |_, args| {
        Ok(new_int(IntKind::Duration, args.int(0).saturating_abs()))
    }),
    Function::new("Round", &[Type::Duration], |_, args| {
        Ok(new_int(
            IntKind::Duration,
            dates::round_duration(args.int(0), args.int(1)),
        ))
    }),
    Function::new("Truncate", &[Type::Duration], |_, args| {
        Ok(new_int(
            IntKind::Duration,
            dates::truncate_duration(args.int(0), args.int(1)),
        ))
    }),
];

/// Returns a duration in this unit as a float: whole units and the remainder are converted separately, as in Go.
fn in_units(args: &Args<'_>, unit: i64) -> Value {
    let nanos = args.int(0);
    let float = crate::number::int_to_float;
    Value::Float(float(nanos / unit) + float(nanos % unit) / float(unit))
}

static MONTH_OR_WEEKDAY: &[Function] = &[Function::new("String", &[], |_, args| Ok(string(args)))];

/// Methods of `*semver.Version` only.
static VERSION_POINTER: &[Function] = &[
    Function::new("Original", &[], |_, args| {
        Ok(Value::text(version(args, 0)?.original.as_str()))
    }),
    Function::new("Compare", &[Type::Version], |_, args| {
        Ok(Value::int(
            version(args, 0)?.compare(version(args, 1)?.as_ref()) as i64,
        ))
    }),
    Function::new("LessThan", &[Type::Version], |_, args| {
        Ok(Value::Bool(
            version(args, 0)?
                .compare(version(args, 1)?.as_ref())
                .is_lt(),
        ))
    }),
    Function::new("LessThanEqual", &[Type::Version], |_, args| {
        Ok(Value::Bool(
            version(args, 0)?
                .compare(version(args, 1)?.as_ref())
                .is_le(),
        ))
    }),
    Function::new("GreaterThan", &[Type::Version], |_, args| {
        Ok(Value::Bool(
            version(args, 0)?
                .compare(version(args, 1)?.as_ref())
                .is_gt(),
        ))
    }),
    Function::new("GreaterThanEqual", &[Type::Version], |_, args| {
        Ok(Value::Bool(
            version(args, 0)?
                .compare(version(args, 1)?.as_ref())
                .is_ge(),
        ))
    }),
    Function::new("Equal", &[Type::Version], |_, args| {
        Ok(Value::Bool(
            version(args, 0)?
                .compare(version(args, 1)?.as_ref())
                .is_eq(),
        ))
    }),
];

static VERSION: &[Function] = &[
    Function::new("String", &[], |_, args| Ok(string(args))),
    Function::new("Major", &[], |_, args| {
        Ok(Value::uint64(version(args, 0)?.major))
    }),
    Function::new("Minor", &[], |_, args| {
        Ok(Value::uint64(version(args, 0)?.minor))
    }),
    Function::new("Patch", &[], |_, args| {
        Ok(Value::uint64(version(args, 0)?.patch))
    }),
    Function::new("Prerelease", &[], |_, args| {
        Ok(Value::text(version(args, 0)?.prerelease.as_str()))
    }),
    Function::new("Metadata", &[], |_, args| {
        Ok(Value::text(version(args, 0)?.metadata.as_str()))
    }),
    Function::new("IncMajor", &[], |_, args| next(args, 0)),
    Function::new("IncMinor", &[], |_, args| next(args, 1)),
    Function::new("IncPatch", &[], |_, args| next(args, 2)),
];

fn next(args: &Args<'_>, part: usize) -> Outcome {
    Ok(Value::Version(
        version(args, 0)?.next(part).into(),
        Pointer::No,
    ))
}
