//! A page in which people without a shell seal values: one HTML file that loads nothing, sends nothing, and works from
//! `file://`.
//!
//! The sources of the page are in the directory `page` of this crate. [`Page::to_html`] puts them together, so equal
//! versions and certificates give equal bytes; [`compare()`] compares a published page with these bytes. The page has
//! one style and one script, and its policy admits exactly these two, by their hashes.

mod compare;
pub mod html;

use html::{escaped, fill, policy};

pub use compare::{ChangedLine, Difference, Pinned, compare};

const DOCUMENT: &str = include_str!("../page/index.html");
const STYLE: &str = concat!("\n", include_str!("../page/style.css"));
/// The parts of the script, in order: functions before the code that calls them.
const SCRIPT: &str = concat!(
    "\n",
    include_str!("../page/der.js"),
    "\n",
    include_str!("../page/certificate.js"),
    "\n",
    include_str!("../page/seal.js"),
    "\n",
    include_str!("../page/checks.js"),
    "\n",
    include_str!("../page/manifest.js"),
    "\n",
    include_str!("../page/yaml.js"),
    "\n",
    include_str!("../page/form.js"),
);

/// What a page contains besides its sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    /// The version that the page shows.
    pub version: &'a str,
    /// The certificate that the page seals for, in PEM; `None` if each user provides one.
    pub certificate: Option<&'a str>,
}

impl Page<'_> {
    /// Returns the page. The result depends on the fields and the sources only.
    pub fn to_html(&self) -> String {
        fill(DOCUMENT, |name| self.content(name))
    }

    fn content(&self, placeholder: &str) -> String {
        match placeholder {
            "policy" => policy(SCRIPT, STYLE),
            "style" => STYLE.to_owned(),
            "script" => SCRIPT.to_owned(),
            "version" => escaped(self.version),
            "certificate" => escaped(self.certificate.unwrap_or_default()),
            // A test checks that the document has no other placeholder.
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::html::next_placeholder;
    use super::*;

    const PAGE: Page<'_> = Page {
        version: "1.2.3",
        certificate: Some("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
    };

    #[test]
    fn every_placeholder_has_content() {
        let mut names = Vec::new();
        let mut rest = DOCUMENT;
        while let Some((_, name, after)) = next_placeholder(rest) {
            names.push(name);
            rest = after;
        }
        names.sort_unstable();
        assert_eq!(
            names,
            ["certificate", "policy", "script", "style", "version"]
        );
        assert!(names.iter().all(|name| !PAGE.content(name).is_empty()));
    }

    #[test]
    fn contains_version_and_certificate_once() {
        let html = PAGE.to_html();
        assert_eq!(html.matches("1.2.3").count(), 1);
        assert_eq!(html.matches("\nAA==\n").count(), 1);
        assert_eq!(html, PAGE.to_html());
    }

    /// Attack: a certificate or version with markup adds a script to the page.
    #[test]
    fn escapes_what_it_inserts() {
        let page = Page {
            version: "<script>1</script>",
            certificate: Some("</pre><script>2</script>{{script}}"),
        };
        let html = page.to_html();
        assert_eq!(html.matches("<script>").count(), 1);
        assert!(html.contains("&lt;script&gt;2&lt;/script&gt;{{script}}"));
    }

    /// Attack: a page has a second script, a handler in an attribute, or a reference to another machine, which its
    /// policy would have to permit.
    #[test]
    fn has_one_script_one_style_and_no_reference() {
        let html = PAGE.to_html();
        for (text, count) in [
            ("<script", 1),
            ("<style", 1),
            ("<link", 0),
            ("<img", 0),
            ("<iframe", 0),
            ("src=", 0),
            ("style=", 0),
            ("href=", 0),
            ("action=", 0),
            ("http:", 0),
            ("innerHTML", 0),
            ("eval(", 0),
            ("fetch(", 0),
            ("XMLHttpRequest", 0),
            ("sendBeacon", 0),
            ("localStorage", 0),
            ("sessionStorage", 0),
            ("indexedDB", 0),
            ("document.cookie", 0),
            ("location.", 0),
            ("history.", 0),
        ] {
            assert_eq!(html.matches(text).count(), count, "{text}");
        }
        let script = SCRIPT.to_lowercase();
        for end in ["</script", "<!--", "<script"] {
            assert!(!script.contains(end), "{end}");
        }
        assert!(!STYLE.to_lowercase().contains("</style"));
        assert!(
            !html.contains('\r'),
            "the parser would change the bytes that are hashed"
        );
    }

    #[test]
    fn the_policy_precedes_style_and_script() {
        let html = PAGE.to_html();
        let position = |text| html.find(text).unwrap();
        assert!(position("Content-Security-Policy") < position("<style>"));
        assert!(position("<style>") < position("<script>"));
    }
}
