//! Checks names by the rules of an API server. Without a cluster, no API server checks them, and each name becomes a
//! file name.

/// A name or namespace is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    /// The namespace is missing. There is no default, since the values are sealed for a namespace.
    #[error("metadata.namespace is missing; add the namespace that the values were sealed for")]
    NoNamespace,
    /// The namespace is missing in a cluster-wide object, whose values can be unsealed in any namespace.
    #[error(
        "metadata.namespace is missing; the values can be unsealed in any namespace, so add the namespace that selects \
         their directory in `secrets`"
    )]
    AnyNamespace,
    /// The name is missing.
    #[error(
        "metadata.name is missing; add the name of the Secret; with strict scope, use the name that the values were sealed for"
    )]
    NoName,
    /// The namespace is not a DNS label (RFC 1123).
    #[error(
        "metadata.namespace {0:?} is not a valid namespace: use at most 63 lowercase letters, digits and `-`, with a \
         letter or digit at both ends"
    )]
    Namespace(String),
    /// The name is not a DNS subdomain (RFC 1123).
    #[error(
        "metadata.name {0:?} is not a valid Secret name: use at most 253 lowercase letters, digits, `-` and `.`, with a \
         letter or digit at both ends of each part between dots"
    )]
    Name(String),
}

/// The directory in `status` for objects without a namespace. No valid namespace contains an underscore.
pub(super) const NO_NAMESPACE: &str = "_no-namespace";

/// Returns the name of the directory in `status` for a namespace, which can be empty.
pub(super) fn status_directory(namespace: &str) -> &str {
    if namespace.is_empty() {
        NO_NAMESPACE
    } else {
        namespace
    }
}

/// Returns the namespace of a directory in `status`; `None` if the directory does not belong to a namespace.
pub(super) fn status_namespace(directory: &str) -> Option<&str> {
    match directory {
        NO_NAMESPACE => Some(""),
        _ => check_namespace(directory).ok().map(|()| directory),
    }
}

/// Checks that the namespace is a DNS label.
///
/// # Errors
///
/// Returns [`NameError`] if the namespace is missing or invalid.
pub(super) fn check_namespace(namespace: &str) -> Result<(), NameError> {
    if namespace.is_empty() {
        Err(NameError::NoNamespace)
    } else if namespace.len() > 63 || !is_label(namespace) {
        Err(NameError::Namespace(shorten(namespace)))
    } else {
        Ok(())
    }
}

/// Checks that the name is a DNS subdomain.
///
/// # Errors
///
/// Returns [`NameError`] if the name is missing or invalid.
pub(super) fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        Err(NameError::NoName)
    } else if name.len() > 253 || !name.split('.').all(is_label) {
        Err(NameError::Name(shorten(name)))
    } else {
        Ok(())
    }
}

/// Returns whether the name of an item can be a file name next to `..data`. Kubernetes has the same rules for item
/// names.
pub(crate) fn is_item(key: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=253).contains(&key.len())
        && key.bytes().all(is_allowed)
        && key != "."
        && !key.starts_with("..")
}

fn is_label(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.bytes().all(is_allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Shortens a name for a message, so that a long name does not fill the log.
fn shorten(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_names_that_an_api_server_accepts() {
        let longest_label = "a".repeat(63);
        let too_long_label = "a".repeat(64);
        for (text, namespace, name) in [
            ("a", true, true),
            ("a-1", true, true),
            ("1a", true, true),
            (&longest_label, true, true),
            (&too_long_label, false, true),
            (&"a.".repeat(126), false, false),
            (&format!("{}a", "a.".repeat(126)), false, true),
            (&format!("{}ab", "a.".repeat(126)), false, false),
            ("a.b", false, true),
            ("", false, false),
            (".", false, false),
            ("..", false, false),
            ("a..b", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("a.-b", false, false),
            ("A", false, false),
            ("a_b", false, false),
            ("a/b", false, false),
            ("../a", false, false),
            ("a\0b", false, false),
            ("ä", false, false),
            ("a\n", false, false),
        ] {
            assert_eq!(
                check_namespace(text).is_ok(),
                namespace,
                "namespace {text:?}"
            );
            assert_eq!(check_name(text).is_ok(), name, "name {text:?}");
        }
    }

    #[test]
    fn accepts_item_names_that_can_be_file_names() {
        let longest = "x".repeat(253);
        for (text, want) in [
            ("a", true),
            (".hidden", true),
            ("A_b-c.txt", true),
            (&longest, true),
            (&format!("{longest}x"), false),
            ("", false),
            (".", false),
            ("..", false),
            ("..data", false),
            ("a/b", false),
            ("a b", false),
            ("a\0", false),
            ("ä", false),
        ] {
            assert_eq!(is_item(text), want, "{text:?}");
        }
    }
}
