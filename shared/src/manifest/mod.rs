//! Reads and writes documents in YAML and JSON, as upstream does.
//!
//! [`edit`] changes single values in a user's file and leaves every other byte unchanged.
//!
//! Reading follows Go: JSON streams, several YAML documents, YAML 1.1 typing, the last of duplicate keys wins, `<<`
//! merges. It differs in four ways: a malformed document is an error with its number and line instead of being skipped,
//! UTF-16 with a byte order mark is decoded, size, nesting and aliases are limited, and characters that only some
//! parsers read as line breaks are errors. Each [`Node`] has its line, and each unquoted number or boolean its source
//! text, so that a value that YAML 1.1 reads as a different string can be reported ([`Reading::altered_scalars`]).
//!
//! `saphyr-parser` parses the YAML syntax. It is used instead of `serde-saphyr` because typing depends on the
//! *target* (Go turns `yes` into the string `true` only where it expects a string) and messages need lines:
//! both need events, not a deserializer.

mod comments;
pub mod edit;
mod error;
mod json_in;
mod json_out;
mod likely_cause;
mod line_breaks;
mod node;
mod repeated;
mod scalar;
mod shape;
mod text;
mod yaml_in;
mod yaml_keys;
mod yaml_order;
mod yaml_out;
mod yaml_text;

pub use comments::Comment;
pub use error::{ReadError, ReadProblem, ShapeError};
pub use json_out::to_json;
pub use node::{Node, Value, folded, is_same_name};
pub use shape::{Coercion, Reading, Shape};
pub use text::{as_utf8, wrong_encoding};
pub use yaml_keys::RepeatedKey;
pub use yaml_out::{to_inert_yaml, to_visible_yaml, to_yaml};

/// A document that is not empty.
#[derive(Debug)]
pub struct Document {
    /// Number of the document, counted from one; empty documents are not counted.
    pub number: usize,
    /// The root value.
    pub root: Node,
}

/// Maximum weight of the values in one input: about half a gigabyte of memory.
const MAX_VALUES: usize = 5_000_000;
/// Number of values that anchors and aliases may create in a short input.
const MIN_ANCHOR_VALUES: usize = 200_000;

/// Reads every document. Skips documents that are null, empty or contain only comments.
///
/// Time and memory grow linearly with the length of the input; anchors and aliases of a short input may add up to
/// 200,000 values. The parsed values take at most about half a gigabyte of memory.
///
/// # Errors
///
/// Returns the error for the first malformed document, with its number and line. No malformed document is skipped.
pub fn read(bytes: &[u8]) -> Result<Vec<Document>, ReadError> {
    read_within(bytes, MAX_VALUES)
}

/// Like [`read`], for untrusted input: allows at most `max_values` values of about a hundred bytes each. In YAML, every
/// 64 bytes of a string count as one more value.
///
/// # Errors
///
/// Returns the errors of [`read`], and [`ReadProblem::Size`] for more values.
pub fn read_within(bytes: &[u8], max_values: usize) -> Result<Vec<Document>, ReadError> {
    let text = text::decode(bytes)?;
    let roots =
        roots(&text, max_values).map_err(|error| likely_cause::with_likely_cause(&text, error))?;
    let non_empty = roots.into_iter().filter(is_filled);
    Ok(non_empty
        .enumerate()
        .map(|(i, root)| Document {
            number: i + 1,
            root,
        })
        .collect())
}

/// Reads the well-formed documents in an input that [`read`] refuses: `kubectl apply` handles each document
/// separately. Separators are lines `---`, which may continue after white space.
pub fn read_well_formed(bytes: &[u8]) -> Vec<Document> {
    let Ok(text) = text::decode(bytes) else {
        return Vec::new();
    };
    let roots = split_at_separators(&text)
        .into_iter()
        .filter_map(piece_roots)
        .flatten();
    let non_empty = roots.filter(is_filled).enumerate();
    let document = |(i, root)| Document {
        number: i + 1,
        root,
    };
    non_empty.map(document).collect()
}

