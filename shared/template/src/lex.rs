//! Splits template text into tokens. White space inside actions is a token, because it separates arguments.

use crate::runes;

/// A token and its offset in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind,
    pub(crate) at: usize,
    /// The token as written; for text, after trimming.
    pub(crate) text: &'t str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Open,
    Close,
    Space,
    Pipe,
    Assign,
    Declare,
    LeftParen,
    RightParen,
    Comma,
    /// Any other printable ASCII character; never valid.
    Char,
    Quoted,
    Raw,
    Rune,
    Number,
    Complex,
    Bool,
    Dot,
    Field,
    Variable,
    Identifier,
    Keyword(Keyword),
    End,
    /// The text is invalid here; no token follows.
    Invalid(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

/// Returns all tokens of a template; the last one is [`Kind::End`] or [`Kind::Invalid`]. Stops with the latter after
/// about `max` tokens.
pub(crate) fn tokens(text: &str, max: usize) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::new(),
        max,
    };
    let last = match lexer.run() {
        Ok(()) => Kind::End,
        Err(reason) => Kind::Invalid(reason),
    };
    lexer.tokens.push(Token {
        kind: last,
        at: lexer.at,
        text: "",
    });
    lexer.tokens
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    tokens: Vec<Token<'t>>,
    max: usize,
}

type Step = Result<(), &'static str>;

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\r' | '\n')
}

fn is_word(char: char) -> bool {
    char == '_' || runes::is_letter(char) || runes::is_digit(char)
}

impl<'t> Lexer<'t> {
    fn run(&mut self) -> Step {
        while self.at < self.text.len() {
            self.check_count()?;
            self.literal_text();
            if self.rest().starts_with("{{") {
                self.action()?;
            }
        }
        Ok(())
    }

    fn check_count(&self) -> Step {
        if self.tokens.len() < self.max {
            Ok(())
        } else {
            Err(
                "the templates of this object have more than 30000 tokens in total; split the object",
            )
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Consumes the next character if it is in `set`; returns whether it is.
    fn accept(&mut self, set: &str) -> bool {
        match self.peek() {
            Some(char) if set.contains(char) => {
                self.at += char.len_utf8();
                true
            }
            _ => false,
        }
    }

    fn accept_run(&mut self, set: &str) {
        while self.accept(set) {}
    }

    fn emit(&mut self, kind: Kind, from: usize) {
        self.tokens.push(Token {
            kind,
            at: from,
            text: &self.text[from..self.at],
        });
    }

    /// Reads text up to the next action, without the white space that a `{{-` trims.
    fn literal_text(&mut self) {
        let rest = self.rest();
        let until = rest.find("{{").unwrap_or(rest.len());
        let mut text = &rest[..until];
        if has_left_trim(&rest[(until + 2).min(rest.len())..]) {
            text = text.trim_end_matches(is_space);
        }
        if !text.is_empty() {
            self.tokens.push(Token {
                kind: Kind::Text,
                at: self.at,
                text,
            });
        }
        self.at += until;
    }

    fn action(&mut self) -> Step {
        let from = self.at;
        self.at += 2;
        let trim = has_left_trim(self.rest());
        if self.rest()[if trim { 2 } else { 0 }..].starts_with("/*") {
            self.at += if trim { 2 } else { 0 };
            return self.comment();
        }
        self.emit(Kind::Open, from);
        self.at += if trim { 2 } else { 0 };
        let mut parens = 0_usize;
        while !self.close(&mut parens)? {
            self.check_count()?;
            self.action_token(&mut parens)?;
        }
        Ok(())
    }

    fn comment(&mut self) -> Step {
        let end = self.rest()[2..]
            .find("*/")
            .ok_or("this comment is not closed; end it with */}}")?;
        self.at += end + 4;
        let (closes, trim) = self.at_close();
        if !closes {
            return Err("a comment must end right before the closing braces, as in {{/* text */}}");
        }
        self.skip_close(trim);
        Ok(())
    }

    /// Returns whether an action ends here, and whether it ends with `-}}`.
    fn at_close(&self) -> (bool, bool) {
        let rest = self.rest();
        let mut chars = rest.chars();
        if chars.next().is_some_and(is_space) && chars.as_str().starts_with("-}}") {
            return (true, true);
        }
        (rest.starts_with("}}"), false)
    }

    fn skip_close(&mut self, trim: bool) {
        self.at += if trim { 4 } else { 2 };
        if trim {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches(is_space).len();
        }
    }

    fn close(&mut self, parens: &mut usize) -> Result<bool, &'static str> {
        let (closes, trim) = self.at_close();
        if !closes {
            return Ok(false);
        }
        if *parens > 0 {
            return Err("a left parenthesis is not closed in this action");
        }
        let at = self.at + if trim { 2 } else { 0 };
        self.tokens.push(Token {
            kind: Kind::Close,
            at,
            text: "}}",
        });
        self.skip_close(trim);
        Ok(true)
    }

    fn action_token(&mut self, parens: &mut usize) -> Step {
        let from = self.at;
        let char = self
            .peek()
            .ok_or("this action is not closed; end it with }}")?;
        if is_space(char) {
            self.space();
            return Ok(());
        }
        self.at += char.len_utf8();
        let kind = match char {
            '=' => Kind::Assign,
            ':' if self.accept("=") => Kind::Declare,
            ':' => return Err("a colon must be followed by an equals sign, as in $x := 1"),
            '|' => Kind::Pipe,
            '"' => self.quoted('"', Kind::Quoted)?,
            '\'' => self.quoted('\'', Kind::Rune)?,
            '`' => self.raw()?,
            '$' => self.name(Kind::Variable, Kind::Variable)?,
            '.' if !self.peek().is_some_and(|char| char.is_ascii_digit()) => {
                self.name(Kind::Dot, Kind::Field)?
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.at = from;
                self.number()?
            }
            '(' => {
                *parens += 1;
                Kind::LeftParen
            }
            ')' => {
                *parens = parens
                    .checked_sub(1)
                    .ok_or("a right parenthesis has no matching left parenthesis")?;
                Kind::RightParen
            }
            ',' => Kind::Comma,
            _ if is_word(char) => self.identifier(from)?,
            ' '..='~' => Kind::Char,
            _ => return Err("unexpected character in an action"),
        };
        self.emit(kind, from);
        Ok(())
    }

    /// Reads a run of white space, except the last space if it belongs to a trimming `-}}`.
    fn space(&mut self) {
        let from = self.at;
        while !self.at_close().0 && self.accept(" \t\r\n") {}
        if self.at > from {
            self.emit(Kind::Space, from);
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind) -> Result<Kind, &'static str> {
        let unclosed = "a quoted string is not closed on its line; close it, or use back quotes for several lines";
        loop {
            let char = self.peek().ok_or(unclosed)?;
            self.at += char.len_utf8();
            match char {
                '\n' => return Err(unclosed),
                '\\' => {
                    let escaped = self.peek().filter(|&char| char != '\n').ok_or(unclosed)?;
                    self.at += escaped.len_utf8();
                }
                _ if char == quote => return Ok(kind),
                _ => {}
            }
        }
    }

    fn raw(&mut self) -> Result<Kind, &'static str> {
        let end = self
            .rest()
            .find('`')
            .ok_or("this raw string is not closed; end it with a back quote")?;
        self.at += end + 1;
        Ok(Kind::Raw)
    }

