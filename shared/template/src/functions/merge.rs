//! `merge` and `mergeOverwrite`, with the quirks of dario.cat/mergo.

use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::{ErrorKind, Fault, Limit};
use crate::text::Text;
use crate::value::{Entries, Map, MapKind, Pointer, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("merge", &[Type::Dict], |env, args| {
        merge_leniently(env, args, false)
    })
    .rest(Type::Dict),
    Function::new("mergeOverwrite", &[Type::Dict], |env, args| {
        merge_leniently(env, args, true)
    })
    .rest(Type::Dict),
    Function::new("mustMerge", &[Type::Dict], |env, args| {
        merge_all(env, args, false)
    })
    .rest(Type::Dict),
    Function::new("mustMergeOverwrite", &[Type::Dict], |env, args| {
        merge_all(env, args, true)
    })
    .rest(Type::Dict),
];

/// The only failure that mergo returns as an error. `merge` and `mergeOverwrite` return an empty string instead.
const DIFFERENT_TYPES: Fault = Fault {
    kind: ErrorKind::Failed,
    reason: "a dict, time or certificate cannot be merged into a version",
};

fn merge_leniently(env: &mut Environment<'_>, args: &Args<'_>, overwrite: bool) -> Outcome {
    match merge_all(env, args, overwrite) {
        Err(DIFFERENT_TYPES) => Ok(Value::text("")),
        outcome => outcome,
    }
}

fn merge_all(env: &mut Environment<'_>, args: &Args<'_>, overwrite: bool) -> Outcome {
    let mut target = args.map(0);
    for source in args.rest(1) {
        if let Value::Map(source) = source {
            if target.nil && !source.nil {
                target = env.new_map(Entries::new())?;
            }
            merge(env, &target, source, overwrite, 0)?;
        }
    }
    Ok(target.into())
}

fn merge(
    env: &mut Environment<'_>,
    target: &Map,
    source: &Map,
    overwrite: bool,
    depth: usize,
) -> Result<(), Fault> {
    if depth > 100 {
        return Err(Fault::limit(Limit::Depth));
    }
    let entries: Vec<(Text, Value)> = source
        .entries()
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let level = Level {
        overwrite,
        depth,
        from: source.kind,
    };
    for (key, new) in entries {
        env.gauge.charge_bytes(key.len())?;
        merge_entry(env, target, key, new, &level)?;
    }
    Ok(())
}

/// How to merge one level.
struct Level {
    overwrite: bool,
    depth: usize,
    /// The type of the map that is merged in.
    from: MapKind,
}

fn merge_entry(
    env: &mut Environment<'_>,
    target: &Map,
    key: Text,
    new: Value,
    level: &Level,
) -> Result<(), Fault> {
    let overwrite = level.overwrite;
    let old = target.get(&key);
    let old_is_empty = old.as_ref().is_none_or(|old| !old.truth());
    if new.is_nil() {
        if overwrite {
            put(env, target, key, new, level.from)?;
        }
        return Ok(());
    }
    match (&new, &old) {
        (
            Value::Map(_) | Value::Time(_) | Value::Certificate(_),
            Some(Value::Version(_, Pointer::Yes)),
        ) if !overwrite => return Err(DIFFERENT_TYPES),
        (Value::Map(_), Some(Value::Certificate(_))) => {
            return Err(Fault::failed("a dict cannot be merged into a certificate"));
        }
        (Value::Map(new), Some(Value::Map(old))) => {
            merge_maps(env, old, new, level)?;
            if !old_is_empty {
                return Ok(());
            }
        }
        // Without `overwrite`, mergo keeps an old value that is not empty.
        (Value::List(_), _) if !old_is_empty && !overwrite => return Ok(()),
        _ => {}
    }
    if overwrite || old_is_empty {
        put(env, target, key, new, level.from)?;
    }
    Ok(())
}

/// Merges one inner map into another. A nil map stays nil.
fn merge_maps(env: &mut Environment<'_>, old: &Map, new: &Map, level: &Level) -> Result<(), Fault> {
    if old.nil {
        return Ok(());
    }
    merge(env, old, new, level.overwrite, level.depth + 1)
}

/// Writes an entry. A map of strings accepts nothing from a dict, not even a string.
fn put(
    env: &mut Environment<'_>,
    target: &Map,
    key: Text,
    value: Value,
    from: MapKind,
) -> Result<(), Fault> {
    if target.kind == MapKind::Text && from == MapKind::Any {
        return Err(Fault::failed(
            "a dict cannot be merged into a map of strings",
        ));
    }
    env.gauge.charge_memory(64 + key.len())?;
    env.changed_text_map |= target.kind == MapKind::Text;
    target.set(key, value);
    Ok(())
}
