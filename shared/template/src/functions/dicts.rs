//! Dicts: maps with text keys that templates create and change.

use super::strings::to_text;
use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::Fault;
use crate::text::Text;
use crate::value::{Entries, List, ListKind, MapKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("dict", &[], dict).rest(Type::Any),
    Function::new("get", &[Type::Dict, Type::Text], |_, args| {
        Ok(args.map(0).get(&args.text(1)).unwrap_or(Value::text("")))
    }),
    Function::new("set", &[Type::Dict, Type::Text, Type::Any], |env, args| {
        let map = args.map(0);
        if map.nil {
            return Err(Fault::failed("a key of a nil dict cannot be set"));
        }
        env.gauge.charge_memory(64 + args.text(1).len())?;
        map.set(args.text(1), args.value(2));
        Ok(map.into())
    }),
    Function::new("unset", &[Type::Dict, Type::Text], |_, args| {
        args.map(0).remove(&args.text(1));
        Ok(args.map(0).into())
    }),
    Function::new("hasKey", &[Type::Dict, Type::Text], |_, args| {
        Ok(Value::Bool(args.map(0).get(&args.text(1)).is_some()))
    }),
    Function::new("keys", &[], |_, args| {
        let keys = args.0.iter().flat_map(|map| match map {
            Value::Map(map) => map.entries().keys().cloned().collect(),
            _ => Vec::new(),
        });
        Ok(List::texts(keys).into())
    })
    .rest(Type::Dict),
    Function::new("values", &[Type::Dict], |_, args| {
        Ok(List::new(
            ListKind::Any,
            args.map(0).entries().values().cloned().collect(),
        )?
        .into())
    }),
    Function::new("pluck", &[Type::Text], |env, args| {
        let key = args.text(0);
        let mut values = Vec::new();
        for map in args.rest(1) {
            env.gauge.charge_bytes(key.len())?;
            if let Value::Map(map) = map {
                values.extend(map.get(&key));
            }
        }
        Ok(List::new(ListKind::Any, values)?.into())
    })
    .rest(Type::Dict),
    Function::new("pick", &[Type::Dict], |env, args| {
        select_keys(env, args, true)
    })
    .rest(Type::Text),
    Function::new("omit", &[Type::Dict], |env, args| {
        select_keys(env, args, false)
    })
    .rest(Type::Text),
    Function::new("dig", &[], dig).rest(Type::Any),
];

/// Creates a dict from alternating keys and values; a last key without a value gets an empty string.
fn dict(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut entries = Entries::new();
    for pair in args.0.chunks(2) {
        let key = to_text(env, &pair[0])?;
        entries.insert(key, pair.get(1).cloned().unwrap_or(Value::text("")));
    }
    Ok(env.new_map(entries)?.into())
}

fn select_keys(env: &mut Environment<'_>, args: &Args<'_>, keep_listed: bool) -> Outcome {
    let names: std::collections::BTreeSet<Text> = args
        .rest(1)
        .iter()
        .filter_map(|name| {
            if let Value::Text(name) = name {
                Some(name.clone())
            } else {
                None
            }
        })
        .collect();
    let map = args.map(0);
    let mut selected = Entries::new();
    for (key, value) in map.entries().iter() {
        env.gauge.charge_bytes(key.len())?;
        if names.contains(key) == keep_listed {
            selected.insert(key.clone(), value.clone());
        }
    }
    Ok(env.new_map(selected)?.into())
}

/// Looks up nested keys. Arguments: the keys from the outside in, the default if one is missing, the dict.
fn dig(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let [keys @ .., default, dict] = args.0 else {
        return Err(Fault::failed("dig needs a key, a default and a dict"));
    };
    if keys.is_empty() {
        return Err(Fault::failed("dig needs a key, a default and a dict"));
    }
    if keys.iter().any(|key| !matches!(key, Value::Text(_))) {
        return Err(Fault::failed("the keys of dig must be strings"));
    }
    let mut current = dict.clone();
    for key in keys {
        let (Value::Map(map), Value::Text(key)) = (&current, key) else {
            return Err(Fault::failed("dig found a value that is not a dict"));
        };
        if map.kind != MapKind::Any {
            return Err(Fault::failed("dig found a value that is not a dict"));
        }
        let Some(next) = map.get(key) else {
            return Ok(default.clone());
        };
        current = next;
    }
    Ok(current)
}
