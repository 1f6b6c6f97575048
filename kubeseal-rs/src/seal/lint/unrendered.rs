//! Makes templates of Helm and other tools readable before they are rendered: each action becomes a placeholder, or
//! disappears if it only controls what follows. The number of lines stays the same.

use std::collections::BTreeSet;

use kubeseal_library::walk;
use shared::manifest::{self, Document};
use zeroize::Zeroizing;

use super::placeholder::{LITERAL, holds_more_than_actions, outputs_literal};

/// Delimiters of actions: of Go and Helm, of comments and statements of Jinja, of ERB.
const ACTIONS: [(&str, &str); 4] = [("{{", "}}"), ("{#", "#}"), ("{%", "%}"), ("<%", "%>")];

/// Keywords of Go templates that output nothing themselves.
const CONTROL: [&str; 9] = [
    "if", "else", "end", "range", "with", "define", "block", "break", "continue",
];

/// The placeholder for an action without a literal. The search for plain values treats it as a variable.
const PLACEHOLDER: &str = "$(TEMPLATE)";

/// The maximum number of lines that are skipped to read the others.
const MAX_UNREAD: usize = 32;

/// Keys that precede no value of a Secret.
const NAMING_KEYS: [&str; 6] = [
    "apiVersion",
    "immutable",
    "kind",
    "name",
    "namespace",
    "type",
];

/// A template, read with placeholders.
#[derive(Default)]
pub(super) struct Unrendered {
    pub(super) documents: Vec<Document>,
    /// The lines without which the others could be read.
    pub(super) unread: Vec<Unread>,
}

/// A line that cannot be read, even with placeholders.
pub(super) struct Unread {
    pub(super) line: usize,
    /// Whether the line contains a literal, in a document that may be a Secret.
    pub(super) may_hold_value: bool,
}

/// Reads the documents of a template that cannot be read without placeholders, as far as possible.
pub(super) fn documents(text: &str, well_formed: &[Document]) -> Unrendered {
    let readable = readable(text).unwrap_or_else(|| text.to_owned());
    let lines: Vec<&str> = readable.split_inclusive('\n').collect();
    let mut kept = lines.clone();
    let mut unread = Vec::new();
    while let Err(error) = manifest::read(Zeroizing::new(kept.concat()).as_bytes()) {
        let at = error.line().and_then(|line| malformed(&kept, line));
        let Some(at) = at.filter(|_| unread.len() < MAX_UNREAD) else {
            let line = error.line().unwrap_or(1);
            let may_hold_value = may_be_secret(&lines, line.saturating_sub(1));
            unread.push(Unread {
                line,
                may_hold_value,
            });
            break;
        };
        let may_hold_value = may_be_secret(&lines, at) && holds_literal(kept[at]);
        kept[at] = if kept[at].ends_with('\n') { "\n" } else { "" };
        unread.push(Unread {
            line: at + 1,
            may_hold_value,
        });
    }
    let is_new = |document: &Document| {
        let line = document.root.line;
        !well_formed.iter().any(|known| known.root.line == line)
    };
    let documents = manifest::read_well_formed(Zeroizing::new(kept.concat()).as_bytes());
    let documents = documents.into_iter().filter(is_new).collect();
    Unrendered { documents, unread }
}

/// Returns the index of the line to skip for an error on a line: the nearest one of the document, at the error or above,
/// that is malformed alone, or else the nearest one with text.
fn malformed(lines: &[&str], error: usize) -> Option<usize> {
    let end = error.min(lines.len());
    let start = start_of_document(lines, end.checked_sub(1)?);
    let filled = || {
        (start..end)
            .rev()
            .filter(|at| !lines[*at].trim().is_empty())
    };
    let is_malformed = |at: &usize| manifest::read(lines[*at].trim().as_bytes()).is_err();
    let found = filled().find(is_malformed);
    found.or_else(|| filled().find(|at| !is_separator(lines[*at])))
}

/// Returns whether the document around a line may be a Secret, or generate one.
fn may_be_secret(lines: &[&str], at: usize) -> bool {
    let at = at.min(lines.len().saturating_sub(1));
    let start = start_of_document(lines, at);
    let after = lines
        .iter()
        .skip(at + 1)
        .position(|line| is_separator(line));
    let end = after.map_or(lines.len(), |after| at + 1 + after);
    let text = lines[start..end].concat();
    let kinds = ["Secret", "SecretList", "SecretGenerator"];
    walk::names_kind(text.as_bytes(), &kinds)
        || ["secretGenerator", "stringData"]
            .iter()
            .any(|name| text.contains(name))
}

fn start_of_document(lines: &[&str], at: usize) -> usize {
    let mut above = lines.iter().take(at + 1);
    above.rposition(|line| is_separator(line)).unwrap_or(0)
}

