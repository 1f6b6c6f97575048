//! Finds sealed values outside a SealedSecret, for example in the values of a Helm chart. Only the rendered template
//! determines their name and scope, so they cannot be decrypted or re-encrypted here.

mod joined;
mod v1;

use std::cell::Cell;

use joined::JoinedText;
use shared::manifest::{self, Node, Value};
use shared::resource::SealedSecret;

use crate::walk;

/// The prefix of a v2 value, before the letter for its kind.
const V2_PREFIX: &[u8] = b"seal2.";
/// The length of the shortest v2 value, the header of a lock: prefix, letter, `.`, and 59 bytes in base64url.
const MIN_V2_LEN: usize = V2_PREFIX.len() + 2 + 79;

/// Returns the line, counted from one, of a string that looks like a sealed value. Strings on one line take precedence
/// over wrapped or escaped ones.
pub fn first_line(bytes: &[u8]) -> Option<usize> {
    first_line_beside(bytes, &[])
}

/// Like [`first_line`], but skips the values of these SealedSecrets, which are in the same file.
pub fn first_line_beside(bytes: &[u8], sealed: &[&SealedSecret]) -> Option<usize> {
    first_line_except(bytes, &SealedValues::from_objects(sealed))
}

fn first_line_except(bytes: &[u8], values: &SealedValues) -> Option<usize> {
    // Zeros remain in UTF-32 and in malformed UTF-16.
    let text = manifest::as_utf8(bytes);
    let bytes = &*walk::without_nulls(&text);
    if bytes.len() < MIN_V2_LEN {
        return None;
    }
    if let Some(start) = first_start(bytes, values) {
        return Some(line_at(bytes, start));
    }
    let first_line = |joined: JoinedText| {
        let start = first_start(&joined.text, values)?;
        Some(joined.line_at(start))
    };
    first_line(JoinedText::of(bytes))
        .or_else(|| first_line(JoinedText::of_short_lines(bytes)?))
        .or_else(|| first_escaped(bytes, values))
}

fn line_at(bytes: &[u8], position: usize) -> usize {
    1 + memchr::memchr_iter(b'\n', &bytes[..position]).count()
}

/// Returns the line of the first scalar that is a sealed value after its escapes, such as `\/` in JSON, are resolved.
fn first_escaped(bytes: &[u8], values: &SealedValues) -> Option<usize> {
    memchr::memchr(b'\\', bytes)?;
    let documents = manifest::read_well_formed(bytes);
    let mut roots = documents.iter().map(|document| &document.root);
    roots.find_map(|root| first_in_node(root, values))
}

fn first_in_node(node: &Node, values: &SealedValues) -> Option<usize> {
    match &node.value {
        Value::Text(text) => {
            let is_not_space = |byte: &u8| !byte.is_ascii_whitespace();
            let joined: Vec<u8> = text.bytes().filter(is_not_space).collect();
            let start = first_start(text.as_bytes(), values);
            let start = start.or_else(|| first_start(&joined, values));
            start.map(|_| node.line)
        }
        Value::List(items) => items.iter().find_map(|item| first_in_node(item, values)),
        Value::Map(fields) => fields
            .iter()
            .find_map(|(_, value)| first_in_node(value, values)),
        _ => None,
    }
}

/// Returns the position of the first sealed value that is not in `values`.
fn first_start(bytes: &[u8], values: &SealedValues) -> Option<usize> {
    let starts = [v1::first(bytes, values), first_v2(bytes, values)];
    starts.into_iter().flatten().min()
}

/// Returns the position of the first v2 value that is not in `values`. Checks only the beginning of a value, as the
/// rest may be on further lines.
fn first_v2(bytes: &[u8], values: &SealedValues) -> Option<usize> {
    let mut starts = memchr::memmem::find_iter(bytes, V2_PREFIX);
    starts.find(|start| {
        let is_start = *start == 0 || !is_base64url(bytes[start - 1]);
        let tail = &bytes[*start..];
        let end = tail
            .iter()
            .position(|byte| !is_base64url(*byte) && *byte != b'.');
        let text = &tail[..end.unwrap_or(tail.len())];
        is_start && is_sealed_v2(text) && !values.has_prefix(without_symbols(text))
    })
}

/// Returns a text without hyphens and dots at its end, which may be syntax on the next line.
fn without_symbols(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !b"-.".contains(byte));
    &text[..end.map_or(0, |end| end + 1)]
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

/// The values of SealedSecrets, without white space, sorted.
struct SealedValues {
    values: Vec<Vec<u8>>,
    /// The number of comparisons so far, for a test.
    comparisons: Cell<usize>,
}

