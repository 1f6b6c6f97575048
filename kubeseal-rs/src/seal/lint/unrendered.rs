//! Makes templates of Helm and other tools readable before they are rendered: each action becomes a placeholder, or
//! disappears if it only controls what follows. The number of lines stays the same.

use std::collections::BTreeSet;

use super::placeholder::outputs_literal;

/// Delimiters of actions: of Go and Helm, of comments and statements of Jinja, of ERB.
const ACTIONS: [(&str, &str); 4] = [("{{", "}}"), ("{#", "#}"), ("{%", "%}"), ("<%", "%>")];

/// Keywords of Go templates that output nothing themselves.
const CONTROL: [&str; 9] = [
    "if", "else", "end", "range", "with", "define", "block", "break", "continue",
];

/// The placeholder for an action without a literal. The search for plain values treats it as a variable.
const PLACEHOLDER: &str = "$(TEMPLATE)";
/// The placeholder for an action that contains a literal.
const LITERAL: &str = "TEMPLATE-WITH-A-LITERAL";

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
        if action.is_silent || CONTROL.contains(&action.keyword()) {
            return;
        }
        let is_literal = self.outputs_literal(action.content.trim_start_matches('='));
        self.has_literal |= is_literal;
        self.line
            .push_str(if is_literal { LITERAL } else { PLACEHOLDER });
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