fn is_separator(line: &str) -> bool {
    line.starts_with("---")
}

/// Returns whether a line contains text that may be a value.
fn holds_literal(line: &str) -> bool {
    let (key, value) = line.split_once(": ").unwrap_or(("", line));
    let is_naming = NAMING_KEYS.contains(&key.trim()) && !value.contains(':');
    !is_naming && (value.contains(LITERAL) || holds_more_than_actions(value))
}

/// Returns the text with placeholders for its actions; `None` if it has none.
pub(super) fn readable(text: &str) -> Option<String> {
    ACTIONS.iter().find(|(open, _)| text.contains(open))?;
    let mut writer = Writer::default();
    let mut rest = text;
    while let Some((before, action, after)) = next_action(rest) {
        writer.text(before);
        writer.action(&action);
        rest = after;
    }
    writer.text(rest);
    writer.end_line();
    Some(writer.done)
}

/// Splits before and after the first action that ends.
fn next_action(text: &str) -> Option<(&str, Action<'_>, &str)> {
    let actions = ACTIONS.into_iter();
    let found = actions.filter_map(|(open, close)| action(text, open, close));
    found.min_by_key(|(before, ..)| before.len())
}

/// Splits before and after the first action with these delimiters. Only those of Go may contain line breaks: other
/// delimiters could be values, and hide what is between them.
fn action<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, Action<'a>, &'a str)> {
    let at = text.find(open)?;
    let inner = &text[at + open.len()..];
    let end_of_line = inner.find('\n').unwrap_or(inner.len());
    let within = if open == "{{" {
        inner
    } else {
        &inner[..end_of_line]
    };
    let is_comment = open == "{{" && inner.trim_start_matches('-').trim_start().starts_with("/*");
    let end_of_comment = is_comment.then(|| inner.find("*/")).flatten().unwrap_or(0);
    let end = end_of_comment + within[end_of_comment..].find(close)?;
    let (content, after) = (&inner[..end], &inner[end + close.len()..]);
    let is_comment = is_comment || open == "{#";
    let action = Action {
        content: content.trim_matches(['-', '~', '+']).trim(),
        lines: content.matches('\n').count(),
        is_silent: is_comment || open == "{%" || open == "<%" && !content.starts_with('='),
        is_comment,
    };
    Some((&text[..at], action, after))
}

struct Action<'a> {
    content: &'a str,
    /// The number of line breaks in it.
    lines: usize,
    is_silent: bool,
    is_comment: bool,
}

impl Action<'_> {
    fn keyword(&self) -> &str {
        self.content.split_whitespace().next().unwrap_or_default()
    }

    /// Returns the variable that the action sets; `.` for the subject of `with` and `range`.
    fn sets(&self) -> Option<(&str, &str)> {
        if matches!(self.keyword(), "with" | "range") {
            return Some((".", self.content.trim_start_matches(char::is_alphabetic)));
        }
        let content = self.content.trim_start_matches("set ").trim_start();
        let (name, value) = content.split_once('=')?;
        let name = name.trim_end_matches(':').trim_end();
        let is_name = !name.contains(|c: char| c.is_whitespace() || "\"'`(|".contains(c));
        (is_name && !name.is_empty()).then_some((name, value))
    }
}

#[derive(Default)]
struct Writer {
    done: String,
    line: String,
    /// Whether an action was on the line, and one that outputs a literal.
    has_action: bool,
    has_literal: bool,
    /// Line breaks inside the actions of the line, which follow it.
    skipped: usize,
    /// Variables with literals.
    literals: BTreeSet<String>,
}

