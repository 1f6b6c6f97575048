//! Checks names, item keys, and keys and values of labels by the API server's rules.

/// A name or item key that is not accepted. The message quotes it, since names and item keys are not secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An invalid item key.
    #[error(
        "{0:?} is not a valid item key: use 1 to 253 letters, digits, `-`, `_` and `.`; `.` alone and a leading `..` are not allowed"
    )]
    Item(String),
    /// An invalid object name.
    #[error(
        "{0:?} is not a valid Secret name: use at most 253 lowercase letters, digits, `-` and `.`, with a letter or digit at both ends of each part between dots"
    )]
    Object(String),
    /// An invalid namespace.
    #[error(
        "{0:?} is not a valid namespace: use at most 63 lowercase letters, digits and `-`, with a letter or digit at both ends"
    )]
    Namespace(String),
}

/// Checks whether a Secret can have this item key.
///
/// # Errors
///
/// Returns [`NameError::Item`] if it cannot.
pub fn check_item(key: &str) -> Result<(), NameError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_well_formed = (1..=253).contains(&key.len()) && key.chars().all(is_allowed);
    if is_well_formed && key != "." && !key.starts_with("..") {
        Ok(())
    } else {
        Err(NameError::Item(key.to_owned()))
    }
}

/// Checks whether a Secret can have this name (RFC 1123 subdomain).
///
/// # Errors
///
/// Returns [`NameError::Object`] if it cannot.
pub fn check_object(name: &str) -> Result<(), NameError> {
    if name.len() <= 253 && name.split('.').all(is_label) {
        Ok(())
    } else {
        Err(NameError::Object(name.to_owned()))
    }
}

/// Checks a name to seal for, like [`check_object`], but accepts uppercase letters: the API server rejects them, but
/// Bitnami's tool seals for such names, and they make no label ambiguous.
///
/// # Errors
///
/// Returns [`NameError::Object`] if the name is not accepted.
pub fn check_sealed_object(name: &str) -> Result<(), NameError> {
    check_object(&name.to_ascii_lowercase()).map_err(|_| NameError::Object(name.to_owned()))
}

/// Checks whether a namespace is valid (RFC 1123 label).
///
/// # Errors
///
/// Returns [`NameError::Namespace`] if it is not.
pub fn check_namespace(name: &str) -> Result<(), NameError> {
    if name.len() <= 63 && is_label(name) {
        Ok(())
    } else {
        Err(NameError::Namespace(name.to_owned()))
    }
}

/// Returns whether a label or annotation can have this key: a name, optionally preceded by a domain and `/`.
pub fn is_metadata_key(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    domain.is_none_or(|domain| check_object(domain).is_ok())
        && !name.is_empty()
        && is_label_value(name)
}

/// Returns whether a label can have this value.
pub fn is_label_value(value: &str) -> bool {
    let is_valid_end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    value.len() <= 63
        && value.chars().all(is_allowed)
        && is_valid_end(value.chars().next())
        && is_valid_end(value.chars().last())
}

fn is_label(label: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_names_that_the_api_server_accepts() {
        for (key, want) in [
            ("a", true),
            ("A_b-c.d", true),
            (".x", true),
            ("", false),
            ("..", false),
            ("..x", false),
            (".", false),
            ("a b", false),
            ("ü", false),
        ] {
            assert_eq!(check_item(key).is_ok(), want, "{key:?}");
        }
        for (name, want) in [
            ("a", true),
            ("a.b-c", true),
            ("A", false),
            ("a..b", false),
            ("-a", false),
            ("a/b", false),
            ("", false),
        ] {
            assert_eq!(check_object(name).is_ok(), want, "{name:?}");
        }
        for (name, want) in [("a-1", true), ("a.b", false), ("..", false), ("", false)] {
            assert_eq!(check_namespace(name).is_ok(), want, "{name:?}");
        }
    }
}
