//! Go's own functions, as `text/template` defines them.

use super::{Args, Evaluation, Function, Outcome, Type, equality};
use crate::environment::Environment;
use crate::error::Fault;
use crate::fmt;
use crate::runes;
use crate::text::Text;
use crate::url;
use crate::value::{Int, IntKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("and", &[Type::Raw], never)
        .rest(Type::Raw)
        .evaluation(Evaluation::And),
    Function::new("or", &[Type::Raw], never)
        .rest(Type::Raw)
        .evaluation(Evaluation::Or),
    Function::new("not", &[Type::Raw], |_, args| {
        Ok(Value::Bool(!args.value(0).truth()))
    }),
    Function::new("call", &[Type::Raw], |_, _| {
        Err(Fault::failed(
            "call needs a function, and no value is a function",
        ))
    })
    .rest(Type::Raw),
    Function::new("index", &[Type::Raw], index).rest(Type::Raw),
    Function::new("len", &[Type::Raw], len),
    Function::new("print", &[], |env, args| {
        Ok(fmt::print(env.writer(), args.0, &mut env.gauge)?.into())
    })
    .rest(Type::Any),
    Function::new("println", &[], |env, args| {
        Ok(fmt::println(env.writer(), args.0, &mut env.gauge)?.into())
    })
    .rest(Type::Any),
    Function::new("printf", &[Type::Text], |env, args| {
        Ok(fmt::printf(env.writer(), &args.text(0), args.rest(1), &mut env.gauge)?.into())
    })
    .rest(Type::Any),
    Function::new("html", &[], html).rest(Type::Any),
    Function::new("js", &[], js).rest(Type::Any),
    Function::new("urlquery", &[], |env, args| {
        Ok(url::query_escape(&join_arguments(env, args)?).into())
    })
    .rest(Type::Any),
    Function::new("eq", &[Type::Raw], |_, args| {
        Ok(Value::Bool(equality::equal(&args.value(0), args.rest(1))?))
    })
    .rest(Type::Raw),
    Function::new("ne", &[Type::Raw, Type::Raw], |_, args| {
        Ok(Value::Bool(!equality::equal(&args.value(0), args.rest(1))?))
    }),
    Function::new("lt", &[Type::Raw, Type::Raw], |_, args| {
        Ok(Value::Bool(equality::less(&args.value(0), &args.value(1))?))
    }),
    Function::new("le", &[Type::Raw, Type::Raw], |_, args| {
        Ok(Value::Bool(at_most(args)?))
    }),
    Function::new("gt", &[Type::Raw, Type::Raw], |_, args| {
        Ok(Value::Bool(!at_most(args)?))
    }),
    Function::new("ge", &[Type::Raw, Type::Raw], |_, args| {
        Ok(Value::Bool(!equality::less(
            &args.value(0),
            &args.value(1),
        )?))
    }),
];

/// Never called: `and` and `or` are evaluated together with their arguments.
fn never(_: &mut Environment<'_>, _: &Args<'_>) -> Outcome {
    Err(Fault::misuse("evaluated together with its arguments"))
}

fn at_most(args: &Args<'_>) -> Result<bool, Fault> {
    Ok(equality::less(&args.value(0), &args.value(1))?
        || equality::equal(&args.value(0), args.rest(1))?)
}

fn index(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut item = args.value(0);
    if item.is_nil() {
        return Err(Fault::failed("nil has no items"));
    }
    for key in args.rest(1) {
        item = index_once(&item, key)?;
    }
    Ok(item)
}

fn index_once(item: &Value, key: &Value) -> Outcome {
    match item {
        Value::Text(text) => {
            let byte = to_index(key)
                .and_then(|at| text.get(at))
                .ok_or(OUT_OF_RANGE)?;
            Ok(Value::Int(Int {
                kind: IntKind::Uint8,
                bits: i64::from(*byte),
            }))
        }
        Value::List(list) => to_index(key)
            .and_then(|at| list.item(at))
            .ok_or(OUT_OF_RANGE),
        Value::Map(map) => {
            let Value::Text(key) = key else {
                return Err(Fault::failed("the keys of this map are strings"));
            };
            let zero = if map.kind == crate::value::MapKind::Text {
                Value::text("")
            } else {
                Value::Nil
            };
            Ok(map.get(key).unwrap_or(zero))
        }
        _ => Err(Fault::failed("index needs a list, a map or a string")),
    }
}

const OUT_OF_RANGE: Fault = Fault {
    kind: crate::error::ErrorKind::Failed,
    reason: "an index is out of range or not an integer",
};

fn to_index(key: &Value) -> Option<usize> {
    match key {
        Value::Int(int) => usize::try_from(int.to_i128()).ok(),
        _ => None,
    }
}

fn len(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    match args.value(0) {
        Value::Text(text) => Ok(Value::count(text.len())),
        Value::List(list) => Ok(Value::count(list.len())),
        Value::Map(map) => Ok(Value::count(map.len())),
        _ => Err(Fault::failed("len needs a string, a list or a map")),
    }
}

/// Joins all arguments to one string, nil as `<no value>`.
fn join_arguments(env: &mut Environment<'_>, args: &Args<'_>) -> Result<Text, Fault> {
    if let [Value::Text(text)] = args.0 {
        return Ok(text.clone());
    }
    let values: Vec<Value> = args
        .0
        .iter()
        .map(|value| {
            if value.is_nil() {
                Value::text("<no value>")
            } else {
                value.clone()
            }
        })
        .collect();
    fmt::print(env.writer(), &values, &mut env.gauge)
}

fn html(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let text = join_arguments(env, args)?;
    let mut out = env.writer();
    for &byte in text.iter() {
        match byte {
            0 => out.str("\u{FFFD}")?,
            b'"' => out.str("&#34;")?,
            b'\'' => out.str("&#39;")?,
            b'&' => out.str("&amp;")?,
            b'<' => out.str("&lt;")?,
            b'>' => out.str("&gt;")?,
            _ => out.byte(byte)?,
        }
    }
    Ok(out.finish().into())
}

fn js(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let text = join_arguments(env, args)?;
    let mut out = env.writer();
    for (at, char, width) in runes::char_indices(&text) {
        match char {
            '\\' => out.str("\\\\")?,
            '\'' => out.str("\\'")?,
            '"' => out.str("\\\"")?,
            '<' | '>' | '&' | '=' | '\0'..='\x1f' => {
                out.str(&format!("\\u{:04X}", u32::from(char)))?;
            }
            _ if char.is_ascii() || runes::is_print(char) => out.push(&text[at..at + width])?,
            _ => out.str(&format!("\\u{:04X}", u32::from(char)))?,
        }
    }
    Ok(out.finish().into())
}
