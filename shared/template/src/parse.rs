//! Parses tokens to a tree, with the checks of Go's parser.

use std::collections::{HashMap, HashSet};

use crate::ast::{Branch, Command, List, Name, Node, Pipe, Term, TermKind};
use crate::functions;
use crate::lex::{Keyword, Kind, Token};
use crate::number::Number;
use crate::quote;
use crate::text::Text;

/// Maximum nesting of blocks, else branches and parentheses together; Go allows 10,000 parentheses and any number of
/// blocks.
const MAX_NESTING: usize = 100;
const INVALID_CHARACTER: &str =
    "a character literal must contain exactly one character or valid escape sequence";
const INVALID_ESCAPE: &str = "invalid escape sequence in a quoted string";
const TOO_DEEP: &str =
    "blocks, else branches and parentheses together are nested more than 100 levels deep";

/// Offset and reason of a parse error.
pub(crate) type ErrorAt = (usize, &'static str);
type ParseResult<T> = Result<T, ErrorAt>;

/// The named trees of one template text; the main tree has the template's own name.
pub(crate) type Trees = HashMap<Vec<u8>, List>;

/// Parses the tokens of `text`.
pub(crate) fn parse(name: &str, text: &str, tokens: &[Token<'_>]) -> ParseResult<Trees> {
    let mut parser = Parser {
        tokens,
        next: 0,
        variables: Scope::new(),
        loops: 0,
        nested: 0,
        trees: Trees::new(),
        filled: HashSet::new(),
    };
    let main = parser.main()?;
    parser.add(name.as_bytes().to_vec(), main, text.len())?;
    Ok(parser.trees)
}

struct Parser<'t> {
    tokens: &'t [Token<'t>],
    next: usize,
    variables: Scope,
    loops: usize,
    nested: usize,
    trees: Trees,
    /// Names of the trees that are not blank: searching a long blank text at each definition would be
    /// quadratic.
    filled: HashSet<Vec<u8>>,
}

/// Variables in scope, innermost last. Also counts them by name, because a search through all of them at each use would
/// be quadratic.
struct Scope {
    names: Vec<Name>,
    counts: HashMap<Name, usize>,
}

impl Scope {
    fn new() -> Self {
        let mut scope = Self {
            names: Vec::new(),
            counts: HashMap::new(),
        };
        scope.push("$");
        scope
    }

    fn push(&mut self, name: &str) {
        let name = self.lookup(name).unwrap_or_else(|| name.into());
        *self.counts.entry(Name::clone(&name)).or_default() += 1;
        self.names.push(name);
    }

    fn lookup(&self, name: &str) -> Option<Name> {
        let (name, _) = self.counts.get_key_value(name)?;
        Some(Name::clone(name))
    }

    fn truncate(&mut self, len: usize) {
        for name in self.names.drain(len..) {
            if let Some(count) = self.counts.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&name);
                }
            }
        }
    }
}

/// The keyword that ended a list of nodes.
#[derive(PartialEq, Eq)]
enum Stop {
    End,
    Else,
}

