//! Translates templates of Vault Agent: values of a secret in Vault become items of a SealedSecret.
//!
//! | Vault Agent | here |
//! |---|---|
//! | `{{ with secret "secret/data/db" }}` | `{{ with index $ "db" }}`: the last component names the SealedSecret |
//! | `{{ .Data.password }}`, `{{ .Data.data.password }}` | `{{ .password }}` |
//! | `{{ range $k, $v := .Data.data }}` | `{{ range $k, $v := . }}` |
//! | `toJSON`, `base64Decode` and others with an equivalent in sprig | the function of sprig |
//!
//! The prefix `sprig_` of a function is removed. Other functions are refused with an error that names them. As in Go,
//! delimiters inside strings and comments do not end an action.

use std::collections::BTreeSet;

use deliver::is_object_name;

/// A translated template and the SealedSecrets that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TranslatedTemplate {
    pub(super) text: String,
    pub(super) objects: BTreeSet<String>,
}

/// Why a template cannot be translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TranslateError {
    #[error(
        "the function {0} of Vault Agent is not supported\n\
         hint: write the template with sprig functions, in a YAML configuration"
    )]
    Function(String),
    #[error(
        "the field {0} of a secret in Vault does not exist in a SealedSecret\nhint: use `.Data.ITEM`"
    )]
    Field(String),
    #[error(
        "`secret` needs a single quoted path and no further arguments, because a SealedSecret is only read"
    )]
    Secret,
    #[error(
        "the path {0:?} does not end in the name of a SealedSecret\n\
         hint: use `secret \"NAME\"` with the name of the SealedSecret"
    )]
    Path(String),
    #[error(
        "the template uses no secret\nhint: add a block {{{{ with secret \"NAME\" }}}} … {{{{ end }}}}"
    )]
    NoSecret,
    #[error("an action is not closed with `}}}}`")]
    NotClosed,
}

/// Keywords and functions with the same meaning in Vault Agent and in the translated template.
const UNCHANGED_NAMES: &[&str] = &[
    "if",
    "else",
    "end",
    "range",
    "with",
    "break",
    "continue",
    "nil",
    "true",
    "false",
    "and",
    "or",
    "not",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "join",
    "trimPrefix",
    "trimSuffix",
    "indent",
    "regexMatch",
];

/// Functions of Vault Agent, and their equivalents in sprig.
const RENAMED_FUNCTIONS: &[(&str, &str)] = &[
    ("base64Decode", "b64dec"),
    ("base64Encode", "b64enc"),
    ("parseJSON", "fromJson"),
    ("replaceAll", "replace"),
    ("sha256Hex", "sha256sum"),
    ("toJSON", "toJson"),
    ("toJSONPretty", "toPrettyJson"),
    ("toLower", "lower"),
    ("toUnescapedJSON", "toRawJson"),
    ("toUpper", "upper"),
    ("trim", "trimAll"),
    ("trimSpace", "trim"),
];

/// Fields of a secret in Vault other than `Data`.
const OTHER_FIELDS: &[&str] = &[
    "Auth",
    "LeaseDuration",
    "LeaseID",
    "Renewable",
    "RequestID",
    "Warnings",
    "WrapInfo",
];

/// Translates a template.
pub(super) fn translate(contents: &str) -> Result<TranslatedTemplate, TranslateError> {
    let mut objects = BTreeSet::new();
    let mut text = String::new();
    let mut rest = contents;
    while let Some((before, action)) = rest.split_once("{{") {
        let (action, after) = action_end(action).ok_or(TranslateError::NotClosed)?;
        text.push_str(before);
        text.push_str("{{");
        text.push_str(&translate_action(action, &mut objects)?);
        text.push_str("}}");
        rest = after;
    }
    text.push_str(rest);
    if objects.is_empty() {
        return Err(TranslateError::NoSecret);
    }
    Ok(TranslatedTemplate { text, objects })
}

