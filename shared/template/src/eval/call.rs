//! Function calls: checks the arguments against the parameter types of the Go function.

use super::Evaluator;
use crate::ast::{Term, TermKind};
use crate::error::Fault;
use crate::functions::{Args, Evaluation, Function, Type};
use crate::value::{Int, IntKind, List, ListKind, Map, MapKind, Pointer, Value};

impl<'t> Evaluator<'t, '_, '_> {
    /// Calls a function, or a method with its receiver. `last` comes from the pipeline; a failure is reported
    /// at `at`.
    pub(super) fn call(
        &mut self,
        dot: &Value,
        function: &'static Function,
        receiver: Option<Value>,
        args: &'t [Term],
        last: Option<Value>,
        at: usize,
    ) -> Result<Value, Fault> {
        self.function = Some(function.name);
        let count = args.len() + usize::from(last.is_some());
        let fixed = function.params.len();
        if count < fixed || count > fixed && function.rest.is_none() {
            return Err(Fault::argument("too few or too many arguments"));
        }
        let value = self.nest(|this| match function.evaluation {
            Evaluation::And | Evaluation::Or => {
                this.short_circuit(dot, function.evaluation, args, last)
            }
            Evaluation::Eager => {
                let values = this.arguments(dot, function, receiver, args, last)?;
                let outcome = this.apply(function, &values);
                if outcome.is_err() {
                    this.at = at; // only here, as in Go: other errors point to the node visited last
                }
                outcome
            }
        })?;
        self.function = None;
        Ok(value)
    }

    fn apply(&mut self, function: &'static Function, values: &[Value]) -> Result<Value, Fault> {
        self.function = Some(function.name);
        self.charge(values)?;
        let value = (function.run)(self.env, &Args(values))?;
        self.env.gauge.charge_memory(value.size())?;
        Ok(value)
    }

    fn charge(&mut self, values: &[Value]) -> Result<(), Fault> {
        for value in values {
            match value {
                Value::List(list) => self.env.gauge.charge_steps(1 + list.len())?,
                Value::Map(map) => self.env.gauge.charge_steps(1 + map.len())?,
                _ => self.env.gauge.charge_steps(value.cost())?,
            }
        }
        Ok(())
    }

    fn arguments(
        &mut self,
        dot: &Value,
        function: &'static Function,
        receiver: Option<Value>,
        args: &'t [Term],
        last: Option<Value>,
    ) -> Result<Vec<Value>, Fault> {
        let mut values: Vec<Value> = receiver.into_iter().collect();
        let kind = |at: usize| {
            function
                .params
                .get(at)
                .copied()
                .or(function.rest)
                .unwrap_or(Type::Any)
        };
        for (at, term) in args.iter().enumerate() {
            let value = self.argument(dot, kind(at), term)?;
            self.function = Some(function.name);
            values.push(value);
        }
        if let Some(last) = last {
            values.push(check_type(last, kind(args.len()))?);
        }
        Ok(values)
    }