/// The position of a pipeline, on which some checks depend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Range,
    Paren,
    Other,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Token<'t> {
        self.tokens[self.next]
    }

    fn take(&mut self) -> Token<'t> {
        let token = self.tokens[self.next];
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.take();
        }
    }

    fn take_nonspace(&mut self) -> Token<'t> {
        self.skip_space();
        self.take()
    }

    fn peek_nonspace(&mut self) -> Token<'t> {
        self.skip_space();
        self.peek()
    }

    fn expect(&mut self, kind: Kind, reason: &'static str) -> ParseResult<Token<'t>> {
        let token = self.take_nonspace();
        if token.kind == kind {
            Ok(token)
        } else {
            Err(unexpected(token, reason))
        }
    }

    /// Parses the whole text, definitions included.
    fn main(&mut self) -> ParseResult<List> {
        let mut list = List::new();
        while self.peek().kind != Kind::End {
            let start = self.next;
            if self.take().kind == Kind::Open
                && self.take_nonspace().kind == Kind::Keyword(Keyword::Define)
            {
                self.definition()?;
                continue;
            }
            self.next = start;
            match self.node()? {
                Item::Node(node) => list.push(node),
                Item::Stop(_, at) => {
                    return Err((
                        at,
                        "an else or end without its if, range, with, define or block",
                    ));
                }
            }
        }
        Ok(list)
    }

    fn definition(&mut self) -> ParseResult<()> {
        let token = self.take_nonspace();
        let name = template_name(token)?;
        self.expect(Kind::Close, "define takes a quoted name and nothing else")?;
        let body = self.subtree()?;
        self.add(name, body, token.at)
    }

    /// Parses the body of a definition or block: it has its own variables and is in no loop.
    fn subtree(&mut self) -> ParseResult<List> {
        let variables = std::mem::replace(&mut self.variables, Scope::new());
        let loops = std::mem::take(&mut self.loops);
        let (list, stop, at) = self.list()?;
        self.variables = variables;
        self.loops = loops;
        if stop == Stop::Else {
            return Err((
                at,
                "else inside define or block without an if, range or with",
            ));
        }
        Ok(list)
    }

    /// Adds a tree. Of two trees with the same name, at least one must be blank; a tree that is not blank is used.
    fn add(&mut self, name: Vec<u8>, list: List, at: usize) -> ParseResult<()> {
        let is_blank_list = is_blank(&list);
        if self.filled.contains(&name) {
            return if is_blank_list {
                Ok(())
            } else {
                Err((at, "a template of this name is defined twice"))
            };
        }
        if !is_blank_list {
            self.filled.insert(name.clone());
        }
        self.trees.insert(name, list);
        Ok(())
    }

    fn list(&mut self) -> ParseResult<(List, Stop, usize)> {
        self.nested += 1;
        if self.nested > MAX_NESTING {
            return Err((self.peek().at, TOO_DEEP));
        }
        let mut list = List::new();
        loop {
            let token = self.peek_nonspace();
            if token.kind == Kind::End {
                return Err((
                    token.at,
                    "an if, range, with, define or block is not ended; add {{end}}",
                ));
            }
            match self.node()? {
                Item::Node(node) => list.push(node),
                Item::Stop(stop, at) => {
                    self.nested -= 1;
                    return Ok((list, stop, at));
                }
            }
        }
    }

    fn node(&mut self) -> ParseResult<Item> {
        let token = self.take_nonspace();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(Text::from(token.text)))),
            Kind::Open => self.action(),
            _ => Err(unexpected(token, "expected text or an action")),
        }
    }

    fn action(&mut self) -> ParseResult<Item> {
        let token = self.peek_nonspace();
        let Kind::Keyword(keyword) = token.kind else {
            return Ok(Item::Node(Node::Action(self.pipe(Position::Other)?)));
        };
        if keyword == Keyword::Nil {
            return Ok(Item::Node(Node::Action(self.pipe(Position::Other)?)));
        }
        self.take();
        let node = match keyword {
            Keyword::If => Node::If(self.branch(Keyword::If)?),
            Keyword::With => Node::With(self.branch(Keyword::With)?),
            Keyword::Range => Node::Range(self.branch(Keyword::Range)?),
            Keyword::Break => self.jump(Node::Break)?,
            Keyword::Continue => self.jump(Node::Continue)?,
            Keyword::Template => self.call()?,
            Keyword::Block => self.block()?,
            Keyword::End => {
                self.expect(Kind::Close, "end takes no arguments")?;
                return Ok(Item::Stop(Stop::End, token.at));
            }
            Keyword::Else => return self.stop_at_else(token.at),
            Keyword::Define | Keyword::Nil => {
                return Err((token.at, "define is allowed at the top level only"));
            }
        };
        Ok(Item::Node(node))
    }

    /// Stops at `else`. `else if` and `else with` leave their keyword for the branch that they continue.
    fn stop_at_else(&mut self, at: usize) -> ParseResult<Item> {
        let next = self.peek_nonspace().kind;
        if !matches!(next, Kind::Keyword(Keyword::If | Keyword::With)) {
            self.expect(Kind::Close, "else takes no arguments except if or with")?;
        }
        Ok(Item::Stop(Stop::Else, at))
    }

    fn jump(&mut self, node: Node) -> ParseResult<Node> {
        let close = self.expect(Kind::Close, "break and continue take no arguments")?;
        if self.loops == 0 {
            return Err((close.at, "break or continue outside of range"));
        }
        Ok(node)
    }

    fn branch(&mut self, keyword: Keyword) -> ParseResult<Branch> {
        let variables = self.variables.names.len();
        let loop_count = usize::from(keyword == Keyword::Range);
        let pipe = self.pipe(if loop_count == 1 {
            Position::Range
        } else {
            Position::Other
        })?;
        self.loops += loop_count;
        let (body, stop, _) = self.list()?;
        self.loops -= loop_count;
        let otherwise = if stop == Stop::Else {
            Some(self.otherwise(keyword)?)
        } else {
            None
        };
        self.variables.truncate(variables);
        Ok(Branch {
            pipe,
            body,
            otherwise,
        })
    }

    fn otherwise(&mut self, keyword: Keyword) -> ParseResult<List> {
        if keyword != Keyword::Range && self.peek().kind == Kind::Keyword(keyword) {
            self.take();
            self.nested += 1;
            if self.nested > MAX_NESTING {
                return Err((self.peek().at, TOO_DEEP));
            }
            let branch = self.branch(keyword)?;
            self.nested -= 1;
            return Ok(vec![if keyword == Keyword::If {
                Node::If(branch)
            } else {
                Node::With(branch)
            }]);
        }
        let (list, stop, at) = self.list()?;
        if stop == Stop::Else {
            Err((at, "expected end, but found a second else"))
        } else {
            Ok(list)
        }
    }

    fn call(&mut self) -> ParseResult<Node> {
        let token = self.take_nonspace();
        let name = template_name(token)?;
        let argument = if self.peek_nonspace().kind == Kind::Close {
            self.take();
            None
        } else {
            Some(self.pipe(Position::Other)?)
        };
        Ok(Node::Call {
            at: token.at,
            name,
            argument,
        })
    }

    fn block(&mut self) -> ParseResult<Node> {
        let token = self.take_nonspace();
        let name = template_name(token)?;
        let argument = Some(self.pipe(Position::Other)?);
        let body = self.subtree()?;
        self.add(name.clone(), body, token.at)?;
        Ok(Node::Call {
            at: token.at,
            name,
            argument,
        })
    }

    /// Parses declarations, then commands, up to the closing braces or parenthesis.
    fn pipe(&mut self, position: Position) -> ParseResult<Pipe> {
        let at = self.peek_nonspace().at;
        let mut pipe = Pipe {
            at,
            variables: Vec::new(),
            is_assignment: false,
            commands: Vec::new(),
        };
        self.declarations(&mut pipe, position)?;
        let close = if position == Position::Paren {
            Kind::RightParen
        } else {
            Kind::Close
        };
        loop {
            let token = self.peek_nonspace();
            match token.kind {
                kind if kind == close => break,
                Kind::Bool
                | Kind::Rune
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Keyword(Keyword::Nil)
                | Kind::Raw
                | Kind::Quoted
                | Kind::Variable
                | Kind::LeftParen => pipe.commands.push(self.command()?),
                _ => {
                    return Err(unexpected(
                        token,
                        "expected a value, a function or the end of the action",
                    ));
                }
            }
        }
        let end = self.take();
        check(&pipe, end.at)?;
        Ok(pipe)
    }

    fn declarations(&mut self, pipe: &mut Pipe, position: Position) -> ParseResult<()> {
        loop {
            let start = self.next;
            let variable = self.peek_nonspace();
            if variable.kind != Kind::Variable {
                return Ok(());
            }
            self.take();
            let next = self.peek_nonspace();
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    pipe.is_assignment = next.kind == Kind::Assign;
                    self.declare(pipe, variable);
                    return Ok(());
                }
                Kind::Comma => {
                    self.declare(pipe, variable);
                    if position != Position::Range || pipe.variables.len() > 1 {
                        return Err((
                            next.at,
                            "too many variables in a declaration; at most one, or two in `range`",
                        ));
                    }
                    let after = self.peek_nonspace();
                    if !matches!(after.kind, Kind::Variable | Kind::Close | Kind::RightParen) {
                        return Err((after.at, "range can declare variables only"));
                    }
                }
                _ => {
                    self.next = start;
                    return Ok(());
                }
            }
        }
    }

    fn declare(&mut self, pipe: &mut Pipe, variable: Token<'_>) {
        self.take();
        pipe.variables.push(variable.text.into());
        self.variables.push(variable.text);
    }

    /// Parses terms separated by spaces, up to a pipe sign or the end.
    fn command(&mut self) -> ParseResult<Command> {
        let at = self.peek_nonspace().at;
        let mut terms = Vec::new();
        loop {
            self.skip_space();
            if let Some(term) = self.operand()? {
                terms.push(term);
            }
            let token = self.peek();
            match token.kind {
                Kind::Space => {
                    self.take();
                }
                Kind::Close | Kind::RightParen => break,
                Kind::Pipe => {
                    self.take();
                    break;
                }
                _ => return Err(unexpected(token, "expected a space between arguments")),
            }
        }
        let mut terms = terms.into_iter();
        let first = terms
            .next()
            .ok_or((at, "a value or a function is missing"))?;
        Ok(Command {
            at,
            first,
            rest: terms.collect(),
        })
    }

    /// Parses a term and the fields after it.
    fn operand(&mut self) -> ParseResult<Option<Term>> {
        let Some(term) = self.term()? else {
            return Ok(None);
        };
        let at = self.peek().at;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(Name::from(&self.take().text[1..]));
        }
        if fields.is_empty() {
            return Ok(Some(term));
        }
        let kind = match term.kind {
            TermKind::Field(mut names) => {
                names.append(&mut fields);
                TermKind::Field(names)
            }
            TermKind::Variable(name, _) => TermKind::Variable(name, fields),
            TermKind::Bool(_)
            | TermKind::Text(_)
            | TermKind::Number(_)
            | TermKind::Nil
            | TermKind::Dot => {
                return Err((at, "a field cannot follow a literal or the dot"));
            }
            TermKind::Function(_) | TermKind::Pipe(_) | TermKind::Chain(..) => {
                TermKind::Chain(Box::new(term), fields)
            }
        };
        Ok(Some(Term { at, kind }))
    }

    fn term(&mut self) -> ParseResult<Option<Term>> {
        let start = self.next;
        let token = self.take_nonspace();
        let at = token.at;
        let error = |reason| (at, reason);
        let kind = match token.kind {
            Kind::Identifier => TermKind::Function(functions::find(token.text).ok_or(error(
                "there is no function with this name; to insert a value, write a dot before its name, as in .name",
            ))?),
            Kind::Dot => TermKind::Dot,
            Kind::Keyword(Keyword::Nil) => TermKind::Nil,
            Kind::Variable => {
                let name = self.variables.lookup(token.text);
                TermKind::Variable(
                    name.ok_or(error("this variable is not declared here"))?,
                    Vec::new(),
                )
            }
            Kind::Field => TermKind::Field(vec![Name::from(&token.text[1..])]),
            Kind::Bool => TermKind::Bool(token.text == "true"),
            Kind::Rune => TermKind::Number(Number::rune(
                quote::unquote_rune(token.text).ok_or(error(INVALID_CHARACTER))?,
            )),
            Kind::Complex => {
                TermKind::Number(Number::parse_complex(token.text).ok_or(error("invalid number"))?)
            }
            Kind::Number => TermKind::Number(
                Number::parse(token.text).ok_or(error("invalid number, or one that is too large"))?,
            ),
            Kind::Quoted | Kind::Raw => TermKind::Text(
                quote::unquote(token.text)
                    .ok_or(error(INVALID_ESCAPE))?
                    .into(),
            ),
            Kind::LeftParen => self.parentheses(at)?,
            _ => {
                self.next = start;
                return Ok(None);
            }
        };
        Ok(Some(Term { at, kind }))
    }

    fn parentheses(&mut self, at: usize) -> ParseResult<TermKind> {
        self.nested += 1;
        if self.nested > MAX_NESTING {
            return Err((at, TOO_DEEP));
        }
        let pipe = self.pipe(Position::Paren)?;
        self.nested -= 1;
        Ok(TermKind::Pipe(Box::new(pipe)))
    }
}