/// Splits after the end of an action. Strings and comments in the action may also contain `}}`.
fn action_end(text: &str) -> Option<(&str, &str)> {
    if is_comment(text) {
        let end = text.find("*/")? + 2;
        let close = end + text[end..].find("}}")?;
        return Some((&text[..close], &text[close + 2..]));
    }
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(after) = rest.strip_prefix("}}") {
            return Some((&text[..at], after));
        }
        at += token(rest).len();
    }
    None
}

fn is_comment(action: &str) -> bool {
    let action = action.strip_prefix('-').unwrap_or(action);
    action.trim_start().starts_with("/*")
}

/// Returns the first token of an action: a string, a word, or a single other character.
fn token(text: &str) -> &str {
    let first = text.chars().next().unwrap_or_default();
    let len = match first {
        '"' | '\'' => quoted_len(text, first),
        '`' => text[1..].find('`').map_or(text.len(), |end| end + 2),
        c if is_word(c) => text.find(|c| !is_word(c)).unwrap_or(text.len()),
        c => c.len_utf8(),
    };
    &text[..len]
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$')
}

fn translate_action(
    action: &str,
    objects: &mut BTreeSet<String>,
) -> Result<String, TranslateError> {
    if is_comment(action) {
        return Ok(action.to_owned());
    }
    let (mut text, mut at) = (String::new(), 0);
    while at < action.len() {
        let word = token(&action[at..]);
        at += word.len();
        if word == "secret" {
            let (name, len) = path_argument(&action[at..])?;
            text.extend(["index $ \"", &name, "\""]);
            objects.insert(name);
            at += len;
        } else {
            text.push_str(&translate_word(word, text.ends_with(')'))?);
        }
    }
    Ok(text)
}

