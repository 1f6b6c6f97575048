//! Redacts URLs for display: removes user, password, query and fragment, which may contain
//! credentials.

use std::borrow::Cow;
use std::ffi::OsStr;

use crate::shown::path_text;

/// Returns the string with credentials replaced by `***`, if it is a URL that contains any. Also
/// redacts a malformed URL, such as `https:/user:password@host`: any string that begins with a scheme
/// is treated as a URL.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = after_scheme(text) else {
        return Cow::Borrowed(text);
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (address, query) = rest.split_at(end);
    // A password may contain any unescaped character, so the last `@` counts, wherever it is.
    let (user, address) = match (query.rsplit_once('@'), address.rsplit_once('@')) {
        (Some(_), _) => ("***", ""),
        (None, Some((_, address))) => ("***@", address),
        (None, None) => ("", address),
    };
    if user.is_empty() && query.is_empty() {
        return Cow::Borrowed(text);
    }
    let query = query.chars().next().map(|sign| format!("{sign}***"));
    Cow::Owned(format!(
        "{scheme}{user}{address}{}",
        query.unwrap_or_default()
    ))
}

/// Like [`redacted`], for an argument that is a URL or a path. Bytes of a path that are not UTF-8 are shown
/// as [`path_text`] does.
pub fn redacted_source(source: &OsStr) -> Cow<'_, str> {
    match path_text(source) {
        Cow::Borrowed(text) => redacted(text),
        Cow::Owned(text) => Cow::Owned(redacted(&text).into_owned()),
    }
}

/// Splits a URL before its address; `None` for a string that is not a URL. A URL begins with a scheme, a colon and any
/// number of slashes, or with slashes alone. Any string with a user and a password also counts as a URL. A single
/// letter before a colon is a Windows drive.
fn after_scheme(text: &str) -> Option<(&str, &str)> {
    let is_slash = |c| c == '/' || c == '\\';
    let Some((before, after)) = text.split_once(':') else {
        let address = text.strip_prefix("//")?.trim_start_matches(is_slash);
        return Some(text.split_at(text.len() - address.len()));
    };
    let scheme = before.trim_start();
    let is_scheme_char = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let is_scheme = scheme.len() > 1 && scheme.chars().all(is_scheme_char);
    let address = if is_scheme || after.starts_with("//") {
        after.trim_start_matches(is_slash)
    } else if text.starts_with("//") || after.contains('@') && !is_drive(before, after) {
        text.trim_start_matches(is_slash)
    } else {
        return None;
    };
    Some(text.split_at(text.len() - address.len()))
}

/// Returns whether the string is a path on a Windows drive, which contains no further colon.
fn is_drive(before: &str, after: &str) -> bool {
    before.len() == 1 && after.starts_with(['/', '\\']) && !after.contains(':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_the_location_and_hides_credentials() {
        for (text, want) in [
            ("cert.pem", "cert.pem"),
            ("a@b?c#d", "a@b?c#d"),
            ("https://host/v1/cert.pem", "https://host/v1/cert.pem"),
            (
                "https://jane:hunter2@host/cert.pem",
                "https://***@host/cert.pem",
            ),
            ("https://hunter2@host", "https://***@host"),
            ("https://jane:hun/ter2@host/x", "https://***@host/x"),
            ("https://jane:hun@ter2@host/x", "https://***@host/x"),
            ("https://host/cert?token=hunter2", "https://host/cert?***"),
            ("https://host/cert#hunter2", "https://host/cert#***"),
            (
                "HTTPS://a:hunter2@host:8443/p?hunter2#hunter2",
                "HTTPS://***@host:8443/p?***",
            ),
            ("ftp://a:hunter2@host", "ftp://***@host"),
            ("https:/jane:hunter2@host/x", "https:/***@host/x"),
            ("https:jane:hunter2@host", "https:***@host"),
            ("https:\\\\jane:hunter2@host", "https:\\\\***@host"),
            ("https;//jane:hunter2@host", "***@host"),
            ("//jane:hunter2@host", "//***@host"),
            ("jane:hunter2@host", "jane:***@host"),
            ("https://jane:hun?ter2@host/x", "https://***?***"),
            ("C:\\certs\\a@b.pem", "C:\\certs\\a@b.pem"),
            ("/certs/a@b.pem", "/certs/a@b.pem"),
            ("a:hunter2@host", "***@host"),
            (":jane:hunter2@host", "***@host"),
            ("C:/jane:hunter2@host", "***@host"),
        ] {
            assert_eq!(redacted(text), want);
        }
    }

    proptest! {
        /// Attack: a reader of CI logs finds the password of a URL in an error message.
        #[test]
        fn hides_credentials_in_any_surrounding_text(
            begin in "[a-zA-Z ;_1]{0,6}(:|;|)[/\\\\]{0,4}", sign in "[:;]", scheme in "[a-z]{1,5}", before in "[ -~]{0,8}", after in "[ -~]{0,8}", path in "[a-z/]{0,8}",
        ) {
            let secret = "CANARY";
            let malformed = format!("{begin}jane:{before}{secret}{sign}{after}@host/{path}");
            prop_assert!(!redacted(&malformed).contains(secret), "{malformed}");
            let user = format!("{scheme}://{}{secret}@host/{path}", before.replace(['?', '#'], ""));
            prop_assert!(!redacted(&user).contains(secret));
            for sign in ['?', '#'] {
                let query = format!("{scheme}://host/{path}{sign}{before}{secret}{after}");
                prop_assert!(!redacted(&query).contains(secret), "{query}");
            }
        }
    }
}
