//! Evaluates a parsed template and writes the result.

use crate::ast::{Branch, List, Name, Node, Pipe};
use crate::environment::Environment;
use crate::error::{Fault, Limit};
use crate::fmt;
use crate::template::Template;
use crate::text::Writer;
use crate::value::Value;

mod call;
mod pipe;

/// One rendering in progress.
pub(crate) struct Evaluator<'t, 'e, 'c> {
    template: &'t Template,
    env: &'e mut Environment<'c>,
    out: Writer,
    variables: Vec<(Name, Value)>,
    /// Variables below this index belong to outer templates.
    scope_start: usize,
    depth: usize,
    /// The node being evaluated, for errors.
    pub(crate) at: usize,
    /// The function being called, for errors.
    pub(crate) function: Option<&'static str>,
}

/// How the evaluation of a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'t, 'e, 'c> Evaluator<'t, 'e, 'c> {
    pub(crate) fn new(template: &'t Template, env: &'e mut Environment<'c>, output: usize) -> Self {
        Self {
            template,
            env,
            out: Writer::new(output, Limit::Output),
            variables: Vec::new(),
            scope_start: 0,
            depth: 0,
            at: 0,
            function: None,
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    pub(crate) fn run(&mut self, name: &[u8], dot: &Value) -> Result<(), Fault> {
        let result = self.template(name, dot);
        let reported = self.env.gauge.report_steps();
        result.and(reported)
    }

    fn template(&mut self, name: &[u8], dot: &Value) -> Result<(), Fault> {
        let template = self.template;
        let tree = template
            .trees
            .get(name)
            .ok_or(Fault::undefined("a template of this name is not defined"))?;
        let outer = std::mem::replace(&mut self.scope_start, self.variables.len());
        self.variables.push(("$".into(), dot.clone()));
        self.list(dot, tree)?;
        self.variables.truncate(self.scope_start);
        self.scope_start = outer;
        Ok(())
    }

    /// Runs `work` one nesting level deeper.
    fn nest<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > self.env.gauge.max_depth() {
            return Err(Fault::limit(Limit::Depth));
        }
        let result = work(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn list(&mut self, dot: &Value, list: &'t List) -> Result<Flow, Fault> {
        self.nest(|this| {
            for node in list {
                let flow = this.node(dot, node)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn node(&mut self, dot: &Value, node: &'t Node) -> Result<Flow, Fault> {
        self.env.gauge.charge_steps(1)?;
        match node {
            Node::Text(text) => self.out.push(text)?,
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.at = pipe.at;
                    self.print(&value)?;
                }
            }
            Node::If(branch) => return self.branch(dot, branch, false),
            Node::With(branch) => return self.branch(dot, branch, true),
            Node::Range(branch) => return self.range(dot, branch),
            Node::Call { at, name, argument } => self.invoke(dot, *at, name, argument.as_ref())?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Result<(), Fault> {
        match value {
            Value::Missing => self.out.str("<no value>"),
            Value::Text(text) => self.out.push(text),
            _ => {
                let writer = self.env.writer();
                let text = fmt::print(writer, std::slice::from_ref(value), &mut self.env.gauge)?;
                self.out.push(&text)
            }
        }
    }

    fn branch(&mut self, dot: &Value, branch: &'t Branch, with: bool) -> Result<Flow, Fault> {
        let mark = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let flow = if value.truth() {
            self.list(if with { &value } else { dot }, &branch.body)?
        } else if let Some(otherwise) = &branch.otherwise {
            self.list(dot, otherwise)?
        } else {
            Flow::Next
        };
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn range(&mut self, dot: &Value, branch: &'t Branch) -> Result<Flow, Fault> {
        self.at = branch.pipe.at;
        let outer = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let mark = self.variables.len();
        let mut has_run = false;
        match value {
            Value::List(list) => {
                // Takes the items one by one: a copy of the list would cost its whole length, even if the
                // first iteration breaks.
                for at in 0..list.len() {
                    has_run = true;
                    let item = list.item(at).unwrap_or(Value::Nil);
                    if !self.run_iteration(branch, mark, &Value::count(at), &item)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                self.env.gauge.charge_steps(map.len())?;
                let entries: Vec<_> = map
                    .entries()
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                for (key, item) in entries {
                    has_run = true;
                    if !self.run_iteration(branch, mark, &Value::Text(key), &item)? {
                        break;
                    }
                }
            }
            Value::Int(int) => {
                if branch.pipe.variables.len() > 1 {
                    return Err(Fault::misuse(
                        "a range over a number can declare only one variable",
                    ));
                }
                for count in 0..int.to_i128() {
                    has_run = true;
                    let bits = i64::try_from(count).unwrap_or(i64::MAX);
                    let item = Value::Int(crate::value::Int {
                        kind: int.kind,
                        bits,
                    });
                    if !self.run_iteration(branch, mark, &Value::Missing, &item)? {
                        break;
                    }
                }
            }
            Value::Missing | Value::Nil => {}
            _ => return Err(Fault::misuse("range needs a list, a map or an integer")),
        }
        let flow = match &branch.otherwise {
            Some(otherwise) if !has_run => match self.list(dot, otherwise)? {
                Flow::Break => Flow::Next, // as in Go, `break` ends this range, not the one around it
                flow => flow,
            },
            _ => Flow::Next,
        };
        self.variables.truncate(outer);
        Ok(flow)
    }

    /// Runs one iteration; returns false after a `break`.
    fn run_iteration(
        &mut self,
        branch: &'t Branch,
        mark: usize,
        index: &Value,
        item: &Value,
    ) -> Result<bool, Fault> {
        self.env.gauge.charge_steps(1)?;
        let pipe = &branch.pipe;
        match (&pipe.variables[..], pipe.is_assignment) {
            ([], _) => {}
            ([only], true) => self.assign(only, item.clone())?,
            ([first, second, ..], true) => {
                self.assign(first, index.clone())?;
                self.assign(second, item.clone())?;
            }
            ([_], false) => self.set_from_top(1, item.clone()),
            ([_, _, ..], false) => {
                self.set_from_top(1, item.clone());
                self.set_from_top(2, index.clone());
            }
        }
        let flow = self.list(item, &branch.body)?;
        self.variables.truncate(mark);
        Ok(flow != Flow::Break)
    }

    fn set_from_top(&mut self, distance: usize, value: Value) {
        if let Some(at) = self.variables.len().checked_sub(distance) {
            self.variables[at].1 = value;
        }
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<(), Fault> {
        let at = self.variable_index(name)?.ok_or(Fault::undefined(
            "cannot assign to a variable that is not declared; use := first",
        ))?;
        self.variables[at].1 = value;
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<Value, Fault> {
        let at = self
            .variable_index(name)?
            .ok_or(Fault::undefined("the variable is not declared"))?;
        Ok(self.variables[at].1.clone())
    }

    /// Returns the index of the innermost variable with this name; `None` if it is not declared. Charges for the
    /// search, because a template may declare thousands of variables.
    fn variable_index(&mut self, name: &str) -> Result<Option<usize>, Fault> {
        let scope = &self.variables[self.scope_start..];
        let depth_from_top = scope.iter().rev().position(|(other, _)| **other == *name);
        let visited = depth_from_top.unwrap_or(scope.len()) + 1;
        self.env
            .gauge
            .charge_steps(visited * (1 + name.len() / 64) / 64)?;
        Ok(depth_from_top.map(|depth_from_top| self.variables.len() - 1 - depth_from_top))
    }

    fn invoke(
        &mut self,
        dot: &Value,
        at: usize,
        name: &[u8],
        argument: Option<&'t Pipe>,
    ) -> Result<(), Fault> {
        self.at = at;
        self.env.gauge.charge_bytes(name.len())?;
        if !self.template.trees.contains_key(name) {
            return Err(Fault::undefined("a template of this name is not defined"));
        }
        let dot = argument.map_or(Ok(Value::Missing), |pipe| self.pipe(dot, pipe))?;
        self.nest(|this| this.template(name, &dot))
    }
}
