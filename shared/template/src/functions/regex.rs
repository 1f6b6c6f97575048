//! Regular expressions. The functions fail on an invalid expression, as their `must` variants do; `regexMatch` returns
//! false.

use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::{ErrorKind, Fault};
use crate::regexes::{Groups, Pattern};
use crate::text::{Text, Writer};
use crate::value::{List, ListKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new(
        "regexMatch",
        &[Type::Text, Type::Text],
        |env, args| match matches(env, args) {
            Err(Fault {
                kind: ErrorKind::Failed,
                ..
            }) => Ok(Value::Bool(false)),
            outcome => outcome,
        },
    ),
    Function::new("mustRegexMatch", &[Type::Text, Type::Text], matches),
    Function::new("regexFind", &[Type::Text, Type::Text], find),
    Function::new("mustRegexFind", &[Type::Text, Type::Text], find),
    Function::new(
        "regexFindAll",
        &[Type::Text, Type::Text, Type::Int],
        find_all,
    ),
    Function::new(
        "mustRegexFindAll",
        &[Type::Text, Type::Text, Type::Int],
        find_all,
    ),
    Function::new("regexSplit", &[Type::Text, Type::Text, Type::Int], split),
    Function::new(
        "mustRegexSplit",
        &[Type::Text, Type::Text, Type::Int],
        split,
    ),
    Function::new(
        "regexReplaceAll",
        &[Type::Text, Type::Text, Type::Text],
        replace_all,
    ),
    Function::new(
        "mustRegexReplaceAll",
        &[Type::Text, Type::Text, Type::Text],
        replace_all,
    ),
    Function::new(
        "regexReplaceAllLiteral",
        &[Type::Text, Type::Text, Type::Text],
        replace_literally,
    ),
    Function::new(
        "mustRegexReplaceAllLiteral",
        &[Type::Text, Type::Text, Type::Text],
        replace_literally,
    ),
    Function::new("regexQuoteMeta", &[Type::Text], quote_meta),
];

fn matches(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let pattern = env.pattern(&args.text(0))?;
    let is_match = pattern.is_match(&args.text(1), &mut env.gauge)?;
    Ok(Value::Bool(is_match))
}

fn find(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let pattern = env.pattern(&args.text(0))?;
    let text = args.text(1);
    let first = pattern
        .find_all(&text, 1, &mut env.gauge)?
        .first()
        .map(|&(start, end)| Value::from(&text[start..end]));
    Ok(first.unwrap_or(Value::text("")))
}

fn find_all(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let pattern = env.pattern(&args.text(0))?;
    let text = args.text(1);
    let limit = usize::try_from(args.int(2)).unwrap_or(usize::MAX);
    let found_matches = pattern.find_all(&text, limit, &mut env.gauge)?;
    env.gauge
        .charge_memory(text.len() + 64 * found_matches.len())?;
    if found_matches.is_empty() {
        return Ok(List::nil(ListKind::Text).into());
    }
    Ok(List::texts(
        found_matches
            .into_iter()
            .map(|(start, end)| Text::from(&text[start..end])),
    )
    .into())
}

/// Splits at matches into at most this many parts, or into all if the number is negative; zero gives nil.
fn split(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let source = args.text(0);
    let pattern = env.pattern(&source)?;
    let text = args.text(1);
    let limit = usize::try_from(args.int(2)).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(List::nil(ListKind::Text).into());
    }
    if text.is_empty() && !source.is_empty() {
        return Ok(List::texts([Text::empty()]).into());
    }
    let found_matches = pattern.find_all(&text, limit, &mut env.gauge)?;
    env.gauge
        .charge_memory(text.len() + 64 * found_matches.len())?;
    let mut parts = Vec::new();
    let (mut start, mut end) = (0, 0);
    for (from, to) in found_matches {
        if parts.len() == limit - 1 {
            break;
        }
        end = from;
        if to != 0 {
            parts.push(Text::from(&text[start..end]));
        }
        start = to;
    }
    if end != text.len() {
        parts.push(Text::from(&text[start..]));
    }
    Ok(List::texts(parts).into())
}

fn replace_all(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let pattern = env.pattern(&args.text(0))?;
    let (text, new) = (args.text(1), args.text(2));
    if !new.contains(&b'$') {
        return replace_literally(env, args);
    }
    let mut out = env.writer();
    let mut last_end = 0;
    pattern.for_each_match(&text, &mut env.gauge, |groups, gauge| {
        gauge.charge_steps(1 + groups.len() + new.len() / 4)?;
        if let Some(&Some((start, end))) = groups.first() {
            out.push(&text[last_end..start])?;
            expand(&mut out, &pattern, &new, &text, groups)?;
            last_end = end;
        }
        Ok(())
    })?;
    out.push(&text[last_end..])?;
    Ok(out.finish().into())
}

fn replace_literally(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let pattern = env.pattern(&args.text(0))?;
    let (text, new) = (args.text(1), args.text(2));
    let mut out = env.writer();
    let mut last_end = 0;
    for (start, end) in pattern.find_all(&text, usize::MAX, &mut env.gauge)? {
        out.push(&text[last_end..start])?;
        out.push(&new)?;
        last_end = end;
    }
    out.push(&text[last_end..])?;
    Ok(out.finish().into())
}

/// Expands `$1`, `${1}`, `$name` and `$$`; an unknown group is empty, a lone dollar stays.
fn expand(
    out: &mut Writer,
    pattern: &Pattern,
    new: &[u8],
    text: &[u8],
    groups: &Groups,
) -> Result<(), Fault> {
    let mut rest = new;
    while let Some(at) = memchr::memchr(b'$', rest) {
        out.push(&rest[..at])?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(b"$") {
            out.byte(b'$')?;
            rest = after;
        } else if let Some((name, after)) = reference(rest) {
            rest = after;
            let numbers = if name.bytes().all(|byte| byte.is_ascii_digit()) {
                number(name).into_iter().collect()
            } else {
                pattern.groups(name).collect::<Vec<_>>()
            };
            let group = |&number: &usize| groups.get(number).copied().flatten();
            if let Some((start, end)) = numbers.iter().find_map(group) {
                out.push(&text[start..end])?;
            }
        } else {
            out.byte(b'$')?;
        }
    }
    out.push(rest)
}

/// Parses the number of a group; `None` if it has leading zeros or is too large.
fn number(digits: &str) -> Option<usize> {
    if digits.len() > 1 && digits.starts_with('0') {
        None
    } else {
        digits.parse().ok()
    }
}

/// Parses the reference to a group after a dollar, with or without braces: returns the name and the rest. `None` if
/// there is no reference.
fn reference(text: &[u8]) -> Option<(&str, &[u8])> {
    let braced = text.first() == Some(&b'{');
    let body = if braced { &text[1..] } else { text };
    let mut len = 0;
    for (at, char, width) in crate::runes::char_indices(body) {
        if char != '_' && !crate::runes::is_letter(char) && !crate::runes::is_digit(char) {
            break;
        }
        len = at + width;
    }
    let name = std::str::from_utf8(&body[..len])
        .ok()
        .filter(|name| !name.is_empty())?;
    let rest = &body[len..];
    if braced {
        Some((name, rest.strip_prefix(b"}")?))
    } else {
        Some((name, rest))
    }
}

fn quote_meta(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let mut out = env.writer();
    for &byte in args.text(0).iter() {
        if b"\\.+*?()|[]{}^$".contains(&byte) {
            out.byte(b'\\')?;
        }
        out.byte(byte)?;
    }
    Ok(out.finish().into())
}