    /// Reads the rest of a field or variable after its first character.
    fn name(&mut self, bare: Kind, named: Kind) -> Result<Kind, &'static str> {
        if self.is_at_terminator() {
            return Ok(bare);
        }
        self.word()?;
        Ok(named)
    }

    fn word(&mut self) -> Step {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_word).len();
        if self.is_at_terminator() {
            Ok(())
        } else {
            Err("this character cannot follow a name; put a space before it")
        }
    }

    fn identifier(&mut self, from: usize) -> Result<Kind, &'static str> {
        self.word()?;
        Ok(match &self.text[from..self.at] {
            "block" => Kind::Keyword(Keyword::Block),
            "break" => Kind::Keyword(Keyword::Break),
            "continue" => Kind::Keyword(Keyword::Continue),
            "define" => Kind::Keyword(Keyword::Define),
            "else" => Kind::Keyword(Keyword::Else),
            "end" => Kind::Keyword(Keyword::End),
            "if" => Kind::Keyword(Keyword::If),
            "nil" => Kind::Keyword(Keyword::Nil),
            "range" => Kind::Keyword(Keyword::Range),
            "template" => Kind::Keyword(Keyword::Template),
            "with" => Kind::Keyword(Keyword::With),
            "true" | "false" => Kind::Bool,
            _ => Kind::Identifier,
        })
    }

    /// Returns whether the next character may follow a name.
    fn is_at_terminator(&self) -> bool {
        match self.peek() {
            None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.rest().starts_with("}}"),
        }
    }

    fn number(&mut self) -> Result<Kind, &'static str> {
        let invalid = "invalid number";
        self.scan_number().ok_or(invalid)?;
        if !matches!(self.peek(), Some('+' | '-')) {
            return Ok(Kind::Number);
        }
        self.scan_number().ok_or(invalid)?;
        if self.text[..self.at].ends_with('i') {
            Ok(Kind::Complex)
        } else {
            Err(invalid)
        }
    }

    /// Reads anything that looks like a number; the parser decides whether it is valid.
    fn scan_number(&mut self) -> Option<()> {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        let exponent = match digits.len() {
            11 => "eE",
            23 => "pP",
            _ => "",
        };
        if self.accept(exponent) {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        (!self.peek().is_some_and(is_word)).then_some(())
    }
}

fn has_left_trim(after_open: &str) -> bool {
    let mut chars = after_open.chars();
    chars.next() == Some('-') && chars.next().is_some_and(is_space)
}
