//! Lists: creating, splitting, searching. No function changes its argument.

use super::cast::to_int;
use super::{Args, Function, Outcome, Type, deep_equal, defaults};
use crate::environment::Environment;
use crate::error::Fault;
use crate::value::{List, ListKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("list", &[], |_, args| new_list(args.rest(0).to_vec())).rest(Type::Any),
    Function::new("tuple", &[], |_, args| new_list(args.rest(0).to_vec())).rest(Type::Any),
    Function::new("append", &[Type::Any, Type::Any], push),
    Function::new("push", &[Type::Any, Type::Any], push),
    Function::new("mustAppend", &[Type::Any, Type::Any], push),
    Function::new("mustPush", &[Type::Any, Type::Any], push),
    Function::new("prepend", &[Type::Any, Type::Any], prepend),
    Function::new("mustPrepend", &[Type::Any, Type::Any], prepend),
    Function::new("first", &[Type::Any], |_, args| {
        Ok(list(args)?.item(0).unwrap_or(Value::Nil))
    }),
    Function::new("mustFirst", &[Type::Any], |_, args| {
        Ok(list(args)?.item(0).unwrap_or(Value::Nil))
    }),
    Function::new("last", &[Type::Any], last),
    Function::new("mustLast", &[Type::Any], last),
    Function::new("rest", &[Type::Any], rest),
    Function::new("mustRest", &[Type::Any], rest),
    Function::new("initial", &[Type::Any], initial),
    Function::new("mustInitial", &[Type::Any], initial),
    Function::new("reverse", &[Type::Any], reverse),
    Function::new("mustReverse", &[Type::Any], reverse),
    Function::new("uniq", &[Type::Any], uniq),
    Function::new("mustUniq", &[Type::Any], uniq),
    Function::new("without", &[Type::Any], without).rest(Type::Any),
    Function::new("mustWithout", &[Type::Any], without).rest(Type::Any),
    Function::new("has", &[Type::Any, Type::Any], has),
    Function::new("mustHas", &[Type::Any, Type::Any], has),
    Function::new("compact", &[Type::Any], compact),
    Function::new("mustCompact", &[Type::Any], compact),
    Function::new("slice", &[Type::Any], slice).rest(Type::Any),
    Function::new("mustSlice", &[Type::Any], slice).rest(Type::Any),
    Function::new("concat", &[], concat).rest(Type::Any),
    Function::new("chunk", &[Type::Int, Type::Any], chunk),
    Function::new("mustChunk", &[Type::Int, Type::Any], chunk),
];

fn new_list(items: Vec<Value>) -> Outcome {
    Ok(List::new(ListKind::Any, items)?.into())
}

fn as_list(value: &Value) -> Result<List, Fault> {
    match value {
        Value::List(list) => Ok(list.clone()),
        _ => Err(Fault::failed("a list is needed here")),
    }
}

fn list(args: &Args<'_>) -> Result<List, Fault> {
    as_list(&args.value(0))
}

fn push(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut items = list(args)?.items();
    items.push(args.value(1));
    new_list(items)
}

fn prepend(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut items = list(args)?.items();
    items.insert(0, args.value(1));
    new_list(items)
}

fn last(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let list = list(args)?;
    Ok(list
        .len()
        .checked_sub(1)
        .and_then(|at| list.item(at))
        .unwrap_or(Value::Nil))
}

fn rest(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    match list(args)?.items().split_first() {
        Some((_, rest)) => new_list(rest.to_vec()),
        None => Ok(List::nil(ListKind::Any).into()),
    }
}

fn initial(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    match list(args)?.items().split_last() {
        Some((_, initial)) => new_list(initial.to_vec()),
        None => Ok(List::nil(ListKind::Any).into()),
    }
}

fn reverse(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut items = list(args)?.items();
    items.reverse();
    new_list(items)
}

fn contains(env: &mut Environment<'_>, items: &[Value], value: &Value) -> Result<bool, Fault> {
    for item in items {
        if deep_equal(value, item, &mut env.gauge)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uniq(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut result = Vec::new();
    for item in list(args)?.items() {
        if !contains(env, &result, &item)? {
            result.push(item);
        }
    }
    new_list(result)
}

fn without(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut result = Vec::new();
    for item in list(args)?.items() {
        if !contains(env, args.rest(1), &item)? {
            result.push(item);
        }
    }
    new_list(result)
}

fn has(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    if args.value(1).is_nil() {
        return Ok(Value::Bool(false));
    }
    let items = as_list(&args.value(1))?.items();
    Ok(Value::Bool(contains(env, &items, &args.value(0))?))
}

fn compact(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut result = Vec::new();
    for item in list(args)?.items() {
        if !defaults::is_empty(&item)? {
            result.push(item);
        }
    }
    new_list(result)
}

/// Returns a list of the same kind with the items from `start` (0 by default) up to `end` (the length by default).
/// Returns nil for an empty list.
fn slice(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let list = list(args)?;
    if list.len() == 0 {
        return Ok(Value::Nil);
    }
    let bound = |at: usize, default: usize| match args.rest(1).get(at) {
        Some(value) => usize::try_from(to_int(value)).ok(),
        None => Some(default),
    };
    let part = bound(0, 0)
        .zip(bound(1, list.len()))
        .and_then(|(start, end)| list.part(start, end));
    Ok(part
        .ok_or(Fault::failed("the start or end is outside the list"))?
        .into())
}

fn concat(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut joined = Vec::new();
    for list in args.rest(0) {
        let items = as_list(list)?.items();
        env.gauge.charge_memory(32 * items.len())?;
        joined.extend(items);
    }
    if joined.is_empty() {
        Ok(List::nil(ListKind::Any).into())
    } else {
        new_list(joined)
    }
}

/// Splits into lists of `size` items each; the last may be shorter.
fn chunk(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let items = as_list(&args.value(1))?.items();
    let size = usize::try_from(args.int(0).unsigned_abs()).unwrap_or(usize::MAX);
    if args.int(0) <= 0 {
        return chunk_with_invalid_size(items, if args.int(0) == 0 { 0 } else { size });
    }
    let mut chunks = Vec::new();
    for part in items.chunks(size) {
        env.gauge.charge_memory(64 + 32 * part.len())?;
        chunks.push(new_list(part.to_vec())?);
    }
    Ok(List::new(ListKind::Lists, chunks)?.into())
}

/// Reproduces sprig's arithmetic for a size that is not positive; `size` is its absolute value. Usually fails, but
/// returns no chunks for two to `size` + 1 items, and one chunk for a single item if `size` is at least two.
fn chunk_with_invalid_size(items: Vec<Value>, size: usize) -> Outcome {
    let chunks = match items.len() {
        1 if size >= 2 => vec![new_list(items)?],
        2.. if size > 0 && items.len() - 1 <= size => Vec::new(),
        _ => return Err(Fault::failed("the size of a chunk must be positive")),
    };
    Ok(List::new(ListKind::Lists, chunks)?.into())
}
