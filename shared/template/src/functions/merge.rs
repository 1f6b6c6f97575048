//! `merge` and `mergeOverwrite`, with the habits of dario.cat/mergo.

use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::{Fault, Limit};
use crate::text::Text;
use crate::value::{Entries, Map, MapKind, Value};

pub(super) static TABLE: &[Function] = &[
    Function::new("merge", &[Type::Dict], |env, args| {
        lenient(env, args, false)
    })
    .rest(Type::Dict),
    Function::new("mergeOverwrite", &[Type::Dict], |env, args| {
        lenient(env, args, true)
    })
    .rest(Type::Dict),
    Function::new("mustMerge", &[Type::Dict], |env, args| {
        all(env, args, false)
    })
    .rest(Type::Dict),
    Function::new("mustMergeOverwrite", &[Type::Dict], |env, args| {
        all(env, args, true)
    })
    .rest(Type::Dict),
];

/// A failure gives an empty text; a used-up budget stays one.
fn lenient(env: &mut Environment<'_>, args: &Args<'_>, overwrite: bool) -> Outcome {
    match all(env, args, overwrite) {
        Err(fault) if !matches!(fault.kind, crate::error::ErrorKind::Limit(_)) => {
            Ok(Value::text(""))
        }
        outcome => outcome,
    }
}

fn all(env: &mut Environment<'_>, args: &Args<'_>, overwrite: bool) -> Outcome {
    let mut target = args.map(0);
    for source in args.rest(1) {
        if let Value::Map(source) = source {
            if target.nil && !source.nil {
                target = env.map(Entries::new())?;
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
    for (key, new) in entries {
        env.gauge.steps(1)?;
        merge_entry(env, target, key, new, overwrite, depth)?;
    }
    Ok(())
}

fn merge_entry(
    env: &mut Environment<'_>,
    target: &Map,
    key: Text,
    new: Value,
    overwrite: bool,
    depth: usize,
) -> Result<(), Fault> {
    let old = target.get(&key);
    let old_is_empty = old.as_ref().is_none_or(|old| !old.truth());
    if new.is_nil() {
        if overwrite {
            put(env, target, key, new)?;
        }
        return Ok(());
    }
    match (&new, &old) {
        (Value::Map(new), Some(Value::Map(old))) => {
            into_map(env, old, new, overwrite, depth)?;
            if !old_is_empty {
                return Ok(());
            }
        }
        // Lists are taken over where the target had nothing, and by the quirk of a filled target otherwise kept.
        (Value::List(_), _) if !old_is_empty && !overwrite => return Ok(()),
        _ => {}
    }
    if overwrite || old_is_empty {
        put(env, target, key, new)?;
    }
    Ok(())
}

/// Merges one inner map into another of the same type; other types are left alone.
fn into_map(
    env: &mut Environment<'_>,
    old: &Map,
    new: &Map,
    overwrite: bool,
    depth: usize,
) -> Result<(), Fault> {
    if old.nil {
        return Ok(());
    }
    if old.kind == MapKind::Any || new.kind == MapKind::Text {
        return merge(env, old, new, overwrite, depth + 1);
    }
    Err(Fault::failed(
        "a dict cannot be merged into a map of strings",
    ))
}

fn put(env: &mut Environment<'_>, target: &Map, key: Text, value: Value) -> Result<(), Fault> {
    env.gauge.memory(64 + key.len())?;
    target.set(key, value);
    Ok(())
}
