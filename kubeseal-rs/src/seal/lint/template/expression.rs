//! Parses the expression of an action: Go pipelines, and the common syntax of Jinja and Ruby.

mod tokens;

use self::tokens::{Token, tokens};

/// The maximum nesting depth of parentheses.
const MAX_DEPTH: usize = 64;

/// Calls, each of which gets the result of the previous call as its last argument.
pub(super) type Pipeline<'a> = Vec<Call<'a>>;

/// A function and its arguments, or a single value.
pub(super) type Call<'a> = Vec<Operand<'a>>;

/// A part of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operand<'a> {
    /// A string, without its quotes.
    Text(&'a str),
    Number,
    /// A function, a variable or a path of fields.
    Name(&'a str),
    Nested(Pipeline<'a>),
}

/// An expression, and the variables that it sets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expression<'a> {
    pub(super) targets: Vec<&'a str>,
    pub(super) pipeline: Pipeline<'a>,
}

/// Parses an expression. Returns `None` if its parentheses do not match or are nested too deeply.
pub(super) fn parse(text: &str) -> Option<Expression<'_>> {
    let tokens = tokens(text);
    let (targets, value) = split_assignment(&tokens).unwrap_or((Vec::new(), &tokens));
    let mut parser = Parser {
        tokens: value,
        at: 0,
    };
    let pipeline = parser.pipeline(0)?;
    Some(Expression { targets, pipeline })
}

/// Returns the strings in an expression, without their quotes.
pub(in super::super) fn strings(text: &str) -> Vec<&str> {
    let string = |token| match token {
        Token::Text(text) => Some(text),
        _ => None,
    };
    tokens(text).into_iter().filter_map(string).collect()
}

/// Splits an assignment into the variables and the tokens of the value.
fn split_assignment<'a, 't>(tokens: &'t [Token<'a>]) -> Option<(Vec<&'a str>, &'t [Token<'a>])> {
    let at = tokens.iter().position(|token| *token == Token::Assign)?;
    let mut targets = Vec::new();
    for token in &tokens[..at] {
        match token {
            Token::Name(name) => targets.push(*name),
            Token::Separator => {}
            _ => return None,
        }
    }
    Some((targets, &tokens[at + 1..]))
}

struct Parser<'a, 't> {
    tokens: &'t [Token<'a>],
    at: usize,
}

impl<'a> Parser<'a, '_> {
    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        token
    }

    /// Parses until the parenthesis of this depth closes; at depth 0, until the end.
    fn pipeline(&mut self, depth: usize) -> Option<Pipeline<'a>> {
        let mut calls = vec![Call::new()];
        loop {
            let Some(token) = self.next() else {
                return (depth == 0).then_some(calls);
            };
            let call = calls.last_mut()?;
            match token {
                Token::Pipe => calls.push(Call::new()),
                Token::Open { is_adjacent } => {
                    let nested = self.nested(depth + 1, call, is_adjacent)?;
                    call.push(Operand::Nested(nested));
                }
                Token::Close if depth == 0 => return None,
                Token::Close => return Some(calls),
                Token::Compare => self.comparison(call),
                Token::Assign => self.named_argument(),
                Token::Separator => {}
                Token::Text(text) => call.push(Operand::Text(text)),
                Token::Number => call.push(Operand::Number),
                Token::Name(name) => call.push(Operand::Name(name)),
            }
        }
    }

    /// Parses parentheses. Directly after a name, they contain its arguments.
    fn nested(
        &mut self,
        depth: usize,
        call: &mut Call<'a>,
        is_adjacent: bool,
    ) -> Option<Pipeline<'a>> {
        if depth > MAX_DEPTH {
            return None;
        }
        let function = match call.last() {
            Some(Operand::Name(_)) if is_adjacent => call.pop(),
            _ => None,
        };
        let mut nested = self.pipeline(depth)?;
        if let (Some(function), Some(first)) = (function, nested.first_mut()) {
            first.insert(0, function);
        }
        Some(nested)
    }

    /// Skips the literals around a comparison, which only select the output.
    fn comparison(&mut self, call: &mut Call<'a>) {
        if matches!(call.last(), Some(Operand::Text(_) | Operand::Number)) {
            call.pop();
        }
        if matches!(
            self.tokens.get(self.at),
            Some(Token::Text(_) | Token::Number)
        ) {
            self.at += 1;
        }
    }

    /// Skips a number after the name of an argument, such as a length.
    fn named_argument(&mut self) {
        if matches!(self.tokens.get(self.at), Some(Token::Number)) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Operand::{Name, Nested, Number, Text};
    use super::*;

    #[test]
    fn parses_the_expressions_of_go_jinja_and_ruby() {
        for (text, targets, pipeline) in [
            (".a", &[][..], vec![vec![Name(".a")]]),
            (
                "$a.b | quote",
                &[],
                vec![vec![Name("$a.b")], vec![Name("quote")]],
            ),
            ("$a := \"b\"", &["$a"], vec![vec![Text("b")]]),
            ("$k, $v := .x", &["$k", "$v"], vec![vec![Name(".x")]]),
            (
                "a (b `c`) -1",
                &[],
                vec![vec![
                    Name("a"),
                    Nested(vec![vec![Name("b"), Text("c")]]),
                    Number,
                ]],
            ),
            ("(a).b", &[], vec![vec![Nested(vec![vec![Name("a")]])]]),
            (
                "a('b', c=32)",
                &[],
                vec![vec![Nested(vec![vec![Name("a"), Text("b"), Name("c")]])]],
            ),
            (
                "a if b == 'c' else d",
                &[],
                vec![vec![
                    Name("a"),
                    Name("if"),
                    Name("b"),
                    Name("else"),
                    Name("d"),
                ]],
            ),
            (
                "p = {\"a\": \"b\"}",
                &["p"],
                vec![vec![Text("a"), Text("b")]],
            ),
            ("ENV['A']", &[], vec![vec![Name("ENV")]]),
            ("p[:a].b", &[], vec![vec![Name("p")]]),
            ("\"a\\\"b\" 'c", &[], vec![vec![Text("a\\\"b"), Text("c")]]),
        ] {
            let targets = targets.to_vec();
            assert_eq!(
                parse(text),
                Some(Expression { targets, pipeline }),
                "{text}"
            );
        }
        for text in [
            "(a",
            "a)",
            &"(".repeat(300_000),
            &format!("{}{}", "(".repeat(65), ")".repeat(65)),
        ] {
            assert_eq!(parse(text), None);
        }
    }
}
