//! Upper bounds for the cost of a template's slow functions, independent of the values.

use crate::ast::{Branch, Command, List, Node, Pipe, Term, TermKind};
use crate::budget::cost;
use crate::functions::Function;
use crate::parse::Trees;

/// Names of the key types that are generated quickly.
const CURVES: [&[u8]; 2] = [b"ecdsa", b"ed25519"];

/// Returns an upper bound on the cost of the slow functions in all trees of a template in one rendering, in
/// microseconds as in [`cost`]. `u64::MAX` if a slow function is in the body of a `range`, or if there is one and a
/// tree calls a template, because the function may then run repeatedly.
pub(crate) fn slow_work(trees: &Trees) -> u64 {
    let is_called = trees.values().any(has_call);
    let work = trees.values().map(list_work).fold(0, u64::saturating_add);
    if is_called { repeated_work(work) } else { work }
}

fn repeated_work(work: u64) -> u64 {
    if work == 0 { 0 } else { u64::MAX }
}

fn has_call(list: &List) -> bool {
    list.iter().any(|node| match node {
        Node::Call { .. } => true,
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            has_call(&branch.body) || branch.otherwise.as_ref().is_some_and(has_call)
        }
        Node::Text(_) | Node::Break | Node::Continue | Node::Action(_) => false,
    })
}

fn list_work(list: &List) -> u64 {
    list.iter().map(node_work).fold(0, u64::saturating_add)
}

fn node_work(node: &Node) -> u64 {
    match node {
        Node::Text(_) | Node::Break | Node::Continue => 0,
        Node::Action(pipe) => pipe_work(pipe),
        Node::Call { argument, .. } => argument.as_ref().map_or(0, pipe_work),
        Node::If(branch) | Node::With(branch) => branch_work(branch, list_work(&branch.body)),
        Node::Range(branch) => branch_work(branch, repeated_work(list_work(&branch.body))),
    }
}

fn branch_work(branch: &Branch, body: u64) -> u64 {
    let otherwise = branch.otherwise.as_ref().map_or(0, list_work);
    pipe_work(&branch.pipe)
        .saturating_add(body)
        .saturating_add(otherwise)
}

fn pipe_work(pipe: &Pipe) -> u64 {
    let commands = pipe.commands.iter().map(command_work);
    commands.fold(0, u64::saturating_add)
}

fn command_work(command: &Command) -> u64 {
    let first = match &command.first.kind {
        TermKind::Function(function) => call_work(function, &command.rest),
        _ => term_work(&command.first),
    };
    let rest = command.rest.iter().map(term_work);
    rest.fold(first, u64::saturating_add)
}

/// Returns the bound for one call. Assumes the slowest key type unless the type is a literal.
fn call_work(function: &Function, arguments: &[Term]) -> u64 {
    match arguments.first().map(|term| &term.kind) {
        Some(TermKind::Text(kind))
            if function.name == "genPrivateKey" && CURVES.contains(&&kind[..]) =>
        {
            cost::CURVE_KEY
        }
        _ => function.max_cost,
    }
}

fn term_work(term: &Term) -> u64 {
    match &term.kind {
        TermKind::Function(function) => function.max_cost,
        TermKind::Pipe(pipe) => pipe_work(pipe),
        TermKind::Chain(term, _) => term_work(term),
        _ => 0,
    }
}
