//! Equality and order of values: Go's template comparison, and `reflect.DeepEqual`.

use crate::budget::Gauge;
use crate::error::{Fault, Limit};
use crate::value::{Int, Pointer, Value};

/// Kinds of values. `eq` and `lt` compare only values of the same kind, except that `eq` is false for a nil and a value
/// of another kind.
#[derive(PartialEq, Eq)]
enum BasicKind {
    Bool,
    Complex,
    Int,
    Float,
    Text,
    Other,
}

fn basic_kind(value: &Value) -> BasicKind {
    match value {
        Value::Bool(_) => BasicKind::Bool,
        Value::Complex(..) => BasicKind::Complex,
        Value::Int(_) => BasicKind::Int,
        Value::Float(_) => BasicKind::Float,
        Value::Text(_) => BasicKind::Text,
        _ => BasicKind::Other,
    }
}

const INCOMPARABLE: Fault = Fault {
    kind: crate::error::ErrorKind::Failed,
    reason: "values of these types cannot be compared",
};

/// Returns whether the first value equals any of the others. Fails if a value before the match cannot be compared with
/// the first.
pub(super) fn equal(first: &Value, others: &[Value]) -> Result<bool, Fault> {
    if others.is_empty() {
        return Err(Fault::failed(
            "a second value is missing; a comparison needs two",
        ));
    }
    for other in others {
        if equal_pair(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[allow(clippy::float_cmp, reason = "the template asks for exact equality")]
fn equal_pair(a: &Value, b: &Value) -> Result<bool, Fault> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a.to_i128() == b.to_i128()),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Complex(ar, ai), Value::Complex(br, bi)) => Ok(ar == br && ai == bi),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        _ if basic_kind(a) != basic_kind(b) => {
            if a.is_nil() || b.is_nil() {
                Ok(false)
            } else {
                Err(INCOMPARABLE)
            }
        }
        _ => equal_other_types(a, b),
    }
}

/// Compares two values that are neither booleans, numbers nor strings.
fn equal_other_types(a: &Value, b: &Value) -> Result<bool, Fault> {
    if !a.is_nil() && !b.is_nil() && a.kind_name() != b.kind_name() {
        return Err(INCOMPARABLE);
    }
    if is_nil_in_go(a) || is_nil_in_go(b) {
        return Ok(is_nil_in_go(a) == is_nil_in_go(b));
    }
    match (a, b) {
        (Value::Time(a), Value::Time(b)) => Ok(a == b),
        (Value::Version(a, Pointer::Yes), Value::Version(b, Pointer::Yes)) => {
            Ok(std::rc::Rc::ptr_eq(a, b))
        }
        (Value::Version(a, _), Value::Version(b, _)) => Ok(a == b),
        (Value::Certificate(a), Value::Certificate(b)) => Ok(a == b),
        (_, Value::List(_) | Value::Map(_)) => Err(INCOMPARABLE),
        _ => Ok(false),
    }
}

fn is_nil_in_go(value: &Value) -> bool {
    match value {
        Value::Missing | Value::Nil => true,
        Value::List(list) => list.nil,
        Value::Map(map) => map.nil,
        _ => false,
    }
}

pub(super) fn less(a: &Value, b: &Value) -> Result<bool, Fault> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.to_i128() < b.to_i128()),
        (Value::Float(a), Value::Float(b)) => Ok(a < b),
        (Value::Text(a), Value::Text(b)) => Ok(a < b),
        _ => Err(INCOMPARABLE),
    }
}

/// Returns whether type and content are the same at all levels. Missing and nil are equal. Fails for values nested
/// deeper than 100.
pub(crate) fn deep_equal(a: &Value, b: &Value, gauge: &mut Gauge) -> Result<bool, Fault> {
    deep_equal_at(a, b, gauge, 0)
}

#[allow(clippy::float_cmp, reason = "Go compares exactly")]
fn deep_equal_at(a: &Value, b: &Value, gauge: &mut Gauge, depth: usize) -> Result<bool, Fault> {
    gauge.charge_steps(a.cost().min(b.cost()))?;
    if depth > 100 {
        return Err(Fault::limit(Limit::Depth));
    }
    Ok(match (a, b) {
        (Value::Missing | Value::Nil, Value::Missing | Value::Nil) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => is_same_int(*a, *b),
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Complex(ar, ai), Value::Complex(br, bi)) => ar == br && ai == bi,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Version(a, ap), Value::Version(b, bp)) => ap == bp && a == b,
        (Value::Certificate(a), Value::Certificate(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            if a.kind != b.kind || a.nil != b.nil || a.len() != b.len() {
                return Ok(false);
            }
            if a.ptr_eq(b) {
                return Ok(true);
            }
            for (a, b) in a.view().iter().zip(&*b.view()) {
                if !deep_equal_at(a, b, gauge, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.kind != b.kind || a.nil != b.nil || a.len() != b.len() {
                return Ok(false);
            }
            if a.ptr_eq(b) {
                return Ok(true);
            }
            for (key, a) in a.entries().iter() {
                gauge.charge_bytes(key.len())?;
                match b.get(key) {
                    Some(b) if deep_equal_at(a, &b, gauge, depth + 1)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        _ => false,
    })
}

fn is_same_int(a: Int, b: Int) -> bool {
    a == b
}
