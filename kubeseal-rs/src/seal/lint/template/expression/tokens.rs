//! Splits an expression into tokens.

/// The maximum length of an index, such as `['a']`.
const MAX_INDEX: usize = 256;

/// A token of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A string, without its quotes. Escapes are kept.
    Text(&'a str),
    Number,
    Name(&'a str),
    Open {
        /// Whether the parenthesis directly follows a name.
        is_adjacent: bool,
    },
    Close,
    Pipe,
    /// `:=` or `=`.
    Assign,
    /// `==` or `!=`.
    Compare,
    /// Any other punctuation.
    Separator,
}

/// Splits the content of an action into tokens. Drops white space, indexes, and fields after `)`.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = token(rest, first, tokens.last());
        tokens.extend(token);
        rest = &rest[length..];
        if matches!(token, Some(Token::Close)) && rest.starts_with('.') {
            rest = &rest[name_length(rest)..];
        }
        let is_space = rest.starts_with(char::is_whitespace);
        rest = rest.trim_start();
        if !is_space && matches!(token, Some(Token::Name(_))) && rest.starts_with('(') {
            tokens.push(Token::Open { is_adjacent: true });
            rest = &rest[1..];
        }
    }
    tokens
}

/// Returns the first token of a string, which begins with `first`, and its length in bytes; `None` for text that is
/// dropped.
fn token<'a>(
    rest: &'a str,
    first: char,
    previous: Option<&Token<'_>>,
) -> (Option<Token<'a>>, usize) {
    let second = rest[first.len_utf8()..].chars().next();
    match (first, second) {
        (c, _) if c.is_whitespace() => (None, c.len_utf8()),
        // An action in a double-quoted scalar of YAML has escaped quotes.
        ('\\', Some('"')) => (None, 1),
        ('"' | '`' | '\'', _) => {
            let (content, length) = string(rest, first);
            (Some(Token::Text(content)), length)
        }
        ('|', _) => (Some(Token::Pipe), 1),
        ('(', _) => (Some(Token::Open { is_adjacent: false }), 1),
        (')', _) => (Some(Token::Close), 1),
        ('=' | '!', Some('=')) => (Some(Token::Compare), 2),
        (':', Some('=')) => (Some(Token::Assign), 2),
        ('=', _) => (Some(Token::Assign), 1),
        ('[', _) if matches!(previous, Some(Token::Name(_))) => (None, index_length(rest)),
        ('+' | '-' | '.', Some('0'..='9')) | ('0'..='9', _) => {
            (Some(Token::Number), 1 + name_length(&rest[1..]))
        }
        (c, _) if is_name_char(c) => {
            let length = name_length(rest);
            (Some(Token::Name(&rest[..length])), length)
        }
        (c, _) => (Some(Token::Separator), c.len_utf8()),
    }
}

/// Returns the content of a string, and its length with quotes.
fn string(text: &str, quote: char) -> (&str, usize) {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return (&text[1..at], at + 1);
        }
        is_escaped = c == '\\' && !is_escaped && quote != '`';
    }
    (&text[1..], text.len())
}

/// Returns the length of an index and the fields after it; 1 if the index does not end within [`MAX_INDEX`] bytes.
fn index_length(text: &str) -> usize {
    let bytes = &text.as_bytes()[..text.len().min(MAX_INDEX)];
    memchr::memchr(b']', bytes).map_or(1, |end| {
        let after = &text[end + 1..];
        let fields = if after.starts_with('.') {
            name_length(after)
        } else {
            0
        };
        end + 1 + fields
    })
}

fn name_length(text: &str) -> usize {
    text.find(|c| !is_name_char(c)).unwrap_or(text.len())
}

fn is_name_char(c: char) -> bool {
    !c.is_whitespace() && !"|()\"`',{}[]:=!~+?<>*\\;".contains(c)
}
