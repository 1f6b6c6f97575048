//! Puts together HTML files that load nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// Replaces each `{{name}}` of a document with the content that `content` returns. Does not search the content itself.
pub fn fill(document: &str, content: impl Fn(&str) -> String) -> String {
    let mut html = String::with_capacity(document.len());
    let mut rest = document;
    while let Some((before, name, after)) = next_placeholder(rest) {
        html.push_str(before);
        html.push_str(&content(name));
        rest = after;
    }
    html.push_str(rest);
    html
}

/// Splits a text at its first `{{name}}`.
pub(crate) fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

/// Returns the Content-Security-Policy: nothing is loaded, no script and style but these, no code from strings, and no
/// form that is submitted. Script and style are everything between the tags of their elements.
pub fn policy(script: &str, style: &str) -> String {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        source_hash(script),
        source_hash(style)
    )
}

fn source_hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(source)))
}

/// Escapes text for the content of an element and for a quoted attribute.
pub fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
