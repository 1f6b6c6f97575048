//! Default values and type checks.

use super::{Args, Function, Outcome, Type, deep_equal};
use crate::environment::Environment;
use crate::error::{Fault, Limit};
use crate::semver::Version;
use crate::value::{Entries, List, Map, MapKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("default", &[Type::Any], |_, args| {
        match args.rest(1).first() {
            Some(value) if !is_empty(value)? => Ok(value.clone()),
            _ => Ok(args.value(0)),
        }
    })
    .rest(Type::Any),
    Function::new("empty", &[Type::Any], |_, args| {
        Ok(Value::Bool(is_empty(&args.value(0))?))
    }),
    Function::new("coalesce", &[], |_, args| {
        Ok(first_nonempty(args.rest(0))?.unwrap_or(Value::Nil))
    })
    .rest(Type::Any),
    Function::new("any", &[], |_, args| {
        Ok(Value::Bool(first_nonempty(args.rest(0))?.is_some()))
    })
    .rest(Type::Any),
    Function::new("all", &[], |_, args| {
        for value in args.rest(0) {
            if is_empty(value)? {
                return Ok(Value::Bool(false));
            }
        }
        Ok(Value::Bool(true))
    })
    .rest(Type::Any),
    Function::new("ternary", &[Type::Any, Type::Any, Type::Bool], |_, args| {
        Ok(args.value(usize::from(!args.bool(2))))
    }),
    Function::new("fail", &[Type::Text], |_, _| {
        Err(Fault::failed(
            "the template called fail; its message is not shown because it may contain a secret",
        ))
    }),
    Function::new("typeOf", &[Type::Any], |_, args| {
        Ok(Value::text(args.value(0).type_name()))
    }),
    Function::new("typeIs", &[Type::Text, Type::Any], |_, args| {
        Ok(Value::Bool(
            *args.text(0) == *args.value(1).type_name().as_bytes(),
        ))
    }),
    Function::new("typeIsLike", &[Type::Text, Type::Any], |_, args| {
        let (expected, name) = (args.text(0), args.value(1).type_name().as_bytes());
        Ok(Value::Bool(
            *expected == *name || name.strip_prefix(b"*") == Some(&*expected),
        ))
    }),
    Function::new("kindOf", &[Type::Any], |_, args| {
        Ok(Value::text(args.value(0).kind_name()))
    }),
    Function::new("kindIs", &[Type::Text, Type::Any], |_, args| {
        Ok(Value::Bool(
            *args.text(0) == *args.value(1).kind_name().as_bytes(),
        ))
    }),
    Function::new("deepEqual", &[Type::Any, Type::Any], |env, args| {
        Ok(Value::Bool(deep_equal(
            &args.value(0),
            &args.value(1),
            &mut env.gauge,
        )?))
    }),
    Function::new("deepCopy", &[Type::Any], copy),
    Function::new("mustDeepCopy", &[Type::Any], copy),
];

/// Returns whether the value is zero, empty or nil. Structures are never empty.
pub(super) fn is_empty(value: &Value) -> Result<bool, Fault> {
    Ok(!value.truth())
}

fn first_nonempty(values: &[Value]) -> Result<Option<Value>, Fault> {
    for value in values {
        if !is_empty(value)? {
            return Ok(Some(value.clone()));
        }
    }
    Ok(None)
}

/// `deepCopy`: returns a deep copy; fails for nil.
fn copy(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    match args.value(0) {
        Value::Missing | Value::Nil => Err(Fault::failed("nil cannot be copied")),
        value => deep_copy(env, &value, 0),
    }
}

fn deep_copy(env: &mut Environment<'_>, value: &Value, depth: usize) -> Outcome {
    if depth > 100 {
        return Err(Fault::limit(Limit::Depth));
    }
    env.gauge.charge_memory(value.size())?;
    Ok(match value {
        Value::List(list) if list.nil => Value::List(List::nil(list.kind)),
        Value::List(list) => {
            let items: Result<Vec<Value>, Fault> = list
                .items()
                .iter()
                .map(|item| deep_copy(env, item, depth + 1))
                .collect();
            List::new(list.kind, items?)?.into()
        }
        Value::Map(map) if map.nil => Value::Map(Map::nil()),
        Value::Map(map) => {
            let mut entries = Entries::new();
            for (key, item) in map.entries().iter() {
                env.gauge.charge_bytes(key.len())?;
                entries.insert(key.clone(), deep_copy(env, item, depth + 1)?);
            }
            match map.kind {
                MapKind::Any => env.new_map(entries)?.into(),
                MapKind::Text => Map::unregistered(MapKind::Text, entries).into(),
            }
        }
        // The library that sprig uses copies only public fields, and a version has none.
        Value::Version(_, pointer) => Value::Version(Version::zero().into(), *pointer),
        other => other.clone(),
    })
}
