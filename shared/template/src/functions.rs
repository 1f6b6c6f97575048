//! The template functions: Go's own and sprig's, one module per kind.

#![allow(
    clippy::unnecessary_wraps,
    reason = "all functions in the table have the same signature"
)]

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::environment::Environment;
use crate::error::Fault;
use crate::text::Text;
use crate::value::{List, ListKind, Map, Value};

mod builtin;
mod camel;
mod cast;
mod collections;
mod crypto;
mod decimal;
mod defaults;
mod dicts;
mod encoding;
mod equality;
mod lists;
mod math;
mod merge;
mod paths;
mod random;
mod regex;
mod slow;
mod strings;
mod times;
mod words;

pub(crate) use encoding::decode64;
pub(crate) use equality::deep_equal;
pub(crate) use times::charge_layout;

/// Encodes each byte as two lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The result of a template function.
pub(crate) type Outcome = Result<Value, Fault>;

/// The Go type of a parameter. Arguments are not converted to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// `interface {}`
    Any,
    /// `reflect.Value`: like `Any`, but a missing value stays missing.
    Raw,
    Text,
    Int,
    Uint32,
    Float,
    Bool,
    /// `map[string]interface {}`
    Dict,
    /// `[]interface {}`
    Items,
    Time,
    Duration,
    Version,
    Certificate,
}

/// How the arguments of a function are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evaluation {
    /// Every argument, before the call.
    Eager,
    And,
    Or,
}

/// A template function, or a method of a value.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Type],
    /// The type of further arguments, if the function takes any number of them.
    pub(crate) rest: Option<Type>,
    pub(crate) evaluation: Evaluation,
    /// Whether the same arguments always give the same result.
    pub(crate) deterministic: bool,
    /// Upper bound for the cost of one call in addition to its steps, in microseconds.
    pub(crate) max_cost: u64,
    pub(crate) run: fn(&mut Environment<'_>, &Args<'_>) -> Outcome,
}

impl Function {
    pub(crate) const fn new(
        name: &'static str,
        params: &'static [Type],
        run: fn(&mut Environment<'_>, &Args<'_>) -> Outcome,
    ) -> Self {
        Self {
            name,
            params,
            rest: None,
            evaluation: Evaluation::Eager,
            deterministic: true,
            max_cost: 0,
            run,
        }
    }

    const fn rest(mut self, kind: Type) -> Self {
        self.rest = Some(kind);
        self
    }

    const fn evaluation(mut self, evaluation: Evaluation) -> Self {
        self.evaluation = evaluation;
        self
    }

    /// Marks a function that uses time or randomness, or generates keys.
    const fn non_deterministic(mut self) -> Self {
        self.deterministic = false;
        self
    }

    /// Marks a slow function, with an upper bound on its cost.
    const fn slow(mut self, max_cost: u64) -> Self {
        self.max_cost = max_cost;
        self
    }
}

/// Arguments whose number and types are already checked. A missing argument reads as an empty value.
pub(crate) struct Args<'a>(pub(crate) &'a [Value]);

impl Args<'_> {
    pub(crate) fn value(&self, at: usize) -> Value {
        self.0.get(at).cloned().unwrap_or(Value::Nil)
    }

    pub(crate) fn rest(&self, from: usize) -> &[Value] {
        self.0.get(from..).unwrap_or_default()
    }

    pub(crate) fn text(&self, at: usize) -> Text {
        match self.0.get(at) {
            Some(Value::Text(text)) => text.clone(),
            _ => Text::empty(),
        }
    }

    pub(crate) fn int(&self, at: usize) -> i64 {
        match self.0.get(at) {
            Some(Value::Int(int)) => int.bits,
            _ => 0,
        }
    }

    pub(crate) fn float(&self, at: usize) -> f64 {
        match self.0.get(at) {
            Some(Value::Float(float)) => *float,
            _ => 0.0,
        }
    }

    pub(crate) fn bool(&self, at: usize) -> bool {
        matches!(self.0.get(at), Some(Value::Bool(true)))
    }

    pub(crate) fn map(&self, at: usize) -> Map {
        match self.0.get(at) {
            Some(Value::Map(map)) => map.clone(),
            _ => Map::nil(),
        }
    }

    pub(crate) fn list(&self, at: usize) -> List {
        match self.0.get(at) {
            Some(Value::List(list)) => list.clone(),
            _ => List::nil(ListKind::Any),
        }
    }
}

static TABLES: &[&[Function]] = &[
    builtin::FUNCTIONS,
    camel::FUNCTIONS,
    cast::FUNCTIONS,
    collections::FUNCTIONS,
    crypto::FUNCTIONS,
    defaults::FUNCTIONS,
    dicts::FUNCTIONS,
    encoding::FUNCTIONS,
    lists::FUNCTIONS,
    math::FUNCTIONS,
    merge::FUNCTIONS,
    paths::FUNCTIONS,
    random::FUNCTIONS,
    regex::FUNCTIONS,
    slow::FUNCTIONS,
    strings::FUNCTIONS,
    times::FUNCTIONS,
    words::FUNCTIONS,
];

/// Returns the function with this name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Function>> = LazyLock::new(|| {
        all_functions()
            .map(|function| (function.name, function))
            .collect()
    });
    BY_NAME.get(name).copied()
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all_functions().map(|function| function.name)
}

fn all_functions() -> impl Iterator<Item = &'static Function> {
    TABLES.iter().flat_map(|table| table.iter())
}
