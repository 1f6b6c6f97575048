//! Conversions between strings, lists and maps.

use super::strings::to_text;
use super::{Args, Function, Outcome, Type};
use crate::environment::Environment;
use crate::error::Fault;
use crate::runes;
use crate::text::Text;
use crate::value::{Entries, List, ListKind, Map, MapKind, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    Function::new("join", &[Type::Text, Type::Any], join),
    Function::new("splitList", &[Type::Text, Type::Text], |env, args| {
        let parts = split(env, &args.text(1), &args.text(0), -1)?;
        Ok(parts
            .map_or_else(|| List::nil(ListKind::Text), List::texts)
            .into())
    }),
    Function::new("split", &[Type::Text, Type::Text], |env, args| {
        let parts = split(env, &args.text(1), &args.text(0), -1)?;
        Ok(number_parts(parts))
    }),
    Function::new(
        "splitn",
        &[Type::Text, Type::Int, Type::Text],
        |env, args| {
            let parts = split(env, &args.text(2), &args.text(0), args.int(1))?;
            Ok(number_parts(parts))
        },
    ),
    Function::new("toStrings", &[Type::Any], |env, args| {
        Ok(texts(env, &args.value(0))?.into())
    }),
    Function::new("sortAlpha", &[Type::Any], |env, args| {
        if !matches!(args.value(0), Value::List(_)) {
            return Ok(List::texts([to_text(env, &args.value(0))?]).into());
        }
        let texts = texts(env, &args.value(0))?;
        charge_sorting(env, &texts)?;
        texts.sort_texts();
        Ok(texts.into())
    }),
];

/// Converts any value to a list of strings: a `[]string` stays as it is, other lists lose their nils, nil becomes an
/// empty list, and any other value a list of one.
pub(super) fn texts(env: &mut Environment<'_>, value: &Value) -> Result<List, Fault> {
    let Value::List(list) = value else {
        let only = if value.is_nil() {
            None
        } else {
            Some(to_text(env, value)?)
        };
        return Ok(List::texts(only));
    };
    if list.kind == ListKind::Text {
        return Ok(list.clone());
    }
    let mut texts = Vec::new();
    for item in list.items().iter().filter(|item| !item.is_nil()) {
        texts.push(to_text(env, item)?);
    }
    Ok(List::texts(texts))
}

/// Charges for sorting: long strings with a common prefix are compared to their end, each about log2(length of
/// the list) times.
fn charge_sorting(env: &mut Environment<'_>, texts: &List) -> Result<(), Fault> {
    let rounds = 1 + texts.len().max(1).ilog2() as usize;
    env.gauge.charge_steps(texts.len() * 4)?;
    for text in texts.view().iter() {
        env.gauge.charge_steps(rounds * (text.cost() - 1))?;
    }
    Ok(())
}

fn join(env: &mut Environment<'_>, args: &Args<'_>) -> Outcome {
    let separator = args.text(0);
    let mut out = env.writer();
    for (at, item) in texts(env, &args.value(1))?.items().iter().enumerate() {
        if at > 0 {
            out.push(&separator)?;
        }
        if let Value::Text(text) = item {
            env.gauge.charge_bytes(text.len())?;
            out.push(text)?;
        }
    }
    Ok(out.finish().into())
}

/// Splits at separators into at most `max_parts` parts if `max_parts` is not negative; zero gives `None`.
fn split(
    env: &mut Environment<'_>,
    text: &[u8],
    separator: &[u8],
    max_parts: i64,
) -> Result<Option<Vec<Text>>, Fault> {
    let max_parts = usize::try_from(max_parts).unwrap_or(usize::MAX);
    if max_parts == 0 {
        return Ok(None);
    }
    // With more cuts, the parts would exceed the budget in any case.
    let max_parts = max_parts.min(2 + env.gauge.max_value_size() / 64);
    let cuts: Vec<(usize, usize)> = if separator.is_empty() {
        runes::char_indices(text)
            .skip(1)
            .map(|(at, ..)| (at, at))
            .take(max_parts - 1)
            .collect()
    } else {
        memchr::memmem::find_iter(text, separator)
            .map(|at| (at, at + separator.len()))
            .take(max_parts - 1)
            .collect()
    };
    env.gauge.charge_memory(text.len() + 64 * cuts.len())?;
    if separator.is_empty() && text.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut parts = Vec::with_capacity(cuts.len() + 1);
    let mut from = 0;
    for (start, end) in cuts {
        parts.push(Text::from(&text[from..start]));
        from = end;
    }
    parts.push(Text::from(&text[from..]));
    Ok(Some(parts))
}

/// Numbers the parts `_0`, `_1`, …
fn number_parts(parts: Option<Vec<Text>>) -> Value {
    let parts = parts.unwrap_or_default().into_iter().enumerate();
    let entries: Entries = parts
        .map(|(at, part)| (Text::from(format!("_{at}")), Value::Text(part)))
        .collect();
    Value::Map(Map::unregistered(MapKind::Text, entries))
}
