//! Finds the fields of the data that a template inserts without testing them.

use std::collections::BTreeSet;

use crate::ast::{List, Name, Node, Pipe, Term, TermKind};

/// Functions that handle a missing value.
const TEST_FUNCTIONS: &[&str] = &[
    "and", "coalesce", "default", "dig", "empty", "eq", "fail", "get", "hasKey", "kindIs", "ne",
    "not", "or", "required", "ternary", "typeIs",
];

/// Fields, each as byte offset and name.
type Fields = BTreeSet<(usize, String)>;

/// The first names of a field: `db` and `user` of `.db.user`.
type Names = Vec<String>;

/// Returns the fields of the root that the template inserts, except fields that it also tests, since these may be
/// missing on purpose.
pub(crate) fn inserted_fields(list: &List) -> Fields {
    let found = Walk::new(1).into_inserted(list).into_iter();
    let first = |(at, names): (usize, Names)| Some((at, names.into_iter().next()?));
    found.filter_map(first).collect()
}

/// Returns the first two names of each nested field that the template inserts, under the conditions of
/// [`inserted_fields`].
pub(crate) fn inserted_nested_fields(list: &List) -> BTreeSet<(String, String)> {
    let found = Walk::new(2).into_inserted(list).into_iter();
    let pair = |(_, names): (usize, Names)| <[String; 2]>::try_from(names).ok();
    let pairs = found.filter_map(pair);
    pairs.map(|[outer, inner]| (outer, inner)).collect()
}

struct Walk {
    /// How many names of a field count.
    depth: usize,
    found: BTreeSet<(usize, Names)>,
    tested: BTreeSet<Names>,
}

impl Walk {
    fn new(depth: usize) -> Self {
        let (found, tested) = (BTreeSet::new(), BTreeSet::new());
        Self {
            depth,
            found,
            tested,
        }
    }

    fn into_inserted(mut self, list: &List) -> BTreeSet<(usize, Names)> {
        self.list(list, true);
        let Self {
            mut found, tested, ..
        } = self;
        found.retain(|(_, names)| !tested.contains(names));
        found
    }

    fn list(&mut self, list: &List, is_root: bool) {
        for node in list {
            self.node(node, is_root);
        }
    }

    fn node(&mut self, node: &Node, is_root: bool) {
        let (branch, body_is_root) = match node {
            Node::Action(pipe) => return self.action(pipe, is_root),
            Node::If(branch) => (branch, is_root),
            Node::With(branch) | Node::Range(branch) => (branch, false),
            Node::Text(_) | Node::Call { .. } | Node::Break | Node::Continue => return,
        };
        self.test(&branch.pipe, is_root);
        self.list(&branch.body, body_is_root);
        if let Some(otherwise) = &branch.otherwise {
            self.list(otherwise, is_root);
        }
    }

    fn action(&mut self, pipe: &Pipe, is_root: bool) {
        if pipe.variables.is_empty() && !has_test(pipe) {
            each_field(pipe, is_root, &mut |at, names| {
                self.found.insert((at, first_names(names, self.depth)));
            });
        } else {
            self.test(pipe, is_root);
        }
    }

    fn test(&mut self, pipe: &Pipe, is_root: bool) {
        each_field(pipe, is_root, &mut |_, names| {
            self.tested.insert(first_names(names, self.depth));
        });
    }
}

fn first_names<T: AsRef<str>>(names: &[T], depth: usize) -> Names {
    let names = names.iter().take(depth);
    names.map(|name| name.as_ref().to_owned()).collect()
}

fn terms(pipe: &Pipe) -> impl Iterator<Item = &Term> {
    let commands = pipe.commands.iter();
    commands.flat_map(|command| std::iter::once(&command.first).chain(&command.rest))
}

fn has_test(pipe: &Pipe) -> bool {
    fn is_test(term: &Term) -> bool {
        match &term.kind {
            TermKind::Function(function) => TEST_FUNCTIONS.contains(&function.name),
            TermKind::Pipe(pipe) => has_test(pipe),
            TermKind::Chain(term, _) => is_test(term),
            _ => false,
        }
    }
    terms(pipe).any(is_test)
}

fn each_field(pipe: &Pipe, is_root: bool, take: &mut impl FnMut(usize, &[Name])) {
    fn each_field_in_term(term: &Term, is_root: bool, take: &mut impl FnMut(usize, &[Name])) {
        match &term.kind {
            TermKind::Field(names) if is_root => take(term.at, names),
            TermKind::Variable(variable, names) if **variable == *"$" && !names.is_empty() => {
                take(term.at, names);
            }
            TermKind::Pipe(pipe) => each_field(pipe, is_root, take),
            TermKind::Chain(term, _) => each_field_in_term(term, is_root, take),
            _ => {}
        }
    }
    for term in terms(pipe) {
        each_field_in_term(term, is_root, take);
    }
}
