//! Searching, cutting, padding and quoting strings.

use std::collections::HashSet;

use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::{Fault, Limit};
use crate::fmt;
use crate::quote;
use crate::runes;
use crate::text::{Text, Writer};
use crate::value::{ListKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("hello", &[], |_, _| Ok(Value::text("Hello!"))),
    Function::new("trim", &[Type::Text], |_, args| {
        Ok(trim_matches(&args.text(0), runes::is_space).into())
    }),
    Function::new("trimAll", &[Type::Text, Type::Text], trim_all),
    Function::new("trimall", &[Type::Text, Type::Text], trim_all),
    Function::new("trimPrefix", &[Type::Text, Type::Text], |_, args| {
        let text = args.text(1);
        Ok(text
            .strip_prefix(&*args.text(0))
            .map_or(Value::Text(text.clone()), Value::text))
    }),
    Function::new("trimSuffix", &[Type::Text, Type::Text], |_, args| {
        let text = args.text(1);
        Ok(text
            .strip_suffix(&*args.text(0))
            .map_or(Value::Text(text.clone()), Value::text))
    }),
    Function::new("contains", &[Type::Text, Type::Text], |_, args| {
        Ok(Value::Bool(find(&args.text(1), &args.text(0)).is_some()))
    }),
    Function::new("hasPrefix", &[Type::Text, Type::Text], |_, args| {
        Ok(Value::Bool(args.text(1).starts_with(&args.text(0))))
    }),
    Function::new("hasSuffix", &[Type::Text, Type::Text], |_, args| {
        Ok(Value::Bool(args.text(1).ends_with(&args.text(0))))
    }),
    Function::new("repeat", &[Type::Int, Type::Text], repeat),
    Function::new(
        "replace",
        &[Type::Text, Type::Text, Type::Text],
        |env, args| {
            let mut out = env.writer();
            replace(&mut out, &args.text(2), &args.text(0), &args.text(1))?;
            Ok(out.finish().into())
        },
    ),
    Function::new("trunc", &[Type::Int, Type::Text], trunc),
    Function::new("substr", &[Type::Int, Type::Int, Type::Text], substr),
    Function::new("abbrev", &[Type::Int, Type::Text], |_, args| {
        let width = args.int(0);
        let text = args.text(1);
        Ok(if width < 4 {
            text.into()
        } else {
            abbreviate(&text, 0, width).into()
        })
    }),
    Function::new(
        "abbrevboth",
        &[Type::Int, Type::Int, Type::Text],
        |_, args| {
            let (left, right, text) = (args.int(0), args.int(1), args.text(2));
            Ok(if right < 4 || left > 0 && right < 7 {
                text.into()
            } else {
                abbreviate(&text, left, right).into()
            })
        },
    ),
    Function::new("indent", &[Type::Int, Type::Text], |env, args| {
        indent(env, args, "")
    }),
    Function::new("nindent", &[Type::Int, Type::Text], |env, args| {
        indent(env, args, "\n")
    }),
    Function::new("plural", &[Type::Text, Type::Text, Type::Int], |_, args| {
        Ok(args.value(usize::from(args.int(2) != 1)))
    }),
    Function::new("quote", &[], |env, args| {
        join_arguments(env, args, |env, value, out| {
            quote::quote(out, &to_text(env, value)?, false)
        })
    })
    .rest(Type::Any),
    Function::new("squote", &[], |env, args| {
        join_arguments(env, args, |env, value, out| {
            out.byte(b'\'')?;
            out.push(&to_text(env, value)?)?;
            out.byte(b'\'')
        })
    })
    .rest(Type::Any),
    Function::new("cat", &[], |env, args| {
        join_arguments(env, args, |env, value, out| {
            out.push(&format_value(env, value)?)
        })
    })
    .rest(Type::Any),
    Function::new("toString", &[Type::Any], |env, args| {
        Ok(to_text(env, &args.value(0))?.into())
    }),
];

/// Converts a value to a string as sprig does: strings and bytes stay as they are, the rest is formatted with
/// `%v`.
pub(super) fn to_text(env: &mut Environment<'_>, value: &Value) -> Result<Text, Fault> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::List(list) if list.kind == ListKind::Bytes => fmt::printf(
            env.writer(),
            b"%s",
            std::slice::from_ref(value),
            &mut env.gauge,
        ),
        _ => format_value(env, value),
    }
}

/// Formats a value with `%v`. Charges for the string, because many strings may exist at the same time.
fn format_value(env: &mut Environment<'_>, value: &Value) -> Result<Text, Fault> {
    let text = fmt::print(env.writer(), std::slice::from_ref(value), &mut env.gauge)?;
    env.gauge.charge_memory(text.len())?;
    Ok(text)
}

