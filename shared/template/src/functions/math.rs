//! Arithmetic, rounding and ranges of numbers.

use super::cast::{to_float, to_int};
use super::decimal::Decimal;
use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::Fault;
use crate::value::{List, ListKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("add", &[], |_, args| {
        Ok(fold(0, args.rest(0), i64::wrapping_add))
    })
    .rest(Type::Any),
    Function::new("add1", &[Type::Any], |_, args| {
        Ok(Value::int64(to_int(&args.value(0)).wrapping_add(1)))
    }),
    Function::new("sub", &[Type::Any, Type::Any], |_, args| {
        Ok(fold(
            to_int(&args.value(0)),
            args.rest(1),
            i64::wrapping_sub,
        ))
    }),
    Function::new("mul", &[Type::Any], |_, args| {
        Ok(fold(
            to_int(&args.value(0)),
            args.rest(1),
            i64::wrapping_mul,
        ))
    })
    .rest(Type::Any),
    Function::new("div", &[Type::Any, Type::Any], |_, args| {
        divide(args, i64::wrapping_div)
    }),
    Function::new("mod", &[Type::Any, Type::Any], |_, args| {
        divide(args, i64::wrapping_rem)
    }),
    Function::new("max", &[Type::Any], |_, args| {
        Ok(fold(to_int(&args.value(0)), args.rest(1), i64::max))
    })
    .rest(Type::Any),
    Function::new("biggest", &[Type::Any], |_, args| {
        Ok(fold(to_int(&args.value(0)), args.rest(1), i64::max))
    })
    .rest(Type::Any),
    Function::new("min", &[Type::Any], |_, args| {
        Ok(fold(to_int(&args.value(0)), args.rest(1), i64::min))
    })
    .rest(Type::Any),
    Function::new("maxf", &[Type::Any], |_, args| {
        Ok(fold_floats(args, max_float))
    })
    .rest(Type::Any),
    Function::new("minf", &[Type::Any], |_, args| {
        Ok(fold_floats(args, min_float))
    })
    .rest(Type::Any),
    Function::new("addf", &[], |env, args| {
        fold_decimals(env, 0.0, args.rest(0), |a, b| Ok(a.add(b)))
    })
    .rest(Type::Any),
    Function::new("add1f", &[Type::Any], |env, args| {
        fold_decimals(env, to_float(&args.value(0)), &[Value::int(1)], |a, b| {
            Ok(a.add(b))
        })
    }),
    Function::new("subf", &[Type::Any], |env, args| {
        fold_decimals(env, to_float(&args.value(0)), args.rest(1), |a, b| {
            Ok(a.sub(b))
        })
    })
    .rest(Type::Any),
    Function::new("mulf", &[Type::Any], |env, args| {
        fold_decimals(env, to_float(&args.value(0)), args.rest(1), |a, b| {
            Ok(a.mul(b))
        })
    })
    .rest(Type::Any),
    Function::new("divf", &[Type::Any], |env, args| {
        fold_decimals(env, to_float(&args.value(0)), args.rest(1), Decimal::div)
    })
    .rest(Type::Any),
    Function::new("floor", &[Type::Any], |_, args| {
        Ok(Value::Float(to_float(&args.value(0)).floor()))
    }),
    Function::new("ceil", &[Type::Any], |_, args| {
        Ok(Value::Float(to_float(&args.value(0)).ceil()))
    }),
    Function::new("round", &[Type::Any, Type::Int], round).rest(Type::Float),
    Function::new("until", &[Type::Int], |env, args| {
        let count = args.int(0);
        range(env, 0, count, if count < 0 { -1 } else { 1 })
    }),
    Function::new(
        "untilStep",
        &[Type::Int, Type::Int, Type::Int],
        |env, args| range(env, args.int(0), args.int(1), args.int(2)),
    ),
    Function::new("seq", &[], seq).rest(Type::Int),
];

fn fold(first: i64, others: &[Value], join: fn(i64, i64) -> i64) -> Value {
    Value::int64(others.iter().map(to_int).fold(first, join))
}

fn divide(args: &Args<'_>, join: fn(i64, i64) -> i64) -> Outcome {
    match to_int(&args.value(1)) {
        0 => Err(Fault::failed("division by zero")),
        divisor => Ok(Value::int64(join(to_int(&args.value(0)), divisor))),
    }
}

fn fold_floats(args: &Args<'_>, join: fn(f64, f64) -> f64) -> Value {
    Value::Float(
        args.rest(1)
            .iter()
            .map(to_float)
            .fold(to_float(&args.value(0)), join),
    )
}

