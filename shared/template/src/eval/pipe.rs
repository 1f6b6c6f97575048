//! Evaluates pipelines, commands and their terms.

use super::Evaluator;
use crate::ast::{Command, Name, Pipe, Term, TermKind};
use crate::error::Fault;
use crate::methods;
use crate::number::Number;
use crate::value::Value;

impl<'t> Evaluator<'t, '_, '_> {
    /// Returns the value of a pipeline; declares or assigns its variables.
    pub(super) fn pipe(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value, Fault> {
        self.at = pipe.at;
        let mut value = None;
        for command in &pipe.commands {
            let result = match self.command(dot, command, value)? {
                Value::Nil => Value::Missing,
                result => result,
            };
            value = Some(result);
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipe.variables {
            if pipe.is_assignment {
                self.assign(name, value.clone())?;
            } else {
                self.env.gauge.charge_steps(1)?;
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    /// Evaluates a command. `last` is the value of the previous command, which becomes the last argument.
    fn command(
        &mut self,
        dot: &Value,
        command: &'t Command,
        last: Option<Value>,
    ) -> Result<Value, Fault> {
        self.env.gauge.charge_steps(1)?;
        let first = &command.first;
        let not_callable = |last: Option<Value>| {
            if command.rest.is_empty() && last.is_none() {
                Ok(())
            } else {
                Err(Fault::misuse(
                    "a value that is not a function takes no arguments",
                ))
            }
        };
        match &first.kind {
            TermKind::Field(names) => {
                self.at = first.at;
                self.fields(dot, dot.clone(), names, &command.rest, last, first.at)
            }
            TermKind::Chain(inner, names) => {
                let receiver = self.chain(dot, first.at, inner)?;
                self.fields(dot, receiver, names, &command.rest, last, first.at)
            }
            TermKind::Function(function) => {
                self.at = first.at;
                self.call(dot, function, None, &command.rest, last, command.at)
            }
            TermKind::Pipe(pipe) => {
                not_callable(last)?;
                self.nest(|this| this.pipe(dot, pipe))
            }
            TermKind::Variable(name, names) => {
                self.at = first.at;
                let value = self.variable(name)?;
                if names.is_empty() {
                    not_callable(last)?;
                    return Ok(value);
                }
                self.fields(dot, value, names, &command.rest, last, first.at)
            }
            _ => {
                self.at = first.at;
                not_callable(last)?;
                match &first.kind {
                    TermKind::Nil => Err(Fault::misuse("nil is not a command")),
                    _ => self.literal(dot, first),
                }
            }
        }
    }

    /// Returns the value of a literal or of the dot, for a parameter of any type.
    pub(super) fn literal(&mut self, dot: &Value, term: &'t Term) -> Result<Value, Fault> {
        self.at = term.at;
        match &term.kind {
            TermKind::Bool(value) => Ok(Value::Bool(*value)),
            TermKind::Text(text) => Ok(Value::Text(text.clone())),
            TermKind::Dot => Ok(dot.clone()),
            TermKind::Number(number) => constant_value(number),
            _ => Err(Fault::misuse("not a value")),
        }
    }

    pub(super) fn chain(
        &mut self,
        dot: &Value,
        at: usize,
        inner: &'t Term,
    ) -> Result<Value, Fault> {
        self.at = at;
        self.nest(|this| this.untyped_value(dot, inner))
    }

    /// Follows fields; the last one may be a method with arguments.
    pub(super) fn fields(
        &mut self,
        dot: &Value,
        mut receiver: Value,
        names: &[Name],
        args: &'t [Term],
        last: Option<Value>,
        at: usize,
    ) -> Result<Value, Fault> {
        let Some((method, inner)) = names.split_last() else {
            return Ok(receiver);
        };
        for name in inner {
            receiver = self.field(dot, receiver, name, &[], None, at)?;
        }
        self.field(dot, receiver, method, args, last, at)
    }

    fn field(
        &mut self,
        dot: &Value,
        receiver: Value,
        name: &str,
        args: &'t [Term],
        last: Option<Value>,
        at: usize,
    ) -> Result<Value, Fault> {
        self.env.gauge.charge_bytes(name.len())?;
        match &receiver {
            Value::Missing => return Ok(Value::Missing),
            Value::Nil => {
                return Err(Fault::field(
                    "nil has no fields; check the value first, with `if` or `with`",
                ));
            }
            _ => {}
        }
        if let Some(method) = methods::find(&receiver, name) {
            return self.call(dot, method, Some(receiver), args, last, at);
        }
        let value = match &receiver {
            Value::Map(map) => map.get(name.as_bytes()).unwrap_or(Value::Missing),
            Value::Certificate(certificate) => certificate
                .field(name)
                .ok_or(Fault::field("a certificate has the fields Cert and Key"))?,
            _ => return Err(Fault::field("this value has no such field or method")),
        };
        if args.is_empty() && last.is_none() {
            Ok(value)
        } else {
            Err(Fault::field(
                "a field takes no arguments; only functions and methods do",
            ))
        }
    }
}

/// Returns the value that a number literal has where any type is allowed: a complex number, a float or an int.
fn constant_value(number: &Number) -> Result<Value, Fault> {
    if let Some((real, imaginary)) = number.complex {
        return Ok(Value::Complex(real, imaginary));
    }
    match (number.float, number.int) {
        (Some(float), _) if number.is_float_literal => Ok(Value::Float(float)),
        (_, Some(int)) => Ok(Value::int(int)),
        _ => Err(Fault::misuse("the integer is too large for an int")),
    }
}