/// Splits the input before each separator line. Returns the pieces, each with the number of lines before it.
fn split_at_separators(text: &str) -> Vec<(usize, &str)> {
    let mut pieces = Vec::new();
    let (mut start, mut lines_before, mut end) = (0, 0, 0);
    for (i, line) in text.split_inclusive('\n').enumerate() {
        if is_separator(line) && end > start {
            pieces.push((lines_before, &text[start..end]));
            (start, lines_before) = (end, i);
        }
        end += line.len();
    }
    pieces.push((lines_before, &text[start..]));
    pieces
}

fn is_separator(line: &str) -> bool {
    let suffix = line.strip_prefix("---");
    suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with([' ', '\t', '\r', '\n']))
}

/// Returns the roots of a piece, or `None` if it is malformed. A stream of JSON values is not YAML, so it is
/// read separately.
fn piece_roots((lines_before, text): (usize, &str)) -> Option<Vec<Node>> {
    let max_values = MAX_VALUES.min(MIN_ANCHOR_VALUES + 2 * text.len());
    let yaml = yaml_in::read(text, lines_before, max_values);
    yaml.or_else(|_| roots(text, MAX_VALUES)).ok()
}

/// Returns the line of the first key that occurs twice in one mapping, directly or by a merge (`<<`), which [`read`]
/// accepts silently, as upstream does. Does not check the input after a malformed part, or any JSON object after the
/// first.
pub fn repeated_key(bytes: &[u8]) -> Option<usize> {
    yaml_keys::first_repeated(&text::decode(bytes).ok()?)
}

/// Returns every key that is repeated in its mapping, in the documents whose root the filter accepts. Skips malformed
/// documents. The roots passed to the filter contain the duplicate keys.
pub fn repeated_keys(bytes: &[u8], is_wanted: impl Fn(&Node) -> bool) -> Vec<RepeatedKey> {
    let text = text::decode(bytes);
    text.map_or_else(|_| Vec::new(), |text| repeated::find(&text, is_wanted))
}

/// Returns the comments that begin in the first column and whose text the filter accepts. Lines of quoted and block
/// scalars that look like comments do not count. Also accepts malformed input.
pub fn comments(bytes: &[u8], is_wanted: impl Fn(&str) -> bool) -> Vec<Comment> {
    comments::find(bytes, is_wanted)
}

/// Returns the root of every document, including empty documents.
fn roots(text: &str, max_values: usize) -> Result<Vec<Node>, ReadError> {
    // Without anchors, each byte creates at most two values.
    let max_values = max_values.min(MIN_ANCHOR_VALUES + 2 * text.len());
    if text_begins_like_json(text) {
        json_in::read(text, max_values)
    } else {
        yaml_in::read(text, 0, max_values)
    }
}

fn is_filled(root: &Node) -> bool {
    !matches!(root.value, Value::Null)
}

/// Returns whether the input is JSON rather than YAML, according to its first character that is not white space.
pub fn begins_like_json(bytes: &[u8]) -> bool {
    text::decode(bytes).is_ok_and(|text| text_begins_like_json(&text))
}