/// Reproduces math.Max: infinity first, then NaN, and +0 above -0.
fn max_float(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else {
        a.max(b)
    }
}

fn min_float(a: f64, b: f64) -> f64 {
    -max_float(-a, -b)
}

fn fold_decimals(
    env: &mut Environment<'_>,
    first: f64,
    others: &[Value],
    join: fn(&Decimal, &Decimal) -> Result<Decimal, Fault>,
) -> Outcome {
    let mut result = Decimal::from_float(first)?;
    for other in others {
        result = join(&result, &Decimal::from_float(to_float(other))?)?;
        env.gauge.charge_steps(result.cost())?;
    }
    Ok(Value::Float(result.to_float()))
}

/// Rounds at a decimal place. Rounds up from a fraction of 0.5, or of the third argument.
fn round(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let round_up_from = if args.0.len() > 2 { args.float(2) } else { 0.5 };
    let power = power_of_ten(args.int(1));
    let shifted = power * to_float(&args.value(0));
    let fraction = if shifted.is_finite() {
        shifted.fract()
    } else {
        f64::NAN
    };
    let rounded = if fraction >= round_up_from {
        shifted.ceil()
    } else {
        shifted.floor()
    };
    Ok(Value::Float(rounded / power))
}

/// Reproduces math.Pow(10, places) by the same squarings, so that the last bit agrees.
fn power_of_ten(places: i64) -> f64 {
    let (mut factor, mut factor_exponent) = (0.625_f64, 4_i64);
    let (mut power, mut exponent) = (1.0_f64, 0_i64);
    let mut bits = places.unsigned_abs();
    while bits != 0 {
        if factor_exponent.abs() > 1 << 12 {
            exponent += factor_exponent;
            break;
        }
        if bits & 1 == 1 {
            power *= factor;
            exponent += factor_exponent;
        }
        factor *= factor;
        factor_exponent *= 2;
        if factor < 0.5 {
            factor += factor;
            factor_exponent -= 1;
        }
        bits >>= 1;
    }
    if places < 0 {
        power = 1.0 / power;
        exponent = -exponent;
    }
    let exponent = i32::try_from(exponent.clamp(-3000, 3000)).unwrap_or(0);
    let half = exponent / 2;
    power * 2_f64.powi(half) * 2_f64.powi(exponent - half)
}

fn range(env: &mut Environment<'_>, start: i64, end: i64, step: i64) -> Outcome {
    let numbers = numbers(env, start, end, step)?;
    Ok(List::new(ListKind::Int, numbers.into_iter().map(Value::int).collect())?.into())
}

fn numbers(env: &mut Environment<'_>, start: i64, end: i64, step: i64) -> Result<Vec<i64>, Fault> {
    let mut numbers = Vec::new();
    let up = end >= start;
    if up && step <= 0 || !up && step >= 0 {
        return Ok(numbers);
    }
    let distance = (i128::from(end) - i128::from(start)).unsigned_abs();
    let count = distance.div_ceil(u128::from(step.unsigned_abs()));
    env.gauge.charge_memory(
        usize::try_from(count)
            .unwrap_or(usize::MAX)
            .saturating_mul(32),
    )?;
    env.gauge
        .charge_steps(usize::try_from(count).unwrap_or(usize::MAX))?;
    let mut next = start;
    for _ in 0..count {
        numbers.push(next);
        next = next.wrapping_add(step);
    }
    Ok(numbers)
}

/// Returns the numbers from start to end, inclusive, separated by spaces. Counts down to a smaller end; with a
/// smaller end and a positive step, the result is empty.
fn seq(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let (start, step, end) = match args.0.len() {
        1 => (1, None, args.int(0)),
        2 => (args.int(0), None, args.int(1)),
        3 => (args.int(0), Some(args.int(1)), args.int(2)),
        _ => return Ok(Value::text("")),
    };
    let direction = if end < start { -1 } else { 1 };
    if direction < 0 && step.is_some_and(|step| step > 0) {
        return Ok(Value::text(""));
    }
    let numbers = numbers(
        env,
        start,
        end.wrapping_add(direction),
        step.unwrap_or(direction),
    )?;
    let mut out = env.writer();
    for (at, number) in numbers.iter().enumerate() {
        if at > 0 {
            out.byte(b' ')?;
        }
        out.str(&number.to_string())?;
    }
    Ok(out.finish().into())
}