/// Writes all arguments except nil with `write`, separated by spaces.
fn join_arguments(
    env: &mut Environment<'_>,
    args: &Args<'_>,
    write: fn(&mut Environment<'_>, &Value, &mut Writer) -> Result<(), Fault>,
) -> Outcome {
    let mut out = env.writer();
    for (at, value) in args.0.iter().filter(|value| !value.is_nil()).enumerate() {
        if at > 0 {
            out.byte(b' ')?;
        }
        write(env, value, &mut out)?;
    }
    Ok(out.finish().into())
}

/// Returns the offset of the first `needle`. The time is linear in both lengths.
pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, needle)
}

/// Trims matching characters at both ends.
pub(super) fn trim_matches(text: &[u8], cut: impl Fn(char) -> bool) -> &[u8] {
    let mut text = text;
    loop {
        let (char, width) = runes::decode(text);
        if width == 0 || !cut(char) {
            break;
        }
        text = &text[width..];
    }
    loop {
        let (char, width) = runes::decode_last(text);
        if width == 0 || !cut(char) {
            return text;
        }
        text = &text[..text.len() - width];
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Text(Text::from(bytes))
    }
}

fn trim_all(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let set: HashSet<char> = runes::chars(&args.text(0)).collect();
    Ok(trim_matches(&args.text(1), |char| set.contains(&char)).into())
}

fn repeat(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let count = usize::try_from(args.int(0)).map_err(|_| Fault::failed("the count is negative"))?;
    let text = args.text(1);
    let size = count.saturating_mul(text.len());
    if size > env.gauge.max_value_size() {
        return Err(Fault::limit(Limit::Value));
    }
    Ok(text.repeat(if size == 0 { 0 } else { count }).into())
}

/// Replaces every occurrence; an empty `old` matches before each character and at the end.
pub(super) fn replace(out: &mut Writer, text: &[u8], old: &[u8], new: &[u8]) -> Result<(), Fault> {
    if old == new {
        return out.push(text);
    }
    if old.is_empty() {
        for (at, _, width) in runes::char_indices(text) {
            out.push(new)?;
            out.push(&text[at..at + width])?;
        }
        return out.push(new);
    }
    let mut last_end = 0;
    for at in memchr::memmem::find_iter(text, old) {
        out.push(&text[last_end..at])?;
        out.push(new)?;
        last_end = at + old.len();
    }
    out.push(&text[last_end..])
}

fn trunc(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let (count, text) = (args.int(0), args.text(1));
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(if size >= text.len() {
        text.into()
    } else if count < 0 {
        text[text.len() - size..].into()
    } else {
        text[..size].into()
    })
}

/// Returns a part of a string. A negative start means the beginning. Otherwise, a negative or too large end means the
/// end.
fn substr(_: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let (start, end, text) = (args.int(0), args.int(1), args.text(2));
    let len = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let (start, end) = match (start, end) {
        (..0, _) => (0, end),
        (_, ..0) => (start, len),
        _ => (start, if end > len { len } else { end }),
    };
    let part = match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) => text.get(start..end),
        _ => None,
    };
    part.map(Value::from)
        .ok_or(Fault::failed("the start or end is outside the string"))
}

/// Shortens to `width` bytes with dots in place of the cut text; also cuts the front if `offset` is large
/// enough.
fn abbreviate(text: &[u8], offset: i64, width: i64) -> Vec<u8> {
    let len = i64::try_from(text.len()).unwrap_or(i64::MAX);
    if len <= width {
        return text.to_vec();
    }
    let kept_len = width - 3;
    let part = |from: i64, to: i64| {
        let from = usize::try_from(from).unwrap_or(0).min(text.len());
        let to = usize::try_from(to).unwrap_or(0).clamp(from, text.len());
        &text[from..to]
    };
    let mut offset = offset.clamp(0, len);
    if len - offset < kept_len {
        offset = len - kept_len;
    }
    if offset <= 4 {
        return [part(0, kept_len), b"..."].concat();
    }
    if offset + kept_len < len {
        return [
            b"...".as_slice(),
            &abbreviate(part(offset, len), 0, kept_len),
        ]
        .concat();
    }
    [b"...", part(len - kept_len, len)].concat()
}

fn indent(env: &mut Environment<'_>, args: &Args<'_>, before: &str) -> Outcome {
    let spaces =
        usize::try_from(args.int(0)).map_err(|_| Fault::failed("the count is negative"))?;
    let mut out = env.writer();
    out.str(before)?;
    for (at, line) in args.text(1).split(|&byte| byte == b'\n').enumerate() {
        if at > 0 {
            out.byte(b'\n')?;
        }
        out.fill(b' ', spaces)?;
        out.push(line)?;
    }
    Ok(out.finish().into())
}