impl Writer {
    fn text(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            self.line.push_str(piece);
            if piece.ends_with('\n') {
                self.end_line();
            }
        }
    }

    fn action(&mut self, action: &Action<'_>) {
        self.has_action = true;
        self.skipped += action.lines;
        if action.is_comment {
            return;
        }
        if let Some((name, value)) = action.sets() {
            // A number is most likely a number of iterations: `range until 3`.
            let is_count = name == "." && !value.contains(['"', '`', '\'']);
            if !is_count && self.outputs_literal(value) {
                self.literals.insert(name.to_owned());
            }
            return;
        }
        // The branches of one line are alternatives, and not one word.
        if self.is_branch(action) {
            self.line.push_str(PLACEHOLDER);
        }
        // A call at the start of a line is no value, because a value is indented below its key.
        let is_call = self.line.is_empty() && matches!(action.keyword(), "include" | "template");
        if action.is_silent || is_call || CONTROL.contains(&action.keyword()) {
            return;
        }
        let is_literal = self.outputs_literal(action.content.trim_start_matches('='));
        self.has_literal |= is_literal;
        self.line
            .push_str(if is_literal { LITERAL } else { PLACEHOLDER });
    }

    fn is_branch(&self, action: &Action<'_>) -> bool {
        matches!(action.keyword(), "else" | "elif" | "elsif") && !self.line.trim().is_empty()
    }

    fn outputs_literal(&self, content: &str) -> bool {
        outputs_literal(content, &|token| self.literals.contains(token))
    }

    /// Ends a line. A line that is a single action, such as an inclusion, becomes empty, because it may produce
    /// several lines.
    fn end_line(&mut self) {
        let is_action = self.has_action
            && !self.has_literal
            && self.line.replace(PLACEHOLDER, "").trim().is_empty();
        if is_action {
            let end = if self.line.ends_with('\n') { "\n" } else { "" };
            end.clone_into(&mut self.line);
        }
        self.done.push_str(&self.line);
        self.done.push_str(&"\n".repeat(self.skipped));
        let literals = std::mem::take(&mut self.literals);
        let done = std::mem::take(&mut self.done);
        *self = Self {
            done,
            literals,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_become_placeholders_and_lines_stay() {
        for (text, want) in [
            ("a: {{ .x }}\n", "a: $(TEMPLATE)\n"),
            ("a: \"{{ .x | default \"\" }}\"\n", "a: \"$(TEMPLATE)\"\n"),
            ("{{- if .x }}\na: 1\n{{- end }}", "\na: 1\n"),
            ("a:\n  {{- include \"x\" . | nindent 2 }}\n", "a:\n\n"),
            ("a: {{ .x }}b{{ .y }}", "a: $(TEMPLATE)b$(TEMPLATE)"),
            ("{{ template \"a\" (list \"b\") }}\n", "\n"),
            (
                "a: {{ include \"a\" (list \"b\") }}\n",
                "a: TEMPLATE-WITH-A-LITERAL\n",
            ),
            (
                "a: {{ if .x }}b{{ else }}c{{ end }}\n",
                "a: b$(TEMPLATE)c\n",
            ),
            ("{{ if .x }}\na: b\n{{ else }}\na: c\n", "\na: b\n\na: c\n"),
            ("a: {{ default \"b\" .x }}", "a: TEMPLATE-WITH-A-LITERAL"),
            ("{{ \"a: b\" }}\n", "TEMPLATE-WITH-A-LITERAL\n"),
            ("{{/* }} a: b */ -}}\nc: 1\n", "\nc: 1\n"),
            ("a: {{ .x |\n  quote }}\nb: 1\n", "a: $(TEMPLATE)\n\nb: 1\n"),
            (
                "{% if a %}\nb: {{ c }}\n{% endif %}\n",
                "\nb: $(TEMPLATE)\n\n",
            ),
            ("a: <%= x %>\n<% end %>\n", "a: $(TEMPLATE)\n\n"),
            ("a: {b: {{ .x }}}\n", "a: {b: $(TEMPLATE)}\n"),
            ("a: {{ .x\n", "a: {{ .x\n"),
            (
                "a: {# x\nb: <% y\nc: {{ .z }}\n",
                "a: {# x\nb: <% y\nc: $(TEMPLATE)\n",
            ),
            (
                "a: {#\nb: c\nd: \"#}\" {{ .e }}\n",
                "a: {#\nb: c\nd: \"#}\" $(TEMPLATE)\n",
            ),
            ("a: {{ .x\n}}\nb: 1\n", "a: $(TEMPLATE)\n\nb: 1\n"),
        ] {
            assert_eq!(readable(text).as_deref(), Some(want), "{text}");
        }
        assert_eq!(readable("a: ${b}\n"), None);
    }

    /// Attack: assigns the value to a variable of the template, and uses the variable in another line.
    #[test]
    fn a_variable_with_a_literal_is_a_literal() {
        for (set, used, is_literal) in [
            ("{{ $p := \"hunter2\" }}", "{{ $p }}", true),
            (
                "{{ $p = default \"hunter2\" .x }}",
                "{{ $p | b64enc }}",
                true,
            ),
            ("{{ with \"hunter2\" }}", "{{ . }}", true),
            ("{% set p = \"hunter2\" %}", "{{ p }}", true),
            ("{{ $p := .Values.p }}", "{{ $p }}", false),
            ("{{ $p := 32 }}", "{{ randAlphaNum $p }}", false),
            ("{{ with .Values.a }}", "{{ .b }}", false),
            ("{{ range $i := until 3 }}", "{{ tpl .Values.x . }}", false),
        ] {
            let text = readable(&format!("{set}\na: {used}\n")).unwrap();
            assert_eq!(text.contains(LITERAL), is_literal, "{set}: {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn keeps_the_number_of_lines(text in "([a-z:]|\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|/\\*|\\*/|\"|\n| ){0,40}") {
            if let Some(readable) = readable(&text) {
                proptest::prop_assert_eq!(readable.matches('\n').count(), text.matches('\n').count());
            }
        }
    }
}