enum Item {
    Node(Node),
    Stop(Stop, usize),
}

fn unexpected(token: Token<'_>, reason: &'static str) -> ErrorAt {
    match token.kind {
        Kind::Invalid(reason) => (token.at, reason),
        _ => (token.at, reason),
    }
}

fn template_name(token: Token<'_>) -> ParseResult<Vec<u8>> {
    if !matches!(token.kind, Kind::Quoted | Kind::Raw) {
        return Err(unexpected(
            token,
            "expected the name of a template, in quotes",
        ));
    }
    quote::unquote(token.text).ok_or((token.at, INVALID_ESCAPE))
}

/// Checks that a pipeline has a command, and that each later command can accept the value of the previous command.
fn check(pipe: &Pipe, at: usize) -> ParseResult<()> {
    if pipe.commands.is_empty() {
        return Err((at, "a value is missing"));
    }
    let not_callable = pipe.commands[1..].iter().find(|command| {
        matches!(
            command.first.kind,
            TermKind::Bool(_)
                | TermKind::Dot
                | TermKind::Nil
                | TermKind::Number(_)
                | TermKind::Text(_)
        )
    });
    not_callable.map_or(Ok(()), |command| {
        Err((command.at, "only a function or a method can follow `|`"))
    })
}

fn is_blank(list: &List) -> bool {
    list.iter().all(|node| matches!(node, Node::Text(text) if crate::runes::chars(text).all(crate::runes::is_space)))
}
