//! Compares a published page with the page that this version writes.

use std::str;

use crate::Page;

const VERSION: (&str, &str) = ("<span id=\"version\">", "</span>");
const CERTIFICATE: (&str, &str) = ("<pre id=\"pinned\" hidden>", "</pre>");
/// The maximum number of characters of a line in a [`ChangedLine`].
const MAX_SHOWN: usize = 120;

/// How a published page differs from the expected one. At least one field is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The version that the published page names, if it is another one. In that case, only that version can check the
    /// rest of the page, and `line` is `None`.
    pub version: Option<String>,
    /// What the published page seals for, if it is not the expected certificate.
    pub pinned: Option<Pinned>,
    /// The first line that differs by more than version and certificate.
    pub line: Option<ChangedLine>,
}

/// The certificate in a published page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// There is none: each user provides one.
    None,
    /// The text in place of the certificate, which need not be a certificate.
    Text(String),
}

/// A line that differs. The texts are truncated, and untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedLine {
    /// The number of the line, from one.
    pub number: usize,
    /// The expected line; `None` if the published page is longer.
    pub expected: Option<String>,
    /// The published line; `None` if the published page is shorter.
    pub published: Option<String>,
}

/// Compares a published page byte by byte with the expected one. Returns `None` if they are equal.
///
/// Version and certificate of the published page are claims of its author. They only explain a difference: a page that
/// differs in anything else has a changed line, unless it claims another version.
pub fn compare(published: &[u8], expected: &Page<'_>) -> Option<Difference> {
    if published == expected.to_html().as_bytes() {
        return None;
    }
    let text = str::from_utf8(published).unwrap_or_default();
    let version = between(text, VERSION).filter(|version| *version != expected.version);
    let certificate = between(text, CERTIFICATE);
    let claimed = Page {
        version: expected.version,
        certificate: certificate.filter(|certificate| !certificate.is_empty()),
    };
    let pinned = certificate.filter(|_| claimed.certificate != expected.certificate);
    let line = match version {
        Some(_) => None,
        None => first_difference(published, claimed.to_html().as_bytes()),
    };
    Some(Difference {
        version: version.map(truncated),
        pinned: pinned.map(|text| match text {
            "" => Pinned::None,
            text => Pinned::Text(text.to_owned()),
        }),
        line,
    })
}

/// Returns the text between the first mark and the next end.
fn between<'a>(text: &'a str, (begin, end): (&str, &str)) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end)?.0)
}

fn first_difference(published: &[u8], expected: &[u8]) -> Option<ChangedLine> {
    let mut lines = [published, expected].map(|bytes| bytes.split(|byte| *byte == b'\n'));
    let [published, expected] = &mut lines;
    let mut number = 0;
    loop {
        number += 1;
        match (published.next(), expected.next()) {
            (None, None) => return None,
            (published, expected) if published != expected => {
                let shown = |line: &[u8]| truncated(&String::from_utf8_lossy(line));
                return Some(ChangedLine {
                    number,
                    expected: expected.map(shown),
                    published: published.map(shown),
                });
            }
            _ => {}
        }
    }
}

fn truncated(line: &str) -> String {
    let mut chars = line.chars();
    let shown: String = chars.by_ref().take(MAX_SHOWN).collect();
    if chars.next().is_some() {
        shown + "…"
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Page<'_> = Page {
        version: "1.0.0",
        certificate: Some("expected\n"),
    };

    fn difference(published: &str) -> Difference {
        compare(published.as_bytes(), &EXPECTED).unwrap()
    }

    #[test]
    fn equal_pages_do_not_differ() {
        assert_eq!(compare(EXPECTED.to_html().as_bytes(), &EXPECTED), None);
    }

    #[test]
    fn names_another_certificate_and_another_version() {
        let other = Page {
            certificate: Some("other\n"),
            ..EXPECTED
        };
        let want = Difference {
            version: None,
            pinned: Some(Pinned::Text("other\n".to_owned())),
            line: None,
        };
        assert_eq!(difference(&other.to_html()), want);
        let without = Page {
            certificate: None,
            ..EXPECTED
        };
        let found = difference(&without.to_html());
        assert_eq!((found.pinned, found.line), (Some(Pinned::None), None));
        let newer = Page {
            version: "2.0.0",
            ..EXPECTED
        };
        let found = difference(&newer.to_html());
        assert_eq!(found.version.as_deref(), Some("2.0.0"));
        assert_eq!((found.pinned, found.line), (None, None));
    }

    /// Attack: an author changes one character of a published page anywhere, adds a part, or cuts a part off.
    #[test]
    fn every_change_is_a_difference() {
        let html = EXPECTED.to_html();
        for (position, _) in html.char_indices().step_by(97) {
            let mut bytes = html.clone().into_bytes();
            bytes[position] ^= 1;
            let found = compare(&bytes, &EXPECTED).unwrap();
            assert!(found.version.is_some() || found.pinned.is_some() || found.line.is_some());
            assert!(compare(&html.as_bytes()[..position], &EXPECTED).is_some());
        }
        let added = format!("{html}<script>alert(1)</script>\n");
        let line = difference(&added).line.unwrap();
        assert_eq!(line.expected.as_deref(), Some(""));
        assert_eq!(line.published.as_deref(), Some("<script>alert(1)</script>"));
    }

    /// Attack: an author replaces the certificate and makes another change, so that only the certificate is reported.
    #[test]
    fn a_change_is_named_although_the_certificate_differs_too() {
        let other = Page {
            certificate: Some("other\n"),
            ..EXPECTED
        };
        let changed = other.to_html().replace("<h1>", "<h1 class=\"x\">");
        let found = difference(&changed);
        assert_eq!(found.pinned, Some(Pinned::Text("other\n".to_owned())));
        assert!(
            found
                .line
                .unwrap()
                .published
                .unwrap()
                .contains("class=\"x\"")
        );
    }

    /// Attack: the certificate of a published page has markup, which would be escaped in a page of this version.
    #[test]
    fn markup_in_place_of_the_certificate_is_a_changed_line() {
        let html = EXPECTED.to_html().replace("expected\n", "<b>x</b>\n");
        assert!(difference(&html).line.is_some());
    }

    #[test]
    fn garbage_and_other_encodings_are_a_changed_first_line() {
        for bytes in [&b""[..], b"\xff\xfe<\0", b"hello", &[b'a'; 1000]] {
            let found = compare(bytes, &EXPECTED).unwrap();
            let line = found.line.unwrap();
            assert_eq!(line.number, 1);
            assert!(line.published.unwrap().chars().count() <= MAX_SHOWN + 1);
        }
    }
}
