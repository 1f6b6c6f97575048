//! Finds the fields of the data that a template inserts without testing them.

use std::collections::BTreeSet;

use crate::ast::{List, Node, Pipe, Term, TermKind};

/// Functions that handle a missing value.
const TEST_FUNCTIONS: &[&str] = &[
    "and", "coalesce", "default", "dig", "empty", "eq", "fail", "get", "hasKey", "kindIs", "ne",
    "not", "or", "required", "ternary", "typeIs",
];

/// Fields, each as byte offset and name.
type Fields = BTreeSet<(usize, String)>;

/// Returns the fields of the root that the template inserts, except fields that it also tests, since these may be
/// missing on purpose.
pub(crate) fn inserted_fields(list: &List) -> Fields {
    let mut walk = Walk::default();
    walk.list(list, true);
    let Walk {
        mut inserted,
        tested,
    } = walk;
    inserted.retain(|(_, name)| !tested.contains(name));
    inserted
}

#[derive(Default)]
struct Walk {
    inserted: Fields,
    tested: BTreeSet<String>,
}

impl Walk {
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
            each_field(pipe, is_root, &mut |at, name| {
                self.inserted.insert((at, name.to_owned()));
            });
        } else {
            self.test(pipe, is_root);
        }
    }

    fn test(&mut self, pipe: &Pipe, is_root: bool) {
        each_field(pipe, is_root, &mut |_, name| {
            self.tested.insert(name.to_owned());
        });
    }
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

fn each_field(pipe: &Pipe, is_root: bool, take: &mut impl FnMut(usize, &str)) {
    fn each_field_in_term(term: &Term, is_root: bool, take: &mut impl FnMut(usize, &str)) {
        match &term.kind {
            TermKind::Field(names) if is_root => {
                names.iter().take(1).for_each(|name| take(term.at, name));
            }
            TermKind::Variable(variable, names) if **variable == *"$" => {
                names.iter().take(1).for_each(|name| take(term.at, name));
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
