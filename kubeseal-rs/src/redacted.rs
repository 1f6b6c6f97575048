//! URLs as they may be shown: without user, password, query and fragment, where credentials stand.

use std::borrow::Cow;

/// The text with its credentials replaced by `***`, if it is a URL with any.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Cow::Borrowed(text);
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (address, query) = rest.split_at(end);
    // A password may hold a slash that was not escaped, so the last one counts wherever it is.
    let (user, address) = match address.rsplit_once('@') {
        Some((_, address)) => ("***@", address),
        None => ("", address),
    };
    if user.is_empty() && query.is_empty() {
        return Cow::Borrowed(text);
    }
    let query = query.chars().next().map(|sign| format!("{sign}***"));
    Cow::Owned(format!(
        "{scheme}://{user}{address}{}",
        query.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_what_says_where_and_hides_what_says_who() {
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
        ] {
            assert_eq!(redacted(text), want);
        }
    }

    proptest! {
        /// Attack: whoever reads a log of CI looks for the password of a URL in an error.
        #[test]
        fn no_credential_is_left_whatever_stands_around_it(
            scheme in "[a-z]{1,5}", before in "[ -~]{0,8}", after in "[ -~]{0,8}", path in "[a-z/]{0,8}",
        ) {
            let secret = "CANARY";
            let user = format!("{scheme}://{}{secret}@host/{path}", before.replace(['?', '#'], ""));
            prop_assert!(!redacted(&user).contains(secret));
            for sign in ['?', '#'] {
                let query = format!("{scheme}://host/{path}{sign}{before}{secret}{after}");
                prop_assert!(!redacted(&query).contains(secret), "{query}");
            }
        }
    }
}
