//! Placeholders for values: actions of templates, variables, references to secret stores, and strings such as
//! `CHANGEME`.

use std::sync::LazyLock;

use regex::Regex;

use super::connection_string;
use super::template::{Effect, Form, Literals, Piece, Pieces};

/// Matches placeholders that may be a part of a string.
static PLACEHOLDER_PART: LazyLock<Option<Regex>> = LazyLock::new(|| {
    // Variables of Flux, shells and build tools, without a default: a default would be a value. The text after `?` is
    // an error message. Without braces, only capitals are a variable: `$ecret` may be a password.
    let parts = [
        r"\$\{[A-Za-z_][A-Za-z0-9_.]*(:?[=-]|:?\?[^{}\n]*)?\}",
        r"\$[A-Z][A-Z_]*",
        r"\$\([A-Za-z_][A-Za-z0-9_.]*\)",
        r"#\{[A-Za-z_][A-Za-z0-9_.]*\}#?",
    ];
    Regex::new(&parts.join("|")).ok()
});

/// Matches placeholders that have to be the whole string, in lowercase.
static WHOLE_PLACEHOLDER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let forms = [
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
        r"<([a-z]|base64|sha256|oauth2|x509|s3)([a-z _.:/#|-]|base64|sha256|oauth2|x509|s3)*>",
        "__[a-z][a-z_]*__",
        "@{1,2}[a-z][a-z_]*@{1,2}",
        "%[a-z][a-z_]*%",
        // Hidden values, and wildcards in patterns of Kyverno.
        r"\*{3,}",
        r"\?\*",
        // References of vals, 1Password and Vault.
        r"ref\+[a-z0-9]+://[^\s/]+/\S+",
        r"op://[^\s/]+/[^\s/]+/\S+",
        r"vault:[a-z0-9_./-]+#\S+",
    ];
    Regex::new(&format!("^({})$", forms.join("|"))).ok()
});

/// Returns whether a string is a placeholder and contains no value. `literals` are the literals of the surrounding
/// file.
pub(super) fn is_placeholder(text: &str, literals: &Literals<'_>) -> bool {
    let text = text.trim();
    if is_whole_placeholder(text) {
        return true;
    }
    let Some(rest) = with_variables(text, literals) else {
        return false;
    };
    let Some(parts) = PLACEHOLDER_PART.as_ref() else {
        return false;
    };
    let rest = parts.replace_all(&rest, connection_string::VARIABLE);
    if rest == text && !text.is_empty() || rest.contains(LITERAL) {
        return false;
    }
    // Only separators may remain between the parts, as in `user:password@host` with three variables.
    let is_separator = |rest: &str| {
        !rest
            .replace(connection_string::VARIABLE, "")
            .contains(is_value_char)
    };
    is_separator(&rest) || connection_string::has_only_variables_as_credentials(&rest)
}

/// Returns whether a string is a placeholder such as `CHANGEME`, without actions and variables.
pub(super) fn is_whole_placeholder(text: &str) -> bool {
    let pattern = WHOLE_PLACEHOLDER.as_ref();
    pattern.is_some_and(|pattern| pattern.is_match(&text.to_ascii_lowercase()))
}

/// The text that replaces an action that outputs a literal in an unrendered template.
pub(super) const LITERAL: &str = "TEMPLATE-WITH-A-LITERAL";

/// Returns whether a string contains a variable or a template action.
pub(super) fn is_templated(text: &str) -> bool {
    let part = PLACEHOLDER_PART
        .as_ref()
        .is_some_and(|part| part.is_match(text));
    part || text.contains(LITERAL)
        || matches!(text.find("{{"), Some(at) if text[at..].contains("}}"))
}

/// Returns whether a string contains more than variables and template actions.
pub(super) fn has_more_than_actions(text: &str) -> bool {
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
    let part = PLACEHOLDER_PART.as_ref();
    part.is_none_or(|part| part.replace_all(&rest, "").contains(is_value_char))
}

fn is_value_char(c: char) -> bool {
    c.is_alphanumeric() || c.is_control() && !c.is_whitespace()
}

/// Returns the string with [`connection_string::VARIABLE`] for its template actions, or `None` if an action outputs a
/// literal, or a Secret that contains one.
fn with_variables(text: &str, literals: &Literals<'_>) -> Option<String> {
    let own = literals.nested(text);
    let mut state = own.inside();
    let mut rest = String::new();
    for piece in Pieces::of(text) {
        match piece {
            Piece::Text(text) => rest.push_str(text),
            Piece::Action(action) if action.form == Form::JinjaComment => {
                rest.push_str(action.source);
            }
            Piece::Action(action) => {
                let effect = state.action(&action);
                if matches!(effect, Effect::Output { is_literal: true } | Effect::Secret) {
                    return None;
                }
                rest.push_str(connection_string::VARIABLE);
            }
        }
    }
    Some(rest)
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
            "{{ requiredEnv \"PW\" }}",
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
            "postgres://{{ .Values.user }}:{{ .Values.password }}@db",
            "postgres://app:${PASSWORD}@{{ .Values.host }}:5432/app?sslmode=disable",
            "{{ printf \"postgres://%s:%s@%s/app\" .Values.user .Values.password .Values.host }}",
            "${TOKEN:?must be set}",
            "$TOKEN",
            "$USER:$PASSWORD",
            "<base64>",
            "<base64-encoded password>",
            "@@TOKEN@@",
            "%TOKEN%",
            "****",
            "?*",
        ] {
            assert!(is_placeholder(text, &Literals::default()), "{text}");
        }
    }

    #[test]
    fn a_value_next_to_or_inside_a_placeholder_is_detected() {
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
            "{# hunter2 #}",
            "{% hunter2 %}",
            "<% hunter2 %>",
            "!!@@##",
            "postgres://{{ .Values.user }}:hunter2@db",
            "postgres://{{ .Values.user }}:{{ .Values.password | default \"hunter2\" }}@db",
            "{{ printf \"postgres://app:hunter2@%s\" .Values.host }}",
            "{{ printf \"postgres://%s:%s@db\" \"app\" \"hunter2\" }}",
            "${TOKEN:?}hunter2",
            "$PA55",
            "<hunter base64 2>",
            "%hunter2%",
            "**",
            "?",
            "\u{0}\u{1}",
        ] {
            assert!(!is_placeholder(text, &Literals::default()), "{text}");
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
