//! Finds keys that occur twice in one mapping. This project uses the last one, as Go does; other tools use the first,
//! or refuse the file. A repeated key is probably a mistake, such as a missing `---` between two documents, or an
//! attempt to show different values to different tools.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::yaml_in;

const MERGE_KEY: &str = "<<";

/// A key that is repeated in its mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatedKey {
    /// Line of the key, counted from one.
    pub line: usize,
    /// The key, as written.
    pub key: String,
}

/// Returns the line of the first repeated key, counted from one. Ignores keys that `<<` merges in, because they are
/// meant to be overridden, and repeated `<<` keys.
pub(super) fn first_repeated(text: &str) -> Option<usize> {
    let mut state = Scan::default();
    for result in Parser::new_from_str(text) {
        let (event, span) = result.ok()?;
        if let Some(key) = state.process(event)
            && key != MERGE_KEY
        {
            return Some(span.start.line());
        }
    }
    None
}

/// Returns the repeated keys in each document up to the first error, including repeated `<<` keys.
pub(super) fn find_in_documents(text: &str, lines_before: usize) -> Vec<Vec<RepeatedKey>> {
    let mut documents = Vec::new();
    let mut scan = Scan::default();
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        if matches!(event, Event::DocumentStart(_)) {
            documents.push(Vec::new());
            scan = Scan::default();
        }
        let line = span.start.line() + lines_before;
        if let (Some(key), Some(keys)) = (scan.process(event), documents.last_mut()) {
            keys.push(RepeatedKey { line, key });
        }
    }
    documents
}

/// A collection that has not ended yet.
enum Open {
    List,
    /// A mapping with the keys that were read so far.
    Map(HashSet<String>, Turn),
}

/// The next node expected in a mapping.
#[derive(PartialEq)]
enum Turn {
    Key,
    Value,
}

/// The open collections, innermost last, and the scalars with an anchor, which an alias can use as keys.
#[derive(Default)]
struct Scan {
    open: Vec<Open>,
    anchors: HashMap<usize, String>,
}

impl Scan {
    /// Processes an event. Returns the key, if its mapping already contains it.
    fn process(&mut self, event: Event<'_>) -> Option<String> {
        let key = match event {
            Event::MappingStart(..) => {
                self.open.push(Open::Map(HashSet::new(), Turn::Key));
                return None;
            }
            Event::SequenceStart(..) => {
                self.open.push(Open::List);
                return None;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let name = name_of(&text, style, tag.as_deref());
                if anchor != 0 {
                    self.anchors.insert(anchor, name.clone());
                }
                Some(name)
            }
            Event::Alias(anchor) => self.anchors.get(&anchor).cloned(),
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                None
            }
            _ => return None,
        };
        let key = key.filter(|key| !self.insert(key));
        self.advance();
        key
    }

    /// Adds a key to the innermost mapping. Returns false if the mapping already contains the key; returns true if the
    /// next node is a value or a list item.
    fn insert(&mut self, key: &str) -> bool {
        match self.open.last_mut() {
            Some(Open::Map(keys, Turn::Key)) => keys.insert(key.to_owned()),
            _ => true,
        }
    }

    /// Switches between key and value.
    fn advance(&mut self) {
        if let Some(Open::Map(_, turn)) = self.open.last_mut() {
            *turn = if *turn == Turn::Key {
                Turn::Value
            } else {
                Turn::Key
            };
        }
    }
}

/// Returns the name of a key as `read` returns it. For the merge key, and for a scalar that cannot be a key, returns
/// the source text.
fn name_of(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> String {
    yaml_in::key_name(text, style, tag).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_key_that_occurs_twice_in_its_mapping() {
        for (text, want) in [
            ("a: 1\nb: 2\n", None),
            ("a: 1\nb: 2\na: 3\n", Some(3)),
            ("a: 1\n---\na: 2\n", None),
            ("a: {b: 1}\nc: {b: 2}\n", None),
            ("a: a\nb: a\n", None),
            ("x:\n- a: 1\n- a: 2\n", None),
            ("x:\n- a: 1\n  a: 2\n", Some(3)),
            (
                "a: &a {b: 1}\nc: {<<: *a, b: 2}\nd: {<<: *a, <<: *a}\n",
                None,
            ),
            ("? [a, b]\n: a\n? a\n: b\na: c\n", Some(5)),
            ("{\"a\": {\"b\": 1, \"b\": 2}}", Some(1)),
            ("&k a: 1\n*k : 2\n", Some(2)),
            ("n: 1\nno: 2\n", Some(2)),
            ("\"n\": 1\nn: 2\n", None),
            ("a: [", None),
        ] {
            assert_eq!(first_repeated(text), want, "{text:?}");
        }
    }

    #[test]
    fn finds_every_repeated_key_of_each_document() {
        let text = "a: 1\na: 2\na: 3\n---\nb: {<<: *x, <<: *y}\n---\nc: {d: {e: 1, e: 2}}\nf: [";
        let text = text.replace("*x", "{}").replace("*y", "{}");
        let repeated: Vec<Vec<_>> = find_in_documents(&text, 10)
            .into_iter()
            .map(|keys| {
                keys.into_iter()
                    .map(|repeated| (repeated.line, repeated.key))
                    .collect()
            })
            .collect();
        let key = |line, key: &str| (line, key.to_owned());
        let want = vec![
            vec![key(12, "a"), key(13, "a")],
            vec![key(15, "<<")],
            vec![key(17, "e")],
        ];
        assert_eq!(repeated, want);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[ab<:\\-\\[\\]{}&*? \n]{0,40}") {
            let _ = first_repeated(&text);
        }
    }
}