/// Returns the SealedSecret for the path after `secret`, and the length of the path with its quotes and the white space
/// before it.
fn path_argument(rest: &str) -> Result<(String, usize), TranslateError> {
    let spaces = rest.len() - rest.trim_start().len();
    let argument = token(&rest[spaces..]);
    let quote = argument.chars().next().filter(|c| matches!(c, '"' | '`'));
    let path = quote.and_then(|quote| argument.strip_prefix(quote)?.strip_suffix(quote));
    let path = path
        .filter(|path| !path.contains('\\'))
        .ok_or(TranslateError::Secret)?;
    let len = spaces + argument.len();
    let next = rest[len..].trim_start();
    if next.starts_with(['"', '`', '(', '.', '$']) {
        return Err(TranslateError::Secret);
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    if is_object_name(name) {
        Ok((name.to_owned(), len))
    } else {
        Err(TranslateError::Path(path.to_owned()))
    }
}

/// Translates a token other than `secret`. Strings, numbers and other characters stay as they are. After a closing
/// parenthesis, `.Data` becomes an empty string.
fn translate_word(word: &str, is_after_parenthesis: bool) -> Result<String, TranslateError> {
    let first = word.chars().next().unwrap_or_default();
    if first == '.' || first == '$' {
        return translate_field(word, is_after_parenthesis);
    }
    if !first.is_alphabetic() && first != '_' || UNCHANGED_NAMES.contains(&word) {
        return Ok(word.to_owned());
    }
    if let Some((_, name)) = RENAMED_FUNCTIONS.iter().find(|(name, _)| *name == word) {
        return Ok((*name).to_owned());
    }
    // The program that renders the template refuses unknown functions of sprig.
    let of_sprig = word.strip_prefix("sprig_");
    of_sprig
        .map(str::to_owned)
        .ok_or_else(|| TranslateError::Function(word.to_owned()))
}

fn translate_field(word: &str, is_after_parenthesis: bool) -> Result<String, TranslateError> {
    let (variable, path) = word.find('.').map_or((word, ""), |at| word.split_at(at));
    let mut names = path.split('.').skip(1).peekable();
    match names.peek() {
        Some(name) if OTHER_FIELDS.contains(name) => {
            return Err(TranslateError::Field((*name).to_owned()));
        }
        Some(&"Data") => names.next(),
        _ => return Ok(word.to_owned()),
    };
    if names.peek() == Some(&"metadata") {
        return Err(TranslateError::Field("Data.metadata".to_owned()));
    }
    // Version 2 of Vault's key-value engine nests the values one level deeper.
    names.next_if_eq(&"data");
    let fields: String = names.flat_map(|name| [".", name]).collect();
    Ok(match (fields.as_str(), variable) {
        ("", "") if is_after_parenthesis => String::new(),
        ("", "") => ".".to_owned(),
        _ => format!("{variable}{fields}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(contents: &str) -> (String, Vec<String>) {
        let result = translate(contents).unwrap_or_else(|error| panic!("{error}: {contents}"));
        (result.text, result.objects.into_iter().collect())
    }

    #[test]
    fn translates_the_templates_of_vault_tutorials() {
        for (contents, want) in [
            (
                r#"{{ with secret "db" }}{{ .Data.password }}{{ end }}"#,
                r#"{{ with index $ "db" }}{{ .password }}{{ end }}"#,
            ),
            (
                r#"{{- with secret "secret/data/db" -}}DSN=postgres://{{ .Data.data.user }}:{{ .Data.data.password }}@pg{{- end }}"#,
                r#"{{- with index $ "db" -}}DSN=postgres://{{ .user }}:{{ .password }}@pg{{- end }}"#,
            ),
            (
                r#"{{ with secret "kv/db" }}{{ range $k, $v := .Data.data }}export {{ $k }}={{ $v | toJSON }}{{ end }}{{ end }}"#,
                r#"{{ with index $ "db" }}{{ range $k, $v := . }}export {{ $k }}={{ $v | toJson }}{{ end }}{{ end }}"#,
            ),
            (
                r#"{{ $s := secret "db" }}{{ $s.Data.data.user }}"#,
                r#"{{ $s := index $ "db" }}{{ $s.user }}"#,
            ),
            (
                r#"{{ (secret "db").Data.data.user }}{{ index (secret "db").Data "tls.key" }}"#,
                r#"{{ (index $ "db").user }}{{ index (index $ "db") "tls.key" }}"#,
            ),
            (
                r#"{{/* secret "x" }} */}}{{ with secret `db` }}{{ printf "}} secret \"x\"" }}{{ .Data.ca | base64Decode | sprig_quote }}{{ end }}"#,
                r#"{{/* secret "x" }} */}}{{ with index $ "db" }}{{ printf "}} secret \"x\"" }}{{ .ca | b64dec | quote }}{{ end }}"#,
            ),
        ] {
            assert_eq!(
                translated(contents),
                (want.to_owned(), vec!["db".to_owned()]),
                "{contents}"
            );
        }
    }

    #[test]
    fn names_what_is_not_supported() {
        let inside =
            |action: &str| format!("{{{{ with secret \"db\" }}}}{{{{ {action} }}}}{{{{ end }}}}");
        let function = |name: &str| TranslateError::Function(name.into());
        for (contents, want) in [
            (inside("env \"HOME\""), function("env")),
            (inside(".Data.x | toYAML"), function("toYAML")),
            (inside("pkiCert \"pki/issue/x\""), function("pkiCert")),
            (inside("key \"a\""), function("key")),
            (inside("define \"x\""), function("define")),
            (inside(".LeaseID"), TranslateError::Field("LeaseID".into())),
            (
                inside(".Data.metadata.version"),
                TranslateError::Field("Data.metadata".into()),
            ),
            (
                "{{ with secret \"pki/issue/x\" \"common_name=a\" }}{{ end }}".into(),
                TranslateError::Secret,
            ),
            (
                "{{ with secret $path }}{{ end }}".into(),
                TranslateError::Secret,
            ),
            (
                "{{ with secret \"secret/data/My_DB\" }}{{ end }}".into(),
                TranslateError::Path("secret/data/My_DB".into()),
            ),
            ("plain text".into(), TranslateError::NoSecret),
            ("{{ with secret \"db\"".into(), TranslateError::NotClosed),
        ] {
            assert_eq!(translate(&contents), Err(want), "{contents}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_translated_or_refused(contents in "[a-z{}\"`'\\\\.$()|/* \\-]{0,60}") {
            let _ = translate(&contents);
            let _ = translate(&format!("{{{{ with secret \"db\" }}}}{contents}{{{{ end }}}}"));
        }
    }
}
