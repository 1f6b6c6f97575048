//! Splits a template into actions and the text between them, in linear time.

use memchr::memmem;

/// Statements of Jinja. Between `{%` and `%}`, other words are text: Helm outputs them.
const STATEMENTS: [&str; 23] = [
    "block",
    "break",
    "call",
    "continue",
    "do",
    "elif",
    "else",
    "endblock",
    "endcall",
    "endfilter",
    "endfor",
    "endif",
    "endmacro",
    "endset",
    "endwith",
    "extends",
    "filter",
    "for",
    "from",
    "if",
    "import",
    "macro",
    "set",
];

/// Words that occur in Ruby statements other than assignments.
const RUBY: [&str; 8] = ["do", "each", "else", "elsif", "end", "for", "if", "unless"];

/// A part of a template.
#[derive(Debug)]
pub(in super::super) enum Piece<'a> {
    Text(&'a str),
    Action(Action<'a>),
}

/// An action, without its delimiters.
#[derive(Debug)]
pub(in super::super) struct Action<'a> {
    pub(in super::super) form: Form,
    pub(in super::super) content: &'a str,
    /// The action with its delimiters.
    pub(in super::super) source: &'a str,
    /// Whether only white space follows on the line.
    pub(in super::super) ends_line: bool,
}

/// The kind of an action, by its delimiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Form {
    /// `{{ }}` and `<%= %>`: may output text, or control the following text.
    Expression,
    /// `{% %}` and `<% %>`: outputs nothing.
    Statement,
    /// `{{/* */}}`: outputs nothing.
    Comment,
    /// `{# #}`: a comment of Jinja, but text in a template of Helm.
    JinjaComment,
}

impl Action<'_> {
    /// Returns the first word.
    pub(in super::super) fn keyword(&self) -> &str {
        self.content.split_whitespace().next().unwrap_or_default()
    }

    /// Returns the text after the first word.
    pub(in super::super) fn arguments(&self) -> &str {
        let rest = self.content.trim_start();
        rest.strip_prefix(self.keyword())
            .unwrap_or(rest)
            .trim_start()
    }
}

/// Returns whether a string contains the beginning of an action.
pub(in super::super) fn may_contain_action(text: &str) -> bool {
    let is_start = |at: usize| is_action_start(&text.as_bytes()[at..]);
    memchr::memchr2_iter(b'{', b'<', text.as_bytes()).any(is_start)
}

fn is_action_start(text: &[u8]) -> bool {
    matches!(text, [b'{', b'{' | b'%' | b'#', ..] | [b'<', b'%', ..])
}

/// Iterates over the pieces of a template.
pub(in super::super) struct Pieces<'a> {
    text: &'a str,
    at: usize,
    /// The action to return next, after the text before it, and the position after the action.
    pending: Option<(Action<'a>, usize)>,
    closes: [Search; 4],
    comment_ends: Search,
    line_ends: Search,
}

impl<'a> Pieces<'a> {
    pub(in super::super) fn of(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            pending: None,
            closes: ["}}", "%}", "#}", "%>"].map(Search::of),
            comment_ends: Search::of("*/"),
            line_ends: Search::of("\n"),
        }
    }

    /// Returns the position of the delimiter that ends an expression. A delimiter in a string does not end it.
    fn expression_end(&mut self, start: usize) -> Option<usize> {
        let text = self.text;
        let mut at = start;
        loop {
            let close = self.closes[0].after(text, at)?;
            let before = &text.as_bytes()[at..close];
            let Some(offset) = memchr::memchr3(b'"', b'`', b'\'', before) else {
                return Some(close);
            };
            let quote = at + offset;
            // In a double-quoted scalar of YAML, the quotes of the expression are escaped.
            let is_escaped = text.as_bytes()[..quote].last() == Some(&b'\\');
            at = match string_end(text, quote) {
                _ if is_escaped => quote + 1,
                Some(end) => end,
                None => return Some(close),
            };
        }
    }

    /// Returns the action that begins at a position, and its end. Only actions of Go may contain line breaks: other
    /// delimiters could be parts of values, and hide the text between them.
    fn action_at(&mut self, at: usize) -> Option<(Action<'a>, usize)> {
        let text = self.text;
        let kind = match &text.as_bytes()[at..] {
            [b'{', b'{', ..] => 0,
            [b'{', b'%', ..] => 1,
            [b'{', b'#', ..] => 2,
            [b'<', b'%', ..] => 3,
            _ => return None,
        };
        let start = at + 2;
        let inner = &text[start..];
        let is_comment = kind == 0 && inner.trim_start_matches('-').trim_start().starts_with("/*");
        let after_comment = is_comment
            .then(|| self.comment_ends.after(text, start))
            .flatten()
            .unwrap_or(start);
        let end = if kind == 0 && !is_comment {
            self.expression_end(start)?
        } else {
            self.closes[kind].after(text, after_comment)?
        };
        if kind != 0
            && self
                .line_ends
                .after(text, start)
                .is_some_and(|line_end| line_end < end)
        {
            return None;
        }
        let line_end = self.line_ends.after(text, end).unwrap_or(text.len());
        let untrimmed = &text[start..end];
        let content = untrimmed.trim_matches(['-', '~', '+']).trim();
        let form = form(kind, content, is_comment)?;
        let action = Action {
            form,
            content: content.trim_start_matches('=').trim_start(),
            source: &text[at..end + 2],
            ends_line: text[end + 2..line_end.max(end + 2)].trim_start().is_empty(),
        };
        Some((action, end + 2))
    }
}