fn text_begins_like_json(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Result<Vec<String>, String> {
        let documents = read(input.as_bytes()).map_err(|e| e.to_string())?;
        let json = |d: &Document| {
            Reading::default()
                .json(&d.root, Shape::Any)
                .unwrap()
                .to_string()
        };
        Ok(documents.iter().map(json).collect())
    }

    #[test]
    fn reads_the_well_formed_documents_of_a_malformed_input() {
        for (input, want) in [
            ("a: 1\n---\nb: {{ x }}\n---\nc: 3\n", vec![1, 5]),
            ("b: {{ x }}\n--- # c\n\na: 1\n", vec![4]),
            ("---\na: [\n---\r\nb: 1\r\n---\n", vec![4]),
            ("{\"a\": 1}\n---\n{{ x }}\n", vec![1]),
            ("{\"a\": 1}\n{\"b\": 2}\n---\n{{ x }}\n", vec![1, 2]),
            ("a: |\n  ---\n  b\n---\n{{ x }}", vec![1]),
            ("--- |\n---\na: b\n", vec![1, 3]),
            ("---x: 1\n---\n{{ x }}", vec![1]),
            ("a: [", vec![]),
            ("", vec![]),
        ] {
            let documents = read_well_formed(input.as_bytes());
            let lines: Vec<usize> = documents
                .iter()
                .map(|document| document.root.line)
                .collect();
            assert_eq!(lines, want, "{input:?}");
            let numbers = documents.iter().map(|document| document.number);
            assert!(numbers.eq(1..=documents.len()), "{input:?}");
        }
    }

    #[test]
    fn reads_streams_as_upstream_does() {
        for (why, input, want) in [
            ("nothing", "", vec![]),
            ("a comment", "# nothing\n", vec![]),
            ("one mapping", "a: b", vec![r#"{"a":"b"}"#]),
            (
                "two documents",
                "a: 1\n---\nb: 2\n",
                vec![r#"{"a":1}"#, r#"{"b":2}"#],
            ),
            (
                "empty documents between",
                "---\n---\n# c\n---\na: 1\n---\n",
                vec![r#"{"a":1}"#],
            ),
            (
                "CRLF",
                "a: b\r\n---\r\nc: |\r\n  x\r\n",
                vec![r#"{"a":"b"}"#, r#"{"c":"x\n"}"#],
            ),
            (
                "a JSON stream",
                "{\"a\":1}\n{\"b\":2}{\"c\":3}",
                vec![r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#],
            ),
            ("a flow mapping", "{a: b}", vec![r#"{"a":"b"}"#]),
            (
                "JSON, then YAML",
                "{\"a\":1}\n---\nb: 2",
                vec![r#"{"a":1}"#, r#"{"b":2}"#],
            ),
            ("the last of equal keys", "a: 1\na: 2", vec![r#"{"a":2}"#]),
            (
                "the largest integer",
                "a: 18446744073709551615",
                vec![r#"{"a":18446744073709551615}"#],
            ),
            (
                "a typed key",
                "n: 1\n1: x\n",
                vec![r#"{"1":"x","false":1}"#],
            ),
            (
                "an alias",
                "a: &x {k: v}\nb: *x\n",
                vec![r#"{"a":{"k":"v"},"b":{"k":"v"}}"#],
            ),
            (
                "a merge",
                "a: &x {k: v}\nb:\n  <<: *x\n  l: w\n",
                vec![r#"{"a":{"k":"v"},"b":{"k":"v","l":"w"}}"#],
            ),
            (
                "a merge of several mappings, of which the first has precedence",
                "a: &x {k: v}\nb: &y {k: w, m: 1}\nc:\n  <<: [*x, *y]\n",
                vec![r#"{"a":{"k":"v"},"b":{"k":"w","m":1},"c":{"k":"v","m":1}}"#],
            ),
            ("a quoted merge key", "\"<<\": x\n", vec![r#"{"<<":"x"}"#]),
            (
                "keys that are floats",
                ".inf: 1\n-.inf: 2\n.nan: 3\n0.5: 4\n",
                vec![r#"{".inf":1,"-.inf":2,".nan":3,"0.5":4}"#],
            ),
            (
                "tags",
                "a: !!str 1\nb: !!int \"2\"\nc: !!binary aGk=\nd: !!null ~\ne: !!bool \"on\"\nf: !!float 1\n\
                 g: !!float 1.5\nh: !other 1\n",
                vec![r#"{"a":"1","b":2,"c":"hi","d":null,"e":true,"f":1.0,"g":1.5,"h":"1"}"#],
            ),
            (
                "tags in other notations",
                "%TAG !y! tag:yaml.org,2002:\n%TAG !z! tag:yaml.org,\n---\na: !<tag:yaml.org,2002:binary> aGk=\n\
                 b: !y!binary aGk=\nc: !z!2002:int \"2\"\nd: !binary aGk=\ne: ! 1\n",
                vec![r#"{"a":"hi","b":"hi","c":2,"d":"aGk=","e":"1"}"#],
            ),
        ] {
            let documents = texts(input).map(|docs| {
                docs.iter()
                    .map(|d| serde_json::from_str(d).unwrap())
                    .collect::<Vec<serde_json::Value>>()
            });
            let want: Vec<serde_json::Value> = want
                .into_iter()
                .map(|d| serde_json::from_str(d).unwrap())
                .collect();
            assert_eq!(documents, Ok(want), "{why}");
        }
    }

    #[test]
    fn json_is_detected_by_its_first_character() {
        for (text, want) in [
            ("{}", true),
            (" \n\t{\"a\": 1}", true),
            ("\u{feff}{}", true),
            ("a: {}", false),
            ("[{}]", false),
            ("", false),
        ] {
            assert_eq!(begins_like_json(text.as_bytes()), want, "{text:?}");
        }
        assert!(!begins_like_json(b"{\xff}"), "invalid UTF-8");
    }

    #[test]
    fn reports_document_and_line_of_malformed_input() {
        for (why, input, want) in [
            (
                "bad YAML",
                "a: b\n---\nc: [\n",
                "document 2, line 4: malformed YAML",
            ),
            (
                "a bad separator",
                "a: b\n--- x: y: z\n",
                "document 2, line 2: malformed YAML",
            ),
            (
                "garbage after two objects",
                "{}{}\n{",
                "document 3, line 2: malformed JSON: unexpected end of input",
            ),
            (
                "garbage on a later line of the third object",
                "{}{}\n{\n\n!",
                "document 3, line 4: malformed JSON: unexpected character",
            ),
            (
                "a separator in a document that is a block scalar",
                "--- |\n---\na: b\n",
                "document 1, line 2: malformed YAML: a line `---` is part of a multi-line string",
            ),
            (
                "a list as key",
                "[a]: b\n",
                "document 1, line 1: a mapping key",
            ),
            (
                "not an integer",
                "a: !!int x\n",
                "document 1, line 1: a value tagged !!int",
            ),
            (
                "not null",
                "a: !!null x\n",
                "document 1, line 1: a value tagged !!null",
            ),
            (
                "not a boolean",
                "a: !!bool x\n",
                "document 1, line 1: a value tagged !!bool",
            ),
            (
                "not a float",
                "a: !!float x\n",
                "document 1, line 1: a value tagged !!float",
            ),
            (
                "not base64",
                "a: !!binary \"*\"\n",
                "document 1, line 1: a value tagged !!binary",
            ),
            (
                "a list of merged values that are not mappings",
                "a:\n  <<: [x]\n",
                "document 1, line 2: the merge key",
            ),
            (
                "a merged value that is not a mapping",
                "a:\n  <<: x\n",
                "document 1, line 2: the merge key",
            ),
        ] {
            let error = texts(input).unwrap_err();
            assert!(error.starts_with(want), "{why}: {error}");
        }
    }

    /// All nodes of a JSON object have the object's first line; YAML nodes have their own.
    #[test]
    fn reports_lines_of_json_and_of_the_yaml_after_it() {
        let lines = |text: &str| -> Vec<usize> {
            let line_of_a = |node: &Node| node.field("a").map_or(0, |a| a.line);
            let documents = read(text.as_bytes()).unwrap();
            let line_pair = |d: &Document| [d.root.line, line_of_a(&d.root)];
            documents.iter().flat_map(line_pair).collect()
        };
        assert_eq!(lines("\n\n{\n\"a\": 1}\n\n{\"a\": 1}"), [3, 3, 6, 6]);
        assert_eq!(lines("{\"a\": [1]}\n---\nb:\na: 2\n"), [1, 1, 3, 4]);
        let nested = read(b"\n{\"a\": [{\"b\": 1}]}").unwrap();
        let Value::List(items) = &nested[0].root.field("a").unwrap().value else {
            unreachable!()
        };
        assert_eq!(items[0].field("b").unwrap().line, 2);
    }

    #[test]
    fn an_error_has_a_line_if_the_bytes_are_text() {
        let line = |bytes: &[u8]| read(bytes).unwrap_err().line();
        assert_eq!(line(b"a: b\n---\nc: [\n"), Some(4));
        assert_eq!(line(b"\xff"), None);
    }

    #[test]
    fn debug_of_a_node_shows_type_and_line_and_never_the_value() {
        let documents = read(b"\na: hunter2\n").unwrap();
        assert_eq!(
            format!("{:?}", documents[0].root),
            "Node(a mapping at line 2)"
        );
    }

    /// Attack: an author submits a malformed file, so that the error quotes secret characters from it.
    #[test]
    fn the_error_of_malformed_yaml_quotes_nothing() {
        let error = texts("a: 1\nb: @hunter2\n").unwrap_err();
        assert_eq!(
            error,
            "document 1, line 2: malformed YAML: unexpected character"
        );
    }

    /// Attack: an author sends YAML alias bombs and deep nesting, to exhaust the memory or the stack.
    #[test]
    fn alias_bombs_and_deep_nesting_are_errors() {
        let list = |item: &str| format!("[{}]", [item; 10].join(", "));
        let map = |item: &str| {
            let entries: Vec<String> = (0..10).map(|key| format!("k{key}: {item}")).collect();
            format!("{{{}}}", entries.join(", "))
        };
        let bomb = |ten: &dyn Fn(&str) -> String| {
            let mut text = format!("a0: &a0 {}\n", ten("x"));
            for i in 1..6 {
                text.extend([format!("a{i}: &a{i} {}\n", ten(&format!("*a{}", i - 1)))]);
            }
            texts(&text).unwrap_err()
        };
        let aliases = |count| {
            let hundred_nodes = format!("a: &a [{}]", ["x"; 99].join(", "));
            format!("{hundred_nodes}\nb: [{}]\n", vec!["*a"; count].join(", "))
        };
        assert!(texts(&aliases(500)).is_ok());
        assert!(texts(&aliases(501)).is_err());
        for error in [bomb(&list), bomb(&map)] {
            assert!(error.contains("aliases expand to more than"), "{error}");
        }
        assert!(texts(&"[".repeat(1000)).is_err());
        assert!(texts(&format!("{{\"a\":{}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn anchored_nodes_count_again_for_their_copies() {
        let nested = |levels: usize| {
            let open: Vec<String> = (0..levels).map(|i| format!("&n{i} [")).collect();
            format!(
                "a: {}{}{}",
                open.concat(),
                "~,".repeat(50_000),
                "]".repeat(levels)
            )
        };
        assert!(texts(&nested(2)).is_ok());
        let error = texts(&nested(9)).unwrap_err();
        assert!(
            error.contains("the input contains more than the limit of 400"),
            "{error}"
        );
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(64_000), "*a,".repeat(51));
        let error = texts(&long).unwrap_err();
        assert!(error.contains("aliases expand to more than"), "{error}");
        let digits = format!("a: &a {}1\nb: [{}]", "0".repeat(64_000), "*a,".repeat(51));
        let error = texts(&digits).unwrap_err();
        assert!(error.contains("aliases expand to more than"), "{error}");
    }

    #[test]
    fn refuses_untrusted_input_above_its_limit() {
        for (text, sufficient, insufficient) in [
            ("a: [1, 2]", 5, 4),
            ("a: &a [1]\nb: *a", 9, 8),
            ("{\"a\":[1,\"[,:\\\"\"]}", 6, 4),
            ("{}\"\"1 2", 6, 4),
        ] {
            assert!(read_within(text.as_bytes(), sufficient).is_ok(), "{text}");
            let error = read_within(text.as_bytes(), insufficient).unwrap_err();
            assert_eq!(error.problem, ReadProblem::Size(insufficient), "{text}");
        }
    }

    #[test]
    fn the_last_of_equal_fields_wins_and_mappings_merge() {
        for (input, want) in [
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (
                r#"{"a":{"b":1},"a":{"c":2},"a":{"b":3}}"#,
                r#"{"a":{"b":3,"c":2}}"#,
            ),
            (r#"{"a":{"b":1},"a":2,"a":{"c":3}}"#, r#"{"a":{"c":3}}"#),
            (r#"{"a":{"b":1},"a":{"c":2},"a":null}"#, r#"{"a":null}"#),
            (
                r#"{"a":{"b":{"c":1}},"a":{"b":{"d":2}}}"#,
                r#"{"a":{"b":{"c":1,"d":2}}}"#,
            ),
        ] {
            assert_eq!(texts(input).unwrap(), [want], "{input}");
        }
    }

    proptest::proptest! {
        /// Attack: an author passes arbitrary bytes to the parser of manifests, to crash the program.
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn numbers_keep_every_digit(number in proptest::num::f64::NORMAL) {
            let text = serde_json::json!({"a": number}).to_string();
            proptest::prop_assert_eq!(texts(&text), Ok(vec![text]));
        }

        #[test]
        fn never_panics_on_yaml_like_text(text in "[ \\n:{}\\[\\]\"'&*a0,|>#?!-]{0,60}") {
            let _ = read(text.as_bytes());
        }
    }
}