    /// Evaluates the arguments of `and` and `or` only as far as needed.
    fn short_circuit(
        &mut self,
        dot: &Value,
        evaluation: Evaluation,
        args: &'t [Term],
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        let mut value = Value::Missing;
        for term in args {
            self.env.gauge.charge_steps(1)?;
            value = self.argument(dot, Type::Raw, term)?;
            if value.truth() == (evaluation == Evaluation::Or) {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// Returns the value of a term that is not a literal, or of a literal for a parameter of any type.
    pub(super) fn untyped_value(&mut self, dot: &Value, term: &'t Term) -> Result<Value, Fault> {
        self.at = term.at;
        self.env.gauge.charge_steps(1)?;
        match &term.kind {
            TermKind::Field(names) => self.fields(dot, dot.clone(), names, &[], None, term.at),
            TermKind::Variable(name, names) => {
                let value = self.variable(name)?;
                self.fields(dot, value, names, &[], None, term.at)
            }
            TermKind::Pipe(pipe) => self.pipe(dot, pipe),
            TermKind::Function(function) => self.call(dot, function, None, &[], None, term.at),
            TermKind::Chain(inner, names) => {
                let receiver = self.chain(dot, term.at, inner)?;
                self.fields(dot, receiver, names, &[], None, term.at)
            }
            TermKind::Nil => Err(Fault::misuse("nil has no fields")),
            _ => self.literal(dot, term),
        }
    }

    fn argument(&mut self, dot: &Value, kind: Type, term: &'t Term) -> Result<Value, Fault> {
        self.at = term.at;
        match (&term.kind, kind) {
            (TermKind::Nil, _) => {
                nil_value(kind).ok_or(Fault::argument("nil is not allowed as this argument"))
            }
            (TermKind::Dot, _) => check_type(dot.clone(), kind),
            (
                TermKind::Bool(_) | TermKind::Number(_) | TermKind::Text(_),
                Type::Any | Type::Raw,
            ) => self.literal(dot, term),
            (TermKind::Bool(value), Type::Bool) => Ok(Value::Bool(*value)),
            (TermKind::Text(text), Type::Text) => Ok(Value::Text(text.clone())),
            (TermKind::Number(number), Type::Int | Type::Duration | Type::Uint32) => {
                let bits = match kind {
                    Type::Uint32 => number.uint.map(|value| (value & 0xffff_ffff).cast_signed()),
                    _ => number.int,
                };
                let bits = bits.ok_or(Fault::argument("an integer is needed here"))?;
                Ok(Value::Int(Int {
                    kind: int_kind(kind),
                    bits,
                }))
            }
            (TermKind::Number(number), Type::Float) => number
                .float
                .map(Value::Float)
                .ok_or(Fault::argument("a number is needed here")),
            (TermKind::Bool(_) | TermKind::Number(_) | TermKind::Text(_), _) => {
                Err(Fault::argument("wrong type of literal"))
            }
            _ => {
                let value = self.nest(|this| this.untyped_value(dot, term))?;
                check_type(value, kind)
            }
        }
    }
}

fn int_kind(kind: Type) -> IntKind {
    match kind {
        Type::Duration => IntKind::Duration,
        Type::Uint32 => IntKind::Uint32,
        _ => IntKind::Int,
    }
}

/// Returns the value of a literal nil for this type, if the type allows nil.
fn nil_value(kind: Type) -> Option<Value> {
    match kind {
        Type::Any | Type::Version => Some(Value::Nil),
        Type::Raw => Some(Value::Missing),
        Type::Dict => Some(Value::Map(Map::nil())),
        Type::Items => Some(Value::List(List::nil(ListKind::Any))),
        _ => None,
    }
}

/// Returns the value if it is an argument of this type. A missing value stays missing for [`Type::Raw`] and
/// becomes nil for other types that allow nil; no other value is converted, as in Go: an int64 is not an int.
fn check_type(value: Value, kind: Type) -> Result<Value, Fault> {
    if matches!(value, Value::Missing) {
        return nil_value(kind).ok_or(Fault::argument(
            "this argument has no value; a key may be missing",
        ));
    }
    let fits = match (kind, &value) {
        (Type::Any | Type::Raw, _)
        | (Type::Text, Value::Text(_))
        | (Type::Float, Value::Float(_))
        | (Type::Bool, Value::Bool(_))
        | (Type::Time, Value::Time(_))
        | (Type::Version, Value::Version(_, Pointer::Yes))
        | (Type::Certificate, Value::Certificate(_)) => true,
        (Type::Dict, Value::Map(map)) => map.kind == MapKind::Any,
        (Type::Items, Value::List(list)) => list.kind == ListKind::Any,
        (Type::Int | Type::Duration | Type::Uint32, Value::Int(int)) => int.kind == int_kind(kind),
        _ => false,
    };
    if fits {
        Ok(value)
    } else {
        Err(Fault::argument(type_mismatch_text(kind)))
    }
}

fn type_mismatch_text(kind: Type) -> &'static str {
    match kind {
        Type::Text => "wrong type of argument; a string is needed",
        Type::Int => "wrong type of argument; an int is needed: convert the argument with `int`",
        Type::Uint32 => "wrong type of argument; an integer literal is needed",
        Type::Float => {
            "wrong type of argument; a float64 is needed: convert the argument with `float64`"
        }
        Type::Bool => "wrong type of argument; true or false is needed",
        Type::Dict => {
            "wrong type of argument; a dict is needed, such as the result of `dict`; `.` is not a dict: read its \
             values with `index . \"NAME\"`"
        }
        Type::Items => "wrong type of argument; a list is needed, such as the result of `list`",
        Type::Time => "wrong type of argument; a time is needed",
        Type::Duration => "wrong type of argument; a duration is needed",
        Type::Version => {
            "wrong type of argument; a version is needed: parse the argument with `semver`"
        }
        Type::Certificate => {
            "wrong type of argument; a certificate is needed, such as the result of `genCA`"
        }
        Type::Any | Type::Raw => "wrong type of argument",
    }
}