/// Returns the position after the string that begins with a quote at this position. Only a string in back quotes may
/// contain line breaks.
fn string_end(text: &str, at: usize) -> Option<usize> {
    let quote = text.as_bytes()[at];
    let inner = &text.as_bytes()[at + 1..];
    if quote == b'`' {
        return memchr::memchr(quote, inner).map(|end| at + end + 2);
    }
    let mut is_escaped = false;
    for (i, byte) in inner.iter().enumerate() {
        match byte {
            b'\n' => return None,
            _ if *byte == quote && !is_escaped => return Some(at + i + 2),
            _ => is_escaped = *byte == b'\\' && !is_escaped,
        }
    }
    None
}

/// Returns the form of an action; `None` if it is text.
fn form(kind: usize, content: &str, is_comment: bool) -> Option<Form> {
    let mut words = content.split(|c: char| !c.is_alphanumeric());
    match kind {
        0 if is_comment => Some(Form::Comment),
        0 => Some(Form::Expression),
        1 => {
            let first = content.split_whitespace().next().unwrap_or_default();
            STATEMENTS.contains(&first).then_some(Form::Statement)
        }
        2 => Some(Form::JinjaComment),
        _ if content.starts_with('=') => Some(Form::Expression),
        _ => {
            let is_statement = content.contains('=') || words.any(|word| RUBY.contains(&word));
            is_statement.then_some(Form::Statement)
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if let Some((action, end)) = self.pending.take() {
            self.at = end;
            return Some(Piece::Action(action));
        }
        let (start, text) = (self.at, self.text);
        let mut from = start;
        while let Some(offset) = memchr::memchr2(b'{', b'<', &text.as_bytes()[from..]) {
            let at = from + offset;
            self.pending = self.action_at(at);
            if self.pending.is_some() {
                if at > start {
                    return Some(Piece::Text(&text[start..at]));
                }
                return self.next();
            }
            from = at + 1;
        }
        self.at = text.len();
        (start < text.len()).then(|| Piece::Text(&text[start..]))
    }
}

/// Searches for a string, and remembers the result, so that searches from many positions take linear time.
struct Search {
    needle: &'static str,
    /// The position of the last search and its result.
    last: Option<(usize, Option<usize>)>,
}

impl Search {
    fn of(needle: &'static str) -> Self {
        Self { needle, last: None }
    }

    /// Returns the first position of the needle at or after `from`.
    fn after(&mut self, text: &str, from: usize) -> Option<usize> {
        if let Some((searched, position)) = self.last
            && searched <= from
            && position.is_none_or(|position| from <= position)
        {
            return position;
        }
        let position = memmem::find(&text.as_bytes()[from..], self.needle.as_bytes());
        let position = position.map(|position| from + position);
        self.last = Some((from, position));
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |piece| match piece {
            Piece::Text(text) => format!("text {text}"),
            Piece::Action(action) => format!("{:?} {}", action.form, action.content),
        };
        Pieces::of(text).map(show).collect()
    }

    #[test]
    fn splits_actions_from_text() {
        for (text, want) in [
            ("", &[][..]),
            ("a", &["text a"]),
            ("{{ a }}", &["Expression a"]),
            ("a{{- b -}}c", &["text a", "Expression b", "text c"]),
            ("{{ a }}{{ b }}", &["Expression a", "Expression b"]),
            ("{{/* }} */}}b", &["Comment /* }} */", "text b"]),
            ("{# a #}b", &["JinjaComment a", "text b"]),
            ("{% if a %}b", &["Statement if a", "text b"]),
            ("{% hunter2 %}", &["text {% hunter2 %}"]),
            ("<%= a %>", &["Expression a"]),
            ("<% hunter2 %>", &["text <% hunter2 %>"]),
            ("<% a = 1 %>", &["Statement a = 1"]),
            ("{{ \"}}\" }}b", &["Expression \"}}\"", "text b"]),
            ("{{ `}}{{/*` }}b", &["Expression `}}{{/*`", "text b"]),
            ("{{ \"\\\"}}\" }}b", &["Expression \"\\\"}}\"", "text b"]),
            ("{{ \"a }}b\n\" }}", &["Expression \"a", "text b\n\" }}"]),
            ("{{ a", &["text {{ a"]),
            ("{{ a\n}}", &["Expression a"]),
            ("{# a\n#}", &["text {# a\n#}"]),
            ("{% if\n%}{{ a }}", &["text {% if\n%}", "Expression a"]),
        ] {
            let want: Vec<String> = want.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(shown(text), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn splitting_loses_no_text(text in "([a-z:]|\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|<%|%>|/\\*|\\*/|\"|\n| ){0,40}") {
            let source = |piece| match piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Action(action) => action.source.to_owned(),
            };
            proptest::prop_assert_eq!(Pieces::of(&text).map(source).collect::<String>(), text);
        }
    }
}
