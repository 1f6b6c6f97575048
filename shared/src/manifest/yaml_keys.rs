//! Finds keys that occur twice in one mapping. All readers use the last one, as in Go; an author of a file
//! probably lost the first one by mistake, for example with two documents without `---` between them.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Returns the line of the first repeated key, counted from one. Ignores keys that `<<` merges in, because
/// they are meant to be overridden.
pub(super) fn first_repeated(text: &str) -> Option<usize> {
    let mut open = Stack::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        match event {
            Event::MappingStart(..) => open.0.push(Open::Map(HashSet::new(), Turn::Key)),
            Event::SequenceStart(..) => open.0.push(Open::List),
            Event::Scalar(key, style, ..) => {
                if !open.is_new(&key, style) {
                    return Some(span.start.line());
                }
                open.pass();
            }
            Event::MappingEnd | Event::SequenceEnd => {
                open.0.pop();
                open.pass();
            }
            Event::Alias(_) => open.pass(),
            _ => {}
        }
    }
    None
}

/// A collection that has not ended yet.
enum Open {
    List,
    /// The keys so far.
    Map(HashSet<String>, Turn),
}

/// The next node expected in a mapping.
#[derive(PartialEq)]
enum Turn {
    Key,
    Value,
}

/// The open collections, innermost last.
#[derive(Default)]
struct Stack(Vec<Open>);

impl Stack {
    /// Returns whether this is not a key, or a new one.
    fn is_new(&mut self, key: &str, style: ScalarStyle) -> bool {
        match self.0.last_mut() {
            Some(Open::Map(keys, Turn::Key)) => {
                let merges = key == "<<" && style == ScalarStyle::Plain;
                merges || keys.insert(key.to_owned())
            }
            _ => true,
        }
    }

    /// Switches between key and value.
    fn pass(&mut self) {
        if let Some(Open::Map(_, turn)) = self.0.last_mut() {
            *turn = if *turn == Turn::Key {
                Turn::Value
            } else {
                Turn::Key
            };
        }
    }
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
            ("a: [", None),
        ] {
            assert_eq!(first_repeated(text), want, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[ab<:\\-\\[\\]{}&*? \n]{0,40}") {
            let _ = first_repeated(&text);
        }
    }
}
