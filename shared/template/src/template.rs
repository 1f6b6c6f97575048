//! The public API: parse once, render with values.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::ast::{Command, List, Node, Pipe, Term, TermKind};
use crate::budget::{Interrupted, MAX_TOKENS, Meter, ParseBudget, STEPS_PER_TEMPLATE, Unmetered};
use crate::environment::{Context, Environment};
use crate::error::{ErrorKind, Fault, ParseError, RenderError};
use crate::eval::Evaluator;
use crate::fields;
use crate::lex::{self, Token};
use crate::parse::{self, Trees};
use crate::text::Text;
use crate::value::{Entries, Map, MapKind, Value};
use crate::work;

/// A parsed template.
pub struct Template {
    name: String,
    text: String,
    pub(crate) trees: Trees,
    deterministic: bool,
}

impl Template {
    /// Parses `text`; `name`, such as the key under `spec.template.data`, appears in errors.
    ///
    /// # Errors
    /// Returns the position and the reason. Never quotes the text.
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        Self::from_tokens(name, text, &lex::tokens(text, MAX_TOKENS))
    }

    /// Like [`Self::parse`], within a budget that the templates of an object share.
    ///
    /// # Errors
    /// Returns [`Interrupted`] if the meter ends the work; otherwise the result of [`Self::parse`].
    pub fn parse_within(
        name: &str,
        text: &str,
        budget: &mut ParseBudget<'_>,
    ) -> Result<Result<Self, ParseError>, Interrupted> {
        let tokens = budget.tokens(text)?;
        Ok(Self::from_tokens(name, text, &tokens))
    }

    fn from_tokens(name: &str, text: &str, tokens: &[Token<'_>]) -> Result<Self, ParseError> {
        let trees = parse::parse(name, text, tokens).map_err(|(at, reason)| {
            let (line, column) = position(text, at);
            ParseError {
                template: name.to_owned(),
                line,
                column,
                reason,
            }
        })?;
        let deterministic = trees.values().all(list_is_deterministic);
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
            trees,
            deterministic,
        })
    }

    /// Returns the name that was passed to [`Template::parse`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the same values always give the same result: the text contains no function that uses
    /// time or randomness or generates keys, whether it is reached or not.
    ///
    /// Render a template that is not deterministic only once and keep the result; rendering it again changes
    /// passwords.
    pub fn is_deterministic(&self) -> bool {
        self.deterministic
    }

    /// Returns the names of the fields that the template inserts, directly or through functions, with the line of each,
    /// counted from one. A field that the template tests anywhere, or gives a default, is left out: it may be missing.
    /// Templates that are defined with `define` or `block` are not searched.
    pub fn inserted_fields(&self) -> Vec<(String, usize)> {
        let main = self.trees.get(self.name.as_bytes());
        let inserted = main.map(fields::inserted_fields).unwrap_or_default();
        let line = |(at, name): (usize, String)| (name, position(&self.text, at).0);
        inserted.into_iter().map(line).collect()
    }

    /// Returns the first two names of each nested field that the template inserts, such as `db` and `user` of
    /// `.db.user`, under the conditions of [`Self::inserted_fields`].
    pub fn inserted_nested_fields(&self) -> Vec<(String, String)> {
        let main = self.trees.get(self.name.as_bytes());
        let inserted = main.map(fields::inserted_nested_fields);
        inserted.unwrap_or_default().into_iter().collect()
    }

    /// Returns an upper bound on the cost of slow functions in one rendering, in microseconds as in
    /// [`cost`](crate::cost). Depends only on the text. `u64::MAX` if a slow function may run repeatedly.
    pub fn slow_work(&self) -> u64 {
        work::slow_work(&self.trees)
    }

    /// Renders the template with these values. The result is a secret: the caller must keep it out of logs and wipe it.
    /// The cost is deducted from the context's budget, even if the rendering fails.
    ///
    /// # Errors
    /// Returns the position, the function and the reason. Never quotes a value, not even the message of `fail`.
    pub fn render(&self, data: &Data, context: &mut Context<'_>) -> Result<Vec<u8>, RenderError> {
        self.render_within(data, context, &mut Unmetered)
    }

    /// Like [`Self::render`], but reports to a meter before each slow operation, about every 20,000 steps, and at the
    /// end.
    ///
    /// # Errors
    /// Returns the errors of [`Self::render`], and [`Limit::Interrupted`](crate::Limit::Interrupted) if the meter ends
    /// the rendering.
    pub fn render_within(
        &self,
        data: &Data,
        context: &mut Context<'_>,
        meter: &mut dyn Meter,
    ) -> Result<Vec<u8>, RenderError> {
        let output = context.budget.output;
        let mut environment = Environment::new(context, meter);
        let start = environment.gauge.charge_steps(STEPS_PER_TEMPLATE);
        let dot = start.and_then(|()| data.dot(&mut environment));
        let mut evaluator = Evaluator::new(self, &mut environment, output);
        let run = dot.and_then(|dot| evaluator.run(self.name.as_bytes(), &dot));
        let result = match run {
            Ok(()) => Ok(evaluator.into_bytes()),
            Err(fault) => Err(self.error(fault, evaluator.at, evaluator.function)),
        };
        if environment.changed_text_map {
            data.forget_dot();
        }
        let mut remaining = environment.gauge.remaining();
        drop(environment);
        remaining.output = output.saturating_sub(result.as_ref().map_or(0, Vec::len));
        context.budget = remaining;
        result
    }

    fn error(&self, fault: Fault, at: usize, function: Option<&'static str>) -> RenderError {
        let (line, column) = position(&self.text, at);
        let function = function.filter(|_| {
            matches!(
                fault.kind,
                ErrorKind::Argument | ErrorKind::Failed | ErrorKind::Limit(_)
            )
        });
        RenderError {
            template: self.name.clone(),
            line,
            column,
            function,
            kind: fault.kind,
            reason: fault.reason,
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Returns line and column of a byte offset, both counted from 1, the column in bytes.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = memchr::memchr_iter(b'\n', before).count();
    let start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    (line + 1, before.len() - start + 1)
}

/// The values that a template sees as its dot, by key, such as decrypted items. Wiped on drop, and hidden in `Debug`.
#[derive(Default)]
pub struct Data {
    values: BTreeMap<Text, Text>,
    /// Values that a template sees as `.GROUP.KEY`. If there are any, `.` contains nothing else.
    groups: BTreeMap<Text, BTreeMap<Text, Text>>,
    /// The map that templates see. It is created once for all templates that do not change it: an author can write as
    /// many templates as values, and a copy for each would cost the square of their number.
    dot: RefCell<Option<Map>>,
}

impl Clone for Data {
    fn clone(&self) -> Self {
        Self {
            values: self.values.clone(),
            groups: self.groups.clone(),
            dot: RefCell::default(),
        }
    }
}

impl Data {
    /// Collects values by key. If a key occurs several times, the last value is used.
    pub fn new<K: AsRef<str>, V: Into<Vec<u8>>>(values: impl IntoIterator<Item = (K, V)>) -> Self {
        values.into_iter().collect()
    }

    /// Adds a value or replaces it.
    pub fn insert(&mut self, key: &str, value: impl Into<Vec<u8>>) {
        self.values
            .insert(Text::from(key), Text::from(value.into()));
        self.forget_dot();
    }

    /// Adds a value that a template sees as `.GROUP.KEY`. If there are any groups, templates see only groups.
    pub fn insert_in_group(&mut self, group: &str, key: &str, value: impl Into<Vec<u8>>) {
        let group = self.groups.entry(Text::from(group)).or_default();
        group.insert(Text::from(key), Text::from(value.into()));
    }

    /// Returns the map that a template sees. Charges for its creation.
    fn dot(&self, environment: &mut Environment<'_>) -> Result<Value, Fault> {
        if !self.groups.is_empty() {
            return self.dot_of_groups(environment);
        }
        let gauge = &mut environment.gauge;
        let mut dot = self.dot.borrow_mut();
        if let Some(map) = &*dot {
            return Ok(Value::Map(map.clone()));
        }
        gauge.charge_steps(self.values.len())?;
        let text = |(key, value): (&Text, &Text)| (key.clone(), Value::Text(value.clone()));
        let entries = self.values.iter().map(text).collect();
        let map = dot.insert(Map::unregistered(MapKind::Text, entries));
        Ok(Value::Map(map.clone()))
    }

    /// Returns a map of maps, which the environment empties at the end: a template can put the map into itself.
    fn dot_of_groups(&self, environment: &mut Environment<'_>) -> Result<Value, Fault> {
        let mut groups = Entries::new();
        for (group, values) in &self.groups {
            environment.gauge.charge_steps(values.len())?;
            let values = values.iter();
            let values = values.map(|(key, value)| (key.clone(), Value::Text(value.clone())));
            let map = Map::unregistered(MapKind::Text, values.collect());
            groups.insert(group.clone(), Value::Map(map));
        }
        environment.new_map(groups).map(Value::Map)
    }

    /// Makes the next template see a new map.
    fn forget_dot(&self) {
        self.dot.take();
    }
}

impl<K: AsRef<str>, V: Into<Vec<u8>>> FromIterator<(K, V)> for Data {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut data = Self::default();
        for (key, value) in items {
            data.insert(key.as_ref(), value);
        }
        data
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("count", &(self.values.len() + self.groups.len()))
            .finish_non_exhaustive()
    }
}

fn list_is_deterministic(list: &List) -> bool {
    list.iter().all(|node| match node {
        Node::Text(_) | Node::Break | Node::Continue => true,
        Node::Action(pipe) => pipe_is_deterministic(pipe),
        Node::Call { argument, .. } => argument.as_ref().is_none_or(pipe_is_deterministic),
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            pipe_is_deterministic(&branch.pipe)
                && list_is_deterministic(&branch.body)
                && branch.otherwise.as_ref().is_none_or(list_is_deterministic)
        }
    })
}

fn pipe_is_deterministic(pipe: &Pipe) -> bool {
    pipe.commands.iter().all(|Command { first, rest, .. }| {
        term_is_deterministic(first) && rest.iter().all(term_is_deterministic)
    })
}

fn term_is_deterministic(term: &Term) -> bool {
    match &term.kind {
        TermKind::Function(function) => function.deterministic,
        TermKind::Pipe(pipe) => pipe_is_deterministic(pipe),
        TermKind::Chain(term, _) => term_is_deterministic(term),
        _ => true,
    }
}
