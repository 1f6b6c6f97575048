//! Upper bounds for the cost of a template's slow functions, independent of the values.

use crate::ast::{Branch, Command, List, Node, Pipe, Term, TermKind};
use crate::budget::cost;
use crate::functions::Function;
use crate::parse::Trees;

/// Key types that are generated quickly.
const CURVES: [&[u8]; 2] = [b"ecdsa", b"ed25519"];

/// Returns an upper bound for the cost of the slow functions in all trees of a template in one rendering, in
/// microseconds as in [`cost`]. A function that may run repeatedly, in a `range` or a named template, is
/// bounded only by the budget.
pub(crate) fn slow_work(trees: &Trees) -> u64 {
    let is_called = trees.values().any(calls);
    let work = trees.values().map(of_list).fold(0, u64::saturating_add);
    if is_called { repeated(work) } else { work }
}

fn repeated(work: u64) -> u64 {
    if work == 0 { 0 } else { u64::MAX }
}

fn calls(list: &List) -> bool {
    list.iter().any(|node| match node {
        Node::Call { .. } => true,
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
            calls(&branch.body) || branch.otherwise.as_ref().is_some_and(calls)
        }
        Node::Text(_) | Node::Break | Node::Continue | Node::Action(_) => false,
    })
}

fn of_list(list: &List) -> u64 {
    list.iter().map(of_node).fold(0, u64::saturating_add)
}

fn of_node(node: &Node) -> u64 {
    match node {
        Node::Text(_) | Node::Break | Node::Continue => 0,
        Node::Action(pipe) => of_pipe(pipe),
        Node::Call { argument, .. } => argument.as_ref().map_or(0, of_pipe),
        Node::If(branch) | Node::With(branch) => of_branch(branch, of_list(&branch.body)),
        Node::Range(branch) => of_branch(branch, repeated(of_list(&branch.body))),
    }
}

fn of_branch(branch: &Branch, body: u64) -> u64 {
    let otherwise = branch.otherwise.as_ref().map_or(0, of_list);
    of_pipe(&branch.pipe)
        .saturating_add(body)
        .saturating_add(otherwise)
}

fn of_pipe(pipe: &Pipe) -> u64 {
    let commands = pipe.commands.iter().map(of_command);
    commands.fold(0, u64::saturating_add)
}

fn of_command(command: &Command) -> u64 {
    let first = match &command.first.kind {
        TermKind::Function(function) => of_call(function, &command.rest),
        _ => of_term(&command.first),
    };
    let rest = command.rest.iter().map(of_term);
    rest.fold(first, u64::saturating_add)
}

/// Returns the bound for one call. The key type may be calculated; only a literal is trusted.
fn of_call(function: &Function, arguments: &[Term]) -> u64 {
    match arguments.first().map(|term| &term.kind) {
        Some(TermKind::Text(kind))
            if function.name == "genPrivateKey" && CURVES.contains(&&kind[..]) =>
        {
            cost::CURVE_KEY
        }
        _ => function.slow,
    }
}

fn of_term(term: &Term) -> u64 {
    match &term.kind {
        TermKind::Function(function) => function.slow,
        TermKind::Pipe(pipe) => of_pipe(pipe),
        TermKind::Chain(term, _) => of_term(term),
        _ => 0,
    }
}
