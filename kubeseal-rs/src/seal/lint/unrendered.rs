//! Makes templates of Helm and other tools readable before they are rendered: each action becomes a placeholder, or
//! disappears if it only controls the following text. The number of lines stays the same.

use std::collections::BTreeSet;

use kubeseal_library::walk;
use shared::manifest::{self, Document, folded};
use zeroize::Zeroizing;

use super::placeholder::{LITERAL, has_more_than_actions};
use super::template::{Action, Effect, Form, Literals, Piece, Pieces, may_contain_action};

/// The placeholder for an action without a literal. The search for plain values treats it as a variable.
const PLACEHOLDER: &str = "$(TEMPLATE)";

/// The maximum indentation of the output of an action.
const MAX_INDENTATION: usize = 64;

/// The maximum number of lines that are skipped to make the rest of a template readable.
const MAX_SKIPPED: usize = 32;

/// Keys of fields that contain no value of a Secret.
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
    /// The lines that were skipped to make the rest of the template readable.
    pub(super) unreadable: Vec<UnreadableLine>,
}

/// A line that cannot be read, even with placeholders.
pub(super) struct UnreadableLine {
    /// The number of the line, counted from one.
    pub(super) number: usize,
    /// Whether the line may contain a value of a Secret.
    pub(super) may_contain_value: bool,
}

/// Reads the documents of a template that cannot be read without placeholders, as far as possible.
pub(super) fn documents(
    text: &str,
    literals: &Literals<'_>,
    well_formed: &[Document],
) -> Unrendered {
    let readable = replace_actions(text, literals).unwrap_or_else(|| text.to_owned());
    let lines: Vec<&str> = readable.split_inclusive('\n').collect();
    let mut readable_lines = lines.clone();
    let mut unreadable = Vec::new();
    while let Err(error) = manifest::read(Zeroizing::new(readable_lines.concat()).as_bytes()) {
        let at = error
            .line()
            .and_then(|line| line_to_skip(&readable_lines, line));
        let Some(at) = at.filter(|_| unreadable.len() < MAX_SKIPPED) else {
            let line = error.line().unwrap_or(1);
            let may_contain_value = may_be_secret(&lines, line.saturating_sub(1));
            unreadable.push(UnreadableLine {
                number: line,
                may_contain_value,
            });
            break;
        };
        let may_contain_value = may_be_secret(&lines, at) && has_literal(readable_lines[at]);
        readable_lines[at] = if readable_lines[at].ends_with('\n') {
            "\n"
        } else {
            ""
        };
        unreadable.push(UnreadableLine {
            number: at + 1,
            may_contain_value,
        });
    }
    let well_formed_lines: BTreeSet<usize> = well_formed
        .iter()
        .map(|document| document.root.line)
        .collect();
    let is_new = |document: &Document| !well_formed_lines.contains(&document.root.line);
    let documents = manifest::read_well_formed(Zeroizing::new(readable_lines.concat()).as_bytes());
    let documents = documents.into_iter().filter(is_new).collect();
    Unrendered {
        documents,
        unreadable,
    }
}

/// Returns the index of the line to skip because of an error on the line `error`, counted from one. This is the nearest
/// line of the document, at or above the error, that is malformed on its own or, without such a line, the nearest line
/// with text.
fn line_to_skip(lines: &[&str], error: usize) -> Option<usize> {
    let end = error.min(lines.len());
    let start = start_of_document(lines, end.checked_sub(1)?);
    let filled = || {
        (start..end)
            .rev()
            .filter(|at| !lines[*at].trim().is_empty())
    };
    let is_malformed = |at: &usize| manifest::read(lines[*at].trim().as_bytes()).is_err();
    let nearest = filled().find(is_malformed);
    nearest.or_else(|| filled().find(|at| !is_separator(lines[*at])))
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
    let has_name = || {
        let text = folded(&text);
        ["secretgenerator", "stringdata"]
            .iter()
            .any(|name| text.contains(name))
    };
    walk::names_kind(text.as_bytes(), &kinds) || has_name()
}

fn start_of_document(lines: &[&str], at: usize) -> usize {
    let mut above = lines.iter().take(at + 1);
    above.rposition(|line| is_separator(line)).unwrap_or(0)
}

fn is_separator(line: &str) -> bool {
    line.starts_with("---")
}

/// Returns whether a line contains text that may be a value.
fn has_literal(line: &str) -> bool {
    let (key, value) = line.split_once(": ").unwrap_or(("", line));
    let is_naming = NAMING_KEYS.contains(&key.trim()) && !value.contains(':');
    !is_naming && (value.contains(LITERAL) || has_more_than_actions(value))
}

/// Returns the text with placeholders for its actions; `None` if no action begins in it.
pub(super) fn replace_actions(text: &str, literals: &Literals<'_>) -> Option<String> {
    if !may_contain_action(text) {
        return None;
    }
    let mut writer = Writer {
        literals: literals.inside(),
        output: String::new(),
        line: Line::default(),
    };
    for piece in Pieces::of(text) {
        match piece {
            Piece::Text(text) => writer.text(text),
            Piece::Action(action) => writer.action(&action),
        }
    }
    writer.end_line();
    Some(writer.output)
}

struct Writer<'a> {
    literals: Literals<'a>,
    output: String,
    line: Line,
}

#[derive(Default)]
struct Line {
    text: String,
    has_action: bool,
    /// The indentation of the last output that contains a literal, if the action sets it.
    indentation: Option<usize>,
    has_literal: bool,
    /// Whether an action outputs a Secret with a literal.
    has_secret: bool,
    /// The number of line breaks inside the actions, which follow the line.
    skipped: usize,
}

