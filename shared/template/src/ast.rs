//! A parsed template. Positions are byte offsets into the template text. They follow Go's choice of node, so
//! that errors point to the same place as in Go.

use std::sync::Arc;

use crate::functions::Function;
use crate::number::Number;
use crate::text::Text;

pub(crate) type Name = Arc<str>;
pub(crate) type List = Vec<Node>;

#[derive(Debug)]
pub(crate) enum Node {
    Text(Text),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    /// `{{template}}`, and the call that a `{{block}}` contains.
    Call {
        at: usize,
        name: Vec<u8>,
        argument: Option<Pipe>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) body: List,
    pub(crate) otherwise: Option<List>,
}

#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) at: usize,
    /// Variables that are declared or assigned, `$` included.
    pub(crate) variables: Vec<Name>,
    /// Whether the variables are assigned (`=`), not declared (`:=`).
    pub(crate) is_assignment: bool,
    pub(crate) commands: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) at: usize,
    pub(crate) first: Term,
    pub(crate) rest: Vec<Term>,
}

#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) at: usize,
    pub(crate) kind: TermKind,
}

#[derive(Debug)]
pub(crate) enum TermKind {
    Bool(bool),
    Dot,
    Nil,
    Number(Number),
    Text(Text),
    /// `.a.b`
    Field(Vec<Name>),
    /// `$x.a.b`
    Variable(Name, Vec<Name>),
    Function(&'static Function),
    Pipe(Box<Pipe>),
    /// `(pipe).a.b` or `function.a.b`
    Chain(Box<Term>, Vec<Name>),
}
