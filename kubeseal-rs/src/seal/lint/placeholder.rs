//! Placeholders for values: actions of templates, variables, references to secret stores, and texts such as
//! `CHANGEME`.

use std::sync::LazyLock;

use regex::Regex;

/// Keywords and functions of templates whose literal arguments are not part of the value: names, conditions, lengths,
/// separators. All other literals are values.
const NAMING: &[&str] = &[
    "if",
    "else",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "index",
    "include",
    "template",
    "lookup",
    // A file of the chart, whose name is the literal.
    ".Files.Get",
    ".Files.Glob",
    "$.Files.Get",
    "$.Files.Glob",
    "get",
    "hasKey",
    "dig",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "regexMatch",
    "trimPrefix",
    "trimSuffix",
    "replace",
    "split",
    "splitList",
    "join",
    "indent",
    "nindent",
    "trunc",
    "substr",
    "fail",
    "randAlphaNum",
    "randAlpha",
    "randNumeric",
    "randAscii",
    "randBytes",
    "genPrivateKey",
    "genCA",
];

/// Matches placeholders that may be a part of a text.
static PART: LazyLock<Option<Regex>> = LazyLock::new(|| {
    // Variables of Flux, shells and build tools, without a default: a default would be a value.
    let parts = [
        r"\$\{[A-Za-z_][A-Za-z0-9_.]*(:?[=?-])?\}",
        r"\$\([A-Za-z_][A-Za-z0-9_.]*\)",
        r"#\{[A-Za-z_][A-Za-z0-9_.]*\}#?",
    ];
    Regex::new(&parts.join("|")).ok()
});

/// Matches placeholders that have to be the whole text, in lower case.
static WHOLE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let whole = [
        "change[-_ ]?me",
        "replace[-_ ]?me",
        "fill[-_ ]?me",
        "placeholder",
        "redacted",
        "todo",
        "tbd",
        "fixme",
        r"your[-_ ][a-z_ -]+",
        "x{3,}",
        // `<password>`, and `<path:…#key>` of the Vault plug-in of Argo CD. With a digit it may be a password.
        r"<[a-z][a-z _.:/#|-]*>",
        "__[a-z][a-z_]*__",
        "@[a-z][a-z_]*@",
        // References of vals, 1Password and Vault.
        r"ref\+[a-z0-9]+://[^\s/]+/\S+",
        r"op://[^\s/]+/[^\s/]+/\S+",
        r"vault:[a-z0-9_./-]+#\S+",
    ];
    Regex::new(&format!("^({})$", whole.join("|"))).ok()
});

/// Returns whether a text is a placeholder and contains no value.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    let whole = WHOLE.as_ref();
    if whole.is_some_and(|whole| whole.is_match(&text.to_ascii_lowercase())) {
        return true;
    }
    let Some(rest) = without_actions(text) else {
        return false;
    };
    let rest = PART
        .as_ref()
        .map(|part| part.replace_all(&rest, "").into_owned());
    // Only separators may remain between the parts, as in `user:password@host` with three variables.
    let is_part_missing = |rest: &str| rest.len() == text.len() && !text.is_empty();
    rest.is_some_and(|rest| !is_part_missing(&rest) && !rest.contains(is_of_value))
}

/// What an unrendered template contains instead of an action that outputs a literal.
pub(super) const LITERAL: &str = "TEMPLATE-WITH-A-LITERAL";

/// Returns whether a text contains a variable or a template action.
pub(super) fn is_templated(text: &str) -> bool {
    let part = PART.as_ref().is_some_and(|part| part.is_match(text));
    part || text.contains(LITERAL)
        || matches!(text.find("{{"), Some(at) if text[at..].contains("}}"))
}

/// Returns whether a text contains more than variables and template actions.
pub(super) fn holds_more_than_actions(text: &str) -> bool {
    let mut rest = String::new();
    let mut tail = text;
    while let Some((before, action)) = tail.split_once("{{") {
        rest.push_str(before);
        let Some((_, after)) = action.split_once("}}") else {
            return true;
        };
        tail = after;
    }
    rest.push_str(tail);
    let rest = rest.replace(LITERAL, "");
    let part = PART.as_ref();
    part.is_none_or(|part| part.replace_all(&rest, "").contains(is_of_value))
}

fn is_of_value(c: char) -> bool {
    c.is_alphanumeric() || c.is_control() && !c.is_whitespace()
}

/// Returns the text without its template actions, or `None` if an action contains a value or does not end.
fn without_actions(text: &str) -> Option<String> {
    let mut rest = String::new();
    let mut tail = text;
    while let Some(at) = tail.find("{{") {
        rest.push_str(&tail[..at]);
        let end = at + tail[at..].find("}}")?;
        if makes_value(&tail[at + 2..end]) {
            return None;
        }
        tail = &tail[end + 2..];
    }
    rest.push_str(tail);
    Some(rest)
}

/// Returns whether an action outputs a literal. Names of keys and templates are literals too, so this depends on the
/// function that they are passed to.
fn makes_value(action: &str) -> bool {
    outputs_literal(action, &|_| false)
}

/// Like [`makes_value`], but some variables are also known to be literals.
pub(super) fn outputs_literal(action: &str, is_known: &dyn Fn(&str) -> bool) -> bool {
    // The function of each open parenthesis, the innermost last, and the number of its arguments so far; empty where
    // a function is expected.
    let mut functions = vec![("", 0)];
    let mut rest = action.trim_matches('-').trim_start();
    while !rest.is_empty() {
        let (token, tail) = token(rest);
        rest = tail.trim_start();
        let Some((function, arguments)) = functions.last_mut() else {
            // An unmatched parenthesis: not a Go template.
            return true;
        };
        match token {
            "|" | ":=" | "=" => (*function, *arguments) = ("", 0),
            "(" => {
                *arguments += 1;
                functions.push(("", 0));
            }
            ")" => drop(functions.pop()),
            _ if is_literal(token, function, *arguments) => return true,
            _ if is_known(token) && !is_naming(function) => return true,
            _ if function.is_empty() => *function = token,
            // `if eq .a "b"`: the condition is a separate call.
            _ if matches!(*function, "if" | "else") => {}
            _ => *arguments += 1,
        }
    }
    false
}

