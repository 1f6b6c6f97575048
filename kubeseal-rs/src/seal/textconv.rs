//! `seal textconv`: shows a file to `git diff`, with a description in place of each sealed value.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use kubeseal_library::files;
use kubeseal_library::merge::MAX_BYTES;
use sha2::{Digest as _, Sha256};
use shared::hints::{self, Hints};
use shared::manifest;
use shared::manifest::edit::{Layout, Step};
use shared::scope::Scope;
use shared::sealed_file::{self, Found};
use shared::v2;

use super::object::{Form, form_of};
use super::{Outcome, print};
use crate::report::{ShowPath as _, lines_shown, shown};

/// Arguments of `seal textconv`.
#[derive(Debug, Args)]
#[command(after_help = "\
Git runs this command after `seal hook install --diff`. It needs no key and no cluster.

Examples:
  seal textconv db.sealed.yaml")]
pub struct Textconv {
    /// File to show
    pub file: PathBuf,
}

/// Prints a file with a description in place of each sealed value.
///
/// # Errors
///
/// Fails if the file cannot be read. A file that is no manifest is printed with its control characters escaped, and a
/// file above the size limit as its size and digest.
pub fn run(args: &Textconv) -> Result<Outcome> {
    let len = args.file.metadata().map_or(0, |metadata| metadata.len());
    if len > MAX_BYTES {
        return print(large_file(&args.file, len)?.as_bytes());
    }
    let bytes = files::read_regular(&args.file, MAX_BYTES)?;
    print(text(&bytes).as_bytes())
}

/// Describes a file that is too large to be shown. Its digest shows every change.
fn large_file(path: &Path, len: u64) -> Result<String> {
    let to_error = || format!("cannot read {}", path.shown());
    let mut file = File::open(path).with_context(to_error)?.take(len);
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).with_context(to_error)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    let digest = hexadecimal(&digest.finalize());
    Ok(format!(
        "{len} bytes, too many for `seal textconv`, sha256:{digest}\n"
    ))
}

/// Returns the text of a file.
fn text(bytes: &[u8]) -> String {
    let text = described(bytes).unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned());
    let lines = text.split_inclusive('\n').map(|line| {
        let (line, line_break) = match (line.strip_suffix("\r\n"), line.strip_suffix('\n')) {
            (Some(line), _) => (line, "\r\n"),
            (_, Some(line)) => (line, "\n"),
            _ => (line, ""),
        };
        // A tab is harmless, and part of other files.
        let parts: Vec<_> = line.split('\t').map(lines_shown).collect();
        parts.join("\t") + line_break
    });
    lines.collect()
}

/// Returns the file with a description in place of each sealed value. Returns `None` if it contains no SealedSecret or
/// cannot be parsed.
fn described(bytes: &[u8]) -> Option<String> {
    let documents = manifest::read(bytes).ok()?;
    let objects = sealed_file::find(&documents).ok()?;
    let layout = Layout::of(bytes)?;
    let mut values: Vec<(Range<usize>, String)> = objects
        .iter()
        .flat_map(|found| described_values(found, &layout))
        .collect();
    values.sort_by_key(|(range, _)| range.start);
    let (mut text, mut end) = (String::new(), 0);
    for (range, description) in values {
        text.push_str(&layout.text()[end..range.start]);
        text.push_str(&description);
        end = range.end;
    }
    text.push_str(&layout.text()[end..]);
    Some(text)
}

/// Returns the range and the description of each sealed value of an object.
fn described_values(found: &Found, layout: &Layout<'_>) -> Vec<(Range<usize>, String)> {
    let sealed = &found.sealed;
    let entries = &sealed.spec.encrypted_data;
    let path = |field| found.path_of(&[Step::Field("spec"), Step::Field(field)]);
    let description = Description::new(found);
    let mapping = layout.mapping(found.document(), &path("encryptedData"));
    let parts = mapping.map(|mapping| mapping.parts).unwrap_or_default();
    let values = parts.into_iter().filter_map(|part| {
        let text = entries.get(&part.key)?;
        let source = &layout.text()[part.value.clone()];
        Some((part.value, description.of(&part.key, text, source)))
    });
    let data = sealed.spec.data.as_ref().and_then(|data| {
        let range = layout.scalar(found.document(), &path("data"))?;
        let source = &layout.text()[range.clone()];
        Some((range, description.of("", data, source)))
    });
    values.chain(data).collect()
}

