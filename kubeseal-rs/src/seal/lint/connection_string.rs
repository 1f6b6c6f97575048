//! Recognizes URLs whose credentials are all variables, such as
//! `postgres://{{ .Values.user }}:{{ .Values.password }}@db/app`.

use std::sync::LazyLock;

use regex::Regex;

/// The character that replaces a variable, an action or a verb of `printf`.
pub(super) const VARIABLE: &str = "\u{e000}";

/// Matches a URL. The groups are the password and the parameters.
static URL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^(?:jdbc:)?[a-z][a-z0-9+.-]*://(?:[^/?#@:\s]*:([^/?#\s]*)@)?[^?#@\s]*(?:\?([^#\s]*))?(?:#\S*)?$",
    )
    .ok()
});

/// Matches the name of a parameter for a credential.
static CREDENTIAL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("(?i)pass|pwd|secret|token|key|sig").ok());

/// Returns whether a string is a URL with credentials, each of which is a [`VARIABLE`]. User names, hosts, paths and
/// other parameters are not credentials.
pub(super) fn has_only_variables_as_credentials(text: &str) -> bool {
    let Some(captures) = URL.as_ref().and_then(|url| url.captures(text)) else {
        return false;
    };
    let group = |number| captures.get(number).map(|group| group.as_str());
    let parameters = group(2).into_iter().flat_map(|query| query.split('&'));
    let parameters = parameters.filter_map(credential);
    let mut credentials = group(1).into_iter().chain(parameters).peekable();
    credentials.peek().is_some() && credentials.all(is_variable)
}

/// Returns the value of a parameter that has the name of a credential or no name.
fn credential(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=').unwrap_or(("", parameter));
    let names_credential = CREDENTIAL.as_ref().is_none_or(|named| named.is_match(name));
    (name.is_empty() || names_credential).then_some(value)
}

fn is_variable(text: &str) -> bool {
    !text.is_empty() && text.replace(VARIABLE, "").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_placeholder_if_all_its_credentials_are_variables() {
        for (text, want) in [
            ("postgres://%:%@db/app", true),
            ("postgres://app:%@db:5432/app?sslmode=disable", true),
            ("redis://:%@redis-master:6379/0", true),
            ("mongodb://app:%@a,b/app?authSource=admin", true),
            ("jdbc:mysql://db/app?user=app&password=%", true),
            ("postgres://%:hunter2@db", false),
            ("postgres://%:%hunter2@db", false),
            ("postgres://%:%@hunter2:x@db", false),
            ("postgres://%:%@db/app?password=hunter2", false),
            ("postgres://%:%@db/app?hunter2", false),
            ("postgres://hunter2@%/db", false),
            ("https://hooks.example.com/hunter2/%", false),
            ("postgres://%:%@db hunter2", false),
            ("postgres://%:@db", false),
            ("%:%@db", false),
        ] {
            let text = text.replace('%', VARIABLE);
            assert_eq!(has_only_variables_as_credentials(&text), want, "{text}");
        }
    }
}
