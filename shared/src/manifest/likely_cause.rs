//! Detects the likely cause of malformed text. For conflict markers and templates, the parser's error names a token and
//! does not explain the cause.

use super::error::{ReadError, ReadProblem};

/// Prefixes of lines that `git merge` writes, except for seven `=`: such a line may also underline a heading.
const MARKERS: [&str; 3] = ["<<<<<<<", ">>>>>>>", "|||||||"];

/// Opening delimiters of template actions: of Go and Helm, of Jinja, of ERB.
const ACTIONS: [&str; 4] = ["{{", "{%", "{#", "<%"];

/// Returns a syntax error with the likely cause as its problem. Returns other errors, and errors without a likely
/// cause, unchanged.
pub(super) fn with_likely_cause(text: &str, error: ReadError) -> ReadError {
    let is_syntax_error = matches!(
        error.problem,
        ReadProblem::Yaml(_) | ReadProblem::Json(_) | ReadProblem::Key
    );
    let Some((document, line)) = error.position.filter(|_| is_syntax_error) else {
        return error;
    };
    if let Some(line) = conflict_line(text) {
        return ReadError::at(document, line, ReadProblem::Conflict);
    }
    if !is_template(text, line) {
        return error;
    }
    ReadError {
        problem: ReadProblem::Template(Box::new(error.problem)),
        ..error
    }
}

/// Returns the line of the first conflict marker, counted from one.
fn conflict_line(text: &str) -> Option<usize> {
    let is_marker = |line: &str| {
        let suffix = MARKERS.iter().find_map(|marker| line.strip_prefix(marker));
        suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with([' ', '\r']))
    };
    Some(text.lines().position(is_marker)? + 1)
}

/// Returns whether a template action is where YAML allows none: on the line that cannot be parsed, or where a key or
/// an unquoted value should begin.
fn is_template(text: &str, malformed_line: usize) -> bool {
    let is_action_start = |text: &str| ACTIONS.iter().any(|action| text.starts_with(action));
    let is_bare = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        let value = line.split_once(": ").map(|(_, value)| value.trim_start());
        is_action_start(line) || value.is_some_and(is_action_start)
    };
    let has_action = |line: &str| ACTIONS.iter().any(|action| line.contains(action));
    let mut lines = text.lines().enumerate();
    lines.any(|(i, line)| is_bare(line) || i + 1 == malformed_line && has_action(line))
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn problem(text: &str) -> (usize, ReadProblem) {
        let error = read(text.as_bytes()).unwrap_err();
        (error.line().unwrap(), error.problem)
    }

    #[test]
    fn reports_conflict_markers_with_their_line() {
        for (text, want) in [
            ("a:\n<<<<<<< HEAD\n  b: 1\n=======\n  b: 2\n>>>>>>> x\n", 2),
            (
                "a: 1\r\n<<<<<<< HEAD\r\nb: 1\r\n=======\r\nb: 2\r\n>>>>>>> x\r\n",
                2,
            ),
            (
                "a: 1\n<<<<<<< ours\nb: 1\n||||||| base\n=======\nb: 2\n>>>>>>> theirs\n",
                2,
            ),
            ("a: 1\nb: 2\n>>>>>>> left over\n", 3),
            (
                "{\n<<<<<<< HEAD\n\"a\": 1\n=======\n\"a\": 2\n>>>>>>> x\n}\n",
                2,
            ),
            // A template with a conflict must be merged before it is rendered.
            (
                "a: {{ .x }}\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> x\n",
                2,
            ),
        ] {
            assert_eq!(problem(text), (want, ReadProblem::Conflict), "{text}");
        }
    }

    #[test]
    fn distinguishes_templates_from_other_malformed_text() {
        for (text, want) in [
            ("metadata:\n  name: {{ include \"a\" . }}\n", true),
            ("{{- if .Values.on }}\na: 1\n{{- end }}\n", true),
            ("items:\n- {{ .x }}: {{ .y }}\n", true),
            ("a: x-{{ .x }}: y\n", true),
            ("{% if on %}\na: 1\n{% endif %}\n", true),
            ("{\"a\": {{ .x }}}", true),
            ("a: [\n", false),
            ("a: '{{ .x }}'\nb: [\n", false),
            ("a: b: c\n=======\n", false),
            ("a: |\n  <<<<<<< x\nb: c: d\n", false),
        ] {
            let is_template = matches!(problem(text).1, ReadProblem::Template(_));
            assert_eq!(is_template, want, "{text}");
        }
    }

    #[test]
    fn ignores_markers_in_well_formed_text() {
        for text in ["a: '{{ .x }}'\n", "a: |\n  <<<<<<< x\n", "'{{ a }}': 1\n"] {
            assert!(read(text.as_bytes()).is_ok(), "{text}");
        }
    }
}