impl SealedValues {
    fn from_objects(sealed: &[&SealedSecret]) -> Self {
        let items = sealed
            .iter()
            .flat_map(|one| one.spec.encrypted_data.values());
        let deprecated = sealed.iter().filter_map(|one| one.spec.data.as_ref());
        let is_not_space = |byte: &u8| !byte.is_ascii_whitespace();
        let value = |value: &String| value.bytes().filter(is_not_space).collect();
        let mut values: Vec<Vec<u8>> = items.chain(deprecated).map(value).collect();
        values.sort_unstable();
        let comparisons = Cell::new(0);
        Self {
            values,
            comparisons,
        }
    }

    /// Returns whether this string is a prefix of a value: a file may wrap values over several lines. Uses
    /// a binary search, since a file can contain tens of thousands of values.
    fn has_prefix(&self, text: &[u8]) -> bool {
        let index = self.values.partition_point(|one| {
            self.comparisons.set(self.comparisons.get() + 1);
            one.as_slice() < text
        });
        self.values
            .get(index)
            .is_some_and(|one| one.starts_with(text))
    }
}

/// Returns the message for a sealed value on this line of a file, outside any SealedSecret that can be read.
pub fn remark(bytes: &[u8], line: usize) -> String {
    if let Some((object_line, version)) = walk::first_with_wrong_version(bytes) {
        return format!(
            "line {object_line}: the object of kind SealedSecret has {version}, so its sealed value on line {line} \
             stays unchanged; set `apiVersion: bitnami.com/v1alpha1`"
        );
    }
    format!(
        "line {line}: sealed value outside a SealedSecret: only the template that uses it determines its name and \
         scope; seal it again manually"
    )
}