/// Returns whether a token is a string or number that becomes part of the output of the action.
fn is_literal(token: &str, function: &str, arguments: usize) -> bool {
    let text = match function {
        "printf" => token.replace("%s", "").replace("%d", "").replace("%v", ""),
        _ => token.to_owned(),
    };
    let is_text = text.starts_with(['"', '`', '\'']) && text.contains(char::is_alphanumeric);
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    // The first argument of `required` is an error message.
    let is_message = function == "required" && arguments == 0;
    (is_text || is_number) && !is_message && !is_naming(function)
}

fn is_naming(function: &str) -> bool {
    NAMING.contains(&function)
}

/// Returns the first token and the rest of the text.
fn token(text: &str) -> (&str, &str) {
    let mut chars = text.char_indices();
    let Some((_, first)) = chars.next() else {
        return ("", "");
    };
    let end = match first {
        '"' | '`' | '\'' => {
            let mut is_escaped = false;
            let close = chars.find(|(_, c)| {
                let closes = *c == first && !is_escaped;
                is_escaped = *c == '\\' && !is_escaped && first != '`';
                closes
            });
            close.map_or(text.len(), |(at, c)| at + c.len_utf8())
        }
        '|' | '(' | ')' => 1,
        _ => text
            .find(|c: char| c.is_whitespace() || "|()\"`".contains(c))
            .unwrap_or(text.len()),
    };
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_contain_no_value() {
        for text in [
            "",
            "  \n",
            "${TOKEN}",
            "${TOKEN:=}",
            "${token_1:-}",
            "${A}:${B}@${C}",
            "$(TOKEN)",
            "#{Token}#",
            "{{ .Values.password }}",
            "{{- .Values.password | b64enc | quote -}}",
            "{{ index .Values \"my-key\" }}",
            "{{ include \"app.password\" . | b64enc }}",
            "{{ required \"a password is needed\" .Values.password }}",
            "{{ (lookup \"v1\" \"Secret\" .Release.Namespace \"db\").data.password }}",
            "{{ randAlphaNum 32 | b64enc }}",
            "{{ .Values.a }}-{{ .Values.b }}\n",
            "{{ .Files.Get \"files/password\" | b64enc }}",
            "${{ secrets.TOKEN }}",
            "{{ \"{{\" }}",
            "{{ printf \"%s:%s\" .Values.user .Values.password }}",
            "{{ if eq .Values.env \"prod\" }}{{ .Values.a }}{{ end }}",
            "{{ $p := index .Values \"my-key\" }}{{ $p | trunc 63 | trimSuffix \"-\" }}",
            "{{ if and (eq .Values.env \"prod\") .Values.a }}{{ .Values.a }}{{ else if eq .b \"c\" }}{{ .b }}{{ end }}",
            "CHANGEME",
            "change-me",
            "<your password>",
            "<path:secret/data/db#password>",
            "ref+vault://secret/db#/password",
            "op://vault/db/password",
            "vault:secret/data/db#password",
            "__TOKEN__",
            "@TOKEN@",
            "xxxx",
            "your-password-here",
            "TODO",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn a_value_beside_or_inside_a_placeholder_is_a_value() {
        for text in [
            "hunter2",
            "correct horse",
            "****!",
            "${TOKEN:=hunter2}",
            "${TOKEN:-hunter2}",
            "${TOKEN",
            "$ecret",
            "${A}hunter2",
            "postgres://app:hunter2@${HOST}/db",
            "{{ .Values.user }}:hunter2",
            "{{ \"hunter2\" }}",
            "{{ `hunter2` | b64enc }}",
            "{{ .Values.x | default \"hunter2\" }}",
            "{{ default \"hunter2\" .Values.x }}",
            "{{ printf \"hunter2-%s\" .Values.x }}",
            "{{ ternary \"a\" \"hunter2\" .Values.x }}",
            "{{ coalesce .Values.x \"hunter2\" }}",
            "{{ print 12345 }}{{ 12345 }}",
            "{{ .Values.x",
            "{{ or .Values.password \"hunter2\" }}",
            "{{ $p := \"hunter2\" }}{{ $p }}",
            "{{ .Values.p | default (lower \"HUNTER2\") }}",
            "{{ b64dec \"aHVudGVyMg==\" }}",
            "{{ tpl \"hunter2\" . }}",
            "{{ trim \"hunter2\" }}",
            "{{ list \"hunter2\" | first }}",
            "{{ required \"x\" \"hunter2\" }}",
            "{{ with \"hunter2\" }}{{ . }}{{ end }}",
            "{{ if eq .a \"b\" }}{{ \"hunter2\" }}{{ end }}",
            "<hunter2>",
            "__hunter2__",
            "@hunter2@",
            "op://hunter2",
            "ref+a://hunter2",
            "changeme2",
            "<script>alert(1)</script>",
            "xx",
            "!!@@##",
            "\u{0}\u{1}",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn recognizes_partly_templated_names() {
        for (text, want) in [
            ("{{ .Release.Name }}-db", true),
            ("db-${CLUSTER}", true),
            ("db", false),
            ("{{db", false),
        ] {
            assert_eq!(is_templated(text), want, "{text}");
        }
    }
}