/// What the descriptions of the values of an object have in common.
struct Description {
    object: String,
    scope: Scope,
    hints: Hints,
    v2: BTreeMap<String, v2::ItemView>,
}

impl Description {
    fn new(found: &Found) -> Self {
        let sealed = &found.sealed;
        let annotations = sealed.metadata.annotations.as_ref();
        let entries = &sealed.spec.encrypted_data;
        Self {
            object: sealed.qualified_name(),
            scope: Scope::from_annotations(annotations),
            hints: hints::read(annotations),
            v2: v2_views(entries),
        }
    }

    /// Describes a sealed value in brackets. The digest comes first, so that two lines of a difference differ early. It
    /// and the size are computed from the text in the file, not from the parsed value: of a repeated key, only the last
    /// value is parsed, but a change to the others must be visible too.
    fn of(&self, key: &str, text: &str, source: &str) -> String {
        let (kind, properties) = self.form(key, text);
        let mut parts = vec![format!("{kind} sha256:{}", short_digest(source))];
        if let Some(hint) = self.hints.get(key) {
            parts.push(format!("for {}", shortened(&hint.to_string())));
        }
        parts.extend(properties);
        parts.push(self.scope.to_string());
        parts.push(shown(&self.object).into_owned());
        parts.push(format!("{} bytes", source.len()));
        format!("[{}]", parts.join(", "))
    }

    /// Returns the kind of an entry, and what is known of its form.
    fn form(&self, key: &str, text: &str) -> (&'static str, Option<String>) {
        if v2::is_lock_entry(key) {
            return ("lock", None);
        }
        if let Some(view) = self.v2.get(key) {
            let keys: Vec<String> = view.recipients.iter().map(recipient).collect();
            return ("v2", Some(format!("for {}", keys.join(" and "))));
        }
        match form_of(text) {
            _ if v2::is_v2_value(text) => ("malformed v2 value", None),
            Form::Bits(bits) => ("v1", Some(format!("{bits} bits"))),
            Form::NotSealed(why) => ("value", Some(why.to_string())),
            _ => ("unknown value", None),
        }
    }
}

/// The number of characters of a fingerprint that a description contains, including `SHA256:`. The complete fingerprint
/// is in the annotation with the key hints, which is shown unchanged.
const FINGERPRINT_LEN: usize = 15;

fn shortened(fingerprint: &str) -> &str {
    fingerprint.get(..FINGERPRINT_LEN).unwrap_or(fingerprint)
}

/// Returns the properties of v2 values; none if the v2 entries are malformed.
fn v2_views(entries: &BTreeMap<String, String>) -> BTreeMap<String, v2::ItemView> {
    let object = v2::Object::parse(entries).ok();
    let views = object.as_ref().map(v2::Object::view).unwrap_or_default();
    let views = views.into_iter();
    views.map(|(key, view)| (key.to_owned(), view)).collect()
}

fn recipient((key, suite): &(v2::ShortKeyId, Option<v2::Suite>)) -> String {
    match suite {
        Some(suite) => format!("{suite} {key}"),
        None => format!("unknown suite {key}"),
    }
}

/// Returns half of the digest of a sealed value. With less, an author could find two values with the same digest, and
/// hide a change.
fn short_digest(text: &str) -> String {
    hexadecimal(&Sha256::digest(text.as_bytes())[..16])
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: &str = "apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: db, namespace: shop}
spec:
  encryptedData:
    a: AgA
    b: AgB
";

    #[test]
    fn the_digest_comes_first_and_has_128_bits() {
        let text = text(SEALED.as_bytes());
        let line = |key: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(key));
            line.unwrap().to_owned()
        };
        let (_, description) = line("a: ").split_once("sha256:").map(own).unwrap();
        let digits = description.split(',').next().unwrap();
        assert_eq!(digits, short_digest("AgA"));
        assert_eq!(digits.len(), 32);
        assert!(
            description.ends_with(", strict, shop/db, 3 bytes]"),
            "{text}"
        );
        assert_ne!(line("a: ")[7..], line("b: ")[7..]);
        assert_eq!(shortened("SHA256:WtQrwMYugrp4AksX"), "SHA256:WtQrwMYu");
    }

    fn own((before, after): (&str, &str)) -> (String, String) {
        (before.to_owned(), after.to_owned())
    }
}