impl Writer<'_> {
    fn text(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            self.line.text.push_str(piece);
            if piece.ends_with('\n') {
                self.end_line();
            }
        }
    }

    fn action(&mut self, action: &Action<'_>) {
        if action.form == Form::JinjaComment {
            self.jinja_comment(action);
            return;
        }
        self.line.has_action = true;
        self.line.skipped += action.source.matches('\n').count();
        match self.literals.action(action) {
            Effect::Silent => {}
            // The branches of one line are alternatives, and not one word.
            Effect::Branch if self.line.text.trim().is_empty() => {}
            Effect::Branch | Effect::Output { is_literal: false } => {
                self.line.text.push_str(PLACEHOLDER);
            }
            Effect::Secret => {
                self.line.has_secret = true;
                self.line.text.push_str(LITERAL);
            }
            Effect::Output { is_literal: true } => {
                self.line.has_literal = true;
                self.line.indentation = indentation(action.content);
                self.line.text.push_str(LITERAL);
            }
        }
    }

    /// Converts a comment of Jinja, which Helm outputs as text, to a comment of YAML where that changes no value.
    fn jinja_comment(&mut self, action: &Action<'_>) {
        if action.ends_line {
            self.line.text.push_str(" # ");
            self.line.text.push_str(action.content);
        } else {
            self.line.text.push_str(action.source);
        }
    }

    /// Ends a line. A line that is a single action, such as an inclusion, may produce several lines, so it becomes
    /// empty. If it outputs a literal, it becomes an entry of the mapping around it.
    fn end_line(&mut self) {
        let Line {
            text,
            has_action,
            indentation,
            has_literal,
            has_secret,
            skipped,
        } = std::mem::take(&mut self.line);
        let rest = text.replace(PLACEHOLDER, "").replace(LITERAL, "");
        let end = if text.ends_with('\n') { "\n" } else { "" };
        if !has_action || !rest.trim().is_empty() {
            self.output.push_str(&text);
        } else if has_secret {
            let secret = [
                "{kind: Secret, stringData: {",
                LITERAL,
                ": ",
                LITERAL,
                "}}",
                end,
            ];
            self.output.extend(secret);
        } else if has_literal {
            let indentation = indentation.unwrap_or(text.len() - text.trim_start().len());
            self.output.push_str(&" ".repeat(indentation));
            self.output.extend([LITERAL, ": ", LITERAL, end]);
        } else {
            self.output.push_str(end);
        }
        self.output.push_str(&"\n".repeat(skipped));
    }
}

/// Returns the indentation of the output of an expression that ends with `indent` or `nindent`.
fn indentation(content: &str) -> Option<usize> {
    let (_, last) = content.rsplit_once('|')?;
    let mut words = last.split_whitespace();
    let function = words.next()?;
    let count: usize = words.next()?.parse().ok()?;
    let is_known = matches!(function, "indent" | "nindent") && words.next().is_none();
    (is_known && count <= MAX_INDENTATION).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        replace_actions(text, &Literals::of(text))
    }

    #[test]
    fn actions_become_placeholders_on_the_same_lines() {
        for (text, want) in [
            ("a: {{ .x }}\n", "a: $(TEMPLATE)\n"),
            ("a: \"{{ .x | default \"\" }}\"\n", "a: \"$(TEMPLATE)\"\n"),
            ("{{- if .x }}\na: 1\n{{- end }}", "\na: 1\n"),
            ("a:\n  {{- include \"x\" . | nindent 2 }}\n", "a:\n\n"),
            ("a: {{ .x }}b{{ .y }}", "a: $(TEMPLATE)b$(TEMPLATE)"),
            (
                "{{ template \"a\" (list \"b\") }}\n",
                "TEMPLATE-WITH-A-LITERAL: TEMPLATE-WITH-A-LITERAL\n",
            ),
            (
                "a:\n{{- dict \"b\" \"c\" | toYaml | nindent 2 }}\n",
                "a:\n  TEMPLATE-WITH-A-LITERAL: TEMPLATE-WITH-A-LITERAL\n",
            ),
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
            (
                "{{ \"a: b\" }}\n",
                "TEMPLATE-WITH-A-LITERAL: TEMPLATE-WITH-A-LITERAL\n",
            ),
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
            ("a: 1 {# b #}\n", "a: 1  # b\n"),
            ("a: \"{# b #}\"\n", "a: \"{# b #}\"\n"),
            ("a: {% b %}\n", "a: {% b %}\n"),
            (
                "a: {#\nb: c\nd: \"#}\" {{ .e }}\n",
                "a: {#\nb: c\nd: \"#}\" $(TEMPLATE)\n",
            ),
            ("a: {{ .x\n}}\nb: 1\n", "a: $(TEMPLATE)\n\nb: 1\n"),
        ] {
            assert_eq!(read(text).as_deref(), Some(want), "{text}");
        }
        assert_eq!(read("a: ${b}\n"), None);
    }

    /// Attack: a committer assigns the value to a variable of the template, and uses the variable in another line, so
    /// that lint overlooks it.
    #[test]
    fn a_variable_that_contains_a_literal_counts_as_a_literal() {
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
            let text = read(&format!("{set}\na: {used}\n")).unwrap();
            assert_eq!(text.contains(LITERAL), is_literal, "{set}: {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn keeps_the_number_of_lines(text in "([a-z:]|\\{\\{|\\}\\}|\\{%|%\\}|\\{#|#\\}|/\\*|\\*/|\"|\n| ){0,40}") {
            if let Some(readable) = read(&text) {
                proptest::prop_assert_eq!(readable.matches('\n').count(), text.matches('\n').count());
            }
        }
    }
}