fn is_sealed_v2(text: &[u8]) -> bool {
    let kind = text.get(V2_PREFIX.len()..V2_PREFIX.len() + 2);
    text.len() >= MIN_V2_LEN && matches!(kind, Some(b"h." | b"l." | b"s." | b"i."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use shared::base64;

    use super::*;

    /// The length of an AES-GCM tag, in bytes.
    const TAG_LEN: usize = 16;

    /// Attack: an author mentions a SealedSecret in the same file as a sealed value outside of it, so that commands
    /// overlook the value.
    #[test]
    fn finds_a_value_beside_a_sealed_secret_in_the_same_file() {
        let value = |byte: u8| {
            let body = vec![byte; 256 + TAG_LEN + 300];
            base64::encode(&[&256_u16.to_be_bytes()[..], &body].concat())
        };
        let (object_value, loose_value) = (value(7), value(8));
        let slashes = value(0xff);
        assert!(slashes.contains('/'));
        let mut sealed = SealedSecret::new("db", shared::resource::SealedSecretSpec::default());
        sealed
            .spec
            .encrypted_data
            .insert("a".into(), object_value.clone());
        let wrapped = format!("{}\n    {}", &object_value[..372], &object_value[372..]);
        for (text, want) in [
            (format!("kind: SealedSecret\na: {object_value}\n"), None),
            (format!("kind: SealedSecret\na: |\n    {wrapped}\n"), None),
            (
                format!("kind: SealedSecret\na: {object_value}\n---\nb: {loose_value}\n"),
                Some(4),
            ),
            (format!("# SealedSecret\nb: {loose_value}\n"), Some(2)),
            (
                format!(
                    "a: 1\nb: |\n  {}\n  {}\nc: 2\n",
                    &loose_value[..100],
                    &loose_value[100..]
                ),
                Some(3),
            ),
            (
                format!(
                    "b: \"{}\n  {}\"\n",
                    &loose_value[..100],
                    &loose_value[100..]
                ),
                Some(1),
            ),
            (
                format!(
                    "b: \"{}\\\n  {}\"\n",
                    &loose_value[..100],
                    &loose_value[100..]
                ),
                Some(1),
            ),
            (
                format!("{{\"b\": \"{}\"}}\n", slashes.replace('/', "\\/")),
                Some(1),
            ),
            (format!("b: \"\\x41{}\"\n", &loose_value[1..]), Some(1)),
            (format!("b: |\n    {wrapped}\n"), None),
        ] {
            assert_eq!(
                first_line_beside(text.as_bytes(), &[&sealed]),
                want,
                "{text}"
            );
        }
    }

    /// Attack: a committer fills a file with tens of thousands of sealed values, so that searching it takes hours.
    #[test]
    fn compares_each_of_many_values_only_a_few_times() {
        const COUNT: usize = 20_000;
        let value = |number: usize, is_first: bool| {
            let mut body = vec![7; 256 + TAG_LEN + 90];
            let offset = if is_first { 0 } else { body.len() - 8 };
            body[offset..offset + 8].copy_from_slice(&number.to_be_bytes());
            base64::encode(&[&256_u16.to_be_bytes()[..], &body].concat())
        };
        let object = |values: &[String]| {
            let mut sealed = SealedSecret::new("db", shared::resource::SealedSecretSpec::default());
            let items = values.iter().enumerate();
            let items = items.map(|(i, value)| (i.to_string(), value.clone()));
            sealed.spec.encrypted_data = items.collect();
            sealed
        };
        for (why, is_first, per_object, is_wrapped) in [
            ("in one object", true, COUNT, false),
            ("that begin alike", false, COUNT, false),
            ("in many objects", true, 1, false),
            ("that are wrapped", true, COUNT, true),
            ("that begin alike and are wrapped", false, COUNT, true),
        ] {
            let values: Vec<String> = (0..COUNT).map(|number| value(number, is_first)).collect();
            let objects: Vec<_> = values.chunks(per_object).map(object).collect();
            let objects: Vec<&SealedSecret> = objects.iter().collect();
            let text: String = if is_wrapped {
                let wrapped = values
                    .iter()
                    .map(|value| format!("{}\n  {}\n", &value[..400], &value[400..]));
                wrapped.collect()
            } else {
                values.join("\n")
            };
            let values = SealedValues::from_objects(&objects);
            assert_eq!(first_line_except(text.as_bytes(), &values), None, "{why}");
            let per_value = values.comparisons.get() / COUNT;
            // A binary search for the text of the file, and one for the text with joined lines.
            assert!((1..=40).contains(&per_value), "{why}: {per_value}");
        }
    }

    /// Attack: an author puts v2 values outside of SealedSecrets, into the values of a chart, a patch or the entries of
    /// a lock, so that commands overlook them and the key that they need is retired.
    #[test]
    fn finds_v2_values() {
        let [own, value] = ["O", "V"].map(|letter| format!("seal2.i.{}", letter.repeat(300)));
        let mut sealed = SealedSecret::new("db", shared::resource::SealedSecretSpec::default());
        let entries = &mut sealed.spec.encrypted_data;
        entries.insert("a".into(), own.clone());
        let header = format!("seal2.h.{}", "A".repeat(79));
        let (first, last) = value.split_at(100);
        for (text, want) in [
            (format!("kind: SealedSecret\na: {own}\n"), None),
            (format!("a: {own}\n---\nsecrets:\n  b: {value}\n"), Some(4)),
            (format!("a: {own}\n---\nb\n---\n"), None),
            (format!("- a: {own}\n-\n  a: |\n    {own}\n...\n"), None),
            (
                format!("- op: add\n  path: /spec/encryptedData/b\n  value: '{value}'\n"),
                Some(3),
            ),
            (format!("\"/lock/x\": {header}\n"), Some(1)),
            (format!("a: 1\nb: \"{first}\\\n  {last}\"\n"), Some(2)),
            (format!("b: \"sea\\\n  {}\"\n", &value[3..]), Some(1)),
            (format!("b: \"\\x73{}\"\n", &value[1..]), Some(1)),
            (format!("a: {}\n", &header[..86]), None),
            (format!("a: seal2.x.{}\n", "A".repeat(300)), None),
            (format!("a: x{value}\n"), None),
            (format!("a: seal2-recipient xw {}\n", "A".repeat(300)), None),
        ] {
            assert_eq!(
                first_line_beside(text.as_bytes(), &[&sealed]),
                want,
                "{text}"
            );
        }
    }

    /// Returns a v1 and a v2 value with random bytes. The v2 value contains hyphens and underscores.
    fn random_values(seed: u64) -> [String; 2] {
        let mut body = vec![0; 256 + TAG_LEN + 40];
        StdRng::seed_from_u64(seed).fill_bytes(&mut body);
        let v1 = base64::encode(&[&256_u16.to_be_bytes()[..], &body].concat());
        let digits = v1[8..].trim_end_matches('=');
        let v2 = format!("seal2.i.-_{}", digits.replace('+', "-").replace('/', "_"));
        [v1, v2]
    }

    /// Attack: an author writes a file with values in UTF-16, so that commands overlook them.
    #[test]
    fn finds_values_in_utf16_and_utf32() {
        for value in random_values(1) {
            let text = format!("# \u{e9}\r\na: 1\r\nb: {value}\r\n");
            for mark in ["\u{feff}", ""] {
                let text = format!("{mark}{text}");
                let utf16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect();
                let utf32 = text.chars().flat_map(|c| u32::from(c).to_le_bytes());
                let encoded: [Vec<u8>; 3] = [
                    utf16(u16::to_le_bytes),
                    utf16(u16::to_be_bytes),
                    utf32.collect(),
                ];
                for bytes in encoded {
                    assert_eq!(first_line(&bytes), Some(3), "{text}");
                    let truncated = &bytes[..bytes.len() - 1];
                    assert_eq!(first_line(truncated), Some(3), "{text}");
                }
            }
        }
    }

    /// Attack: an author wraps a value in a block scalar, with blank lines or between lines of other text.
    #[test]
    fn finds_wrapped_values() {
        for value in random_values(2) {
            let lines: Vec<&str> = (0..value.len())
                .step_by(40)
                .map(|start| &value[start..value.len().min(start + 40)])
                .collect();
            for separator in ["\n    ", "\n\n    ", "\n \t\n\r\n\n    ", "\r\n\r\n    "] {
                let wrapped = lines.join(separator);
                for (before, want) in [
                    ("a: 1\nb: |\n    ", 3),
                    ("a: 1\nb: |-\n\n    ", 4),
                    ("a: 1\nb: >2+\n    ", 3),
                    ("a: 1\n- -\n    ", 3),
                    ("a: 1\n-\n    ", 3),
                    ("---\n    ", 2),
                    ("run: |\n    x --set a=", 2),
                ] {
                    let text = format!("{before}{wrapped}\n\nc: 2\n");
                    assert_eq!(first_line(text.as_bytes()), Some(want), "{text}");
                }
            }
            let text = format!("b: \"{}\"\n", lines.join("\\\n  \\\n  "));
            assert_eq!(first_line(text.as_bytes()), Some(1), "{text}");
        }
    }

    /// Attack: an author wraps a value after one or a few characters, so that some lines contain no letter or digit.
    #[test]
    fn finds_values_in_short_lines() {
        for (value, width) in (4..12)
            .flat_map(random_values)
            .flat_map(|value| (1..6).map(move |width| (value.clone(), width)))
        {
            let lines: Vec<&str> = (0..value.len())
                .step_by(width)
                .map(|start| &value[start..value.len().min(start + width)])
                .collect();
            for (before, separator, after, want) in [
                ("a: 1\nb: |\n  ", "\n  ", "\nc: 2\n", 3),
                ("a: 1\nb: >-\n  ", "\n\n  ", "\n---\nc: 2\n", 3),
                ("b: \"", "\\\n  ", "\"\n", 1),
                ("b:\n- ", "\n  ", "\n- c\n", 2),
            ] {
                let text = format!("{before}{}{after}", lines.join(separator));
                assert_eq!(first_line(text.as_bytes()), Some(want), "{text}");
            }
        }
    }

    /// Fault: a file contains lists of short words and separators, and commands refuse to retire a key because of them.
    #[test]
    fn mistakes_no_short_lines_for_sealed_values() {
        for lines in [
            "---\nAQ\n",
            "- a\n",
            "AQ\n+\n=\n",
            "-\n  AQAB\n",
            "a: b\n--\n",
        ] {
            assert_eq!(first_line(lines.repeat(1000).as_bytes()), None, "{lines}");
        }
    }

    #[test]
    fn finds_a_value_after_a_space_in_a_text_with_escapes() {
        let v1 = random_values(3)[0].replace('/', "\\/");
        assert!(v1.contains("\\/"));
        let text = format!("{{\"run\": \"set {v1}\"}}\n");
        assert_eq!(first_line(text.as_bytes()), Some(1), "{text}");
    }

    proptest! {
        /// Attack: an author surrounds a value with other text, so that commands overlook it.
        #[test]
        fn finds_v1_and_v2_values_in_any_text(
            before in "\\PC{0,40}",
            after in "\\PC{0,40}",
            ends in ("[ =/:,;\"'(){}<>|@ü]", "[ =/:,;\"'(){}<>|@ü]"),
            seed: u64,
        ) {
            for value in random_values(seed) {
                let text = format!("{before}{}{value}{}{after}", ends.0, ends.1);
                prop_assert_eq!(first_line(text.as_bytes()), Some(1), "{}", text);
            }
        }
    }

    #[test]
    fn finds_strings_in_the_form_of_a_sealed_value() {
        let sealed = |len: u16| {
            let body = vec![7; usize::from(len) + TAG_LEN];
            base64::encode(&[&len.to_be_bytes()[..], &body].concat())
        };
        for (text, want) in [
            (format!("a: b\nsealed:\n  x: {}\n", sealed(256)), Some(3)),
            (format!("x: \"{}\"", sealed(512)), Some(1)),
            (format!("- {}", sealed(384)), Some(1)),
            (format!("x: {}", sealed(960)), Some(1)),
            (format!("x: {}", sealed(1024)), Some(1)),
            (format!("x: {}", sealed(1984)), Some(1)),
            (format!("x: {}", sealed(2048)), Some(1)),
            (format!("x: {}", sealed(2112)), None),
            (format!("x: {}", &sealed(256)[..360]), None),
            (format!("x: z{}", sealed(256)), None),
            (format!("x: z{}", sealed(1024)), None),
            (format!("x: {}", base64::encode(&[0; 400])), None),
            (format!("x: {}", "A".repeat(1000)), None),
            ("a: b\n".to_owned(), None),
        ] {
            assert_eq!(first_line(text.as_bytes()), want, "{text}");
        }
    }
}
