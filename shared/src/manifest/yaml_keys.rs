//! Finds keys that occur twice in one mapping. This project uses the last one, as Go does; other tools use the first,
//! or refuse the file. A repeated key is probably a mistake, such as a missing `---` between two documents, or an
//! attempt to show different values to different tools.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::yaml_in;

const MERGE_KEY: &str = "<<";

/// Maximum number of keys that merges (`<<`) may copy; the same as the limit for aliases in [`yaml_in`].
const MAX_MERGED: usize = 50_000;

/// A key that is repeated in its mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepeatedKey {
    /// Line of the key, or of the merge key that repeats it, counted from one. For a JSON object, its first line.
    pub line: usize,
    /// The key as [`read`](super::read) reads it, or `<<`.
    pub key: String,
    /// Whether a merge (`<<`) repeats the key. Go's older parser then uses the merged value, and others the value of
    /// the key itself.
    pub is_merged: bool,
}

/// Returns the line of the first repeated key, counted from one. Ignores repeated `<<` keys, unless both merge the same
/// key.
pub(super) fn first_repeated(text: &str) -> Option<usize> {
    let mut scan = Scan::default();
    for result in Parser::new_from_str(text) {
        let (event, position) = result.ok()?;
        let repeated = scan.process(event, position.start.line());
        let is_counted = |repeated: &&RepeatedKey| repeated.is_merged || repeated.key != MERGE_KEY;
        if let Some(repeated) = repeated.iter().find(is_counted) {
            return Some(repeated.line);
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
        let repeated = scan.process(event, span.start.line() + lines_before);
        if let Some(keys) = documents.last_mut() {
            keys.extend(repeated);
        }
    }
    documents
}

/// A collection that has not ended yet.
struct Open {
    kind: Kind,
    anchor: usize,
    /// The keys of a mapping that were read so far, without those of merges.
    keys: HashSet<String>,
    /// The keys that were merged into a mapping, or those of the mappings in a list to merge.
    merged: HashSet<String>,
    /// The next node of a mapping.
    turn: Turn,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Map,
    List,
    /// A list of mappings to merge.
    MergedList,
}

/// The next node expected in a collection.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Key,
    Value,
    /// The value of the merge key on this line.
    Merged(usize),
}

/// A node that is complete.
#[derive(Clone)]
enum Node {
    /// A scalar, with its name as a key, and whether it is the merge key.
    Scalar(String, bool),
    /// The keys of a mapping, or of the mappings in a list to merge.
    Keys(Rc<HashSet<String>>),
    /// A list, or an alias of an unknown node.
    Other,
}

/// The open collections, innermost last, and the nodes with an anchor.
#[derive(Default)]
struct Scan {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    /// The number of keys that merges copied.
    merged: usize,
}

impl Scan {
    /// Processes an event. Returns the keys that it repeats.
    fn process(&mut self, event: Event<'_>, line: usize) -> Vec<RepeatedKey> {
        let (node, anchor) = match event {
            Event::MappingStart(anchor, _) => return self.begin(Kind::Map, anchor),
            Event::SequenceStart(anchor, _) => return self.begin(self.list_kind(), anchor),
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(&text, style, tag.as_deref()), anchor)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                (node.unwrap_or(Node::Other), 0)
            }
            Event::MappingEnd | Event::SequenceEnd => match self.open.pop() {
                Some(mut closed) => (closed.node(), closed.anchor),
                None => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.add(node, line)
    }

    fn begin(&mut self, kind: Kind, anchor: usize) -> Vec<RepeatedKey> {
        self.open.push(Open {
            kind,
            anchor,
            keys: HashSet::new(),
            merged: HashSet::new(),
            turn: Turn::Key,
        });
        Vec::new()
    }

    fn list_kind(&self) -> Kind {
        match self.open.last() {
            Some(parent) if matches!(parent.turn, Turn::Merged(_)) => Kind::MergedList,
            _ => Kind::List,
        }
    }

    /// Adds a node to the innermost collection as key, value or item.
    fn add(&mut self, node: Node, line: usize) -> Vec<RepeatedKey> {
        let Some(parent) = self.open.last_mut() else {
            return Vec::new();
        };
        match (parent.kind, parent.turn, node) {
            (Kind::List, ..) => Vec::new(),
            // Of equal keys in the mappings of the list, all parsers use the first.
            (Kind::MergedList, _, Node::Keys(keys)) => {
                self.merged += keys.len();
                if self.merged > MAX_MERGED {
                    return vec![unknown_merge(line)];
                }
                parent.merged.extend(keys.iter().cloned());
                Vec::new()
            }
            (Kind::Map, Turn::Key, node) => parent.add_key(node, line),
            (Kind::Map, Turn::Merged(line), Node::Keys(keys)) => {
                parent.turn = Turn::Key;
                self.merged += keys.len();
                if self.merged > MAX_MERGED {
                    return vec![unknown_merge(line)];
                }
                parent.merge(&keys, line)
            }
            (Kind::MergedList, ..) => vec![unknown_merge(line)],
            (Kind::Map, turn, _) => {
                parent.turn = Turn::Key;
                match turn {
                    Turn::Merged(line) => vec![unknown_merge(line)],
                    _ => Vec::new(),
                }
            }
        }
    }
}

impl Open {
    fn add_key(&mut self, key: Node, line: usize) -> Vec<RepeatedKey> {
        self.turn = Turn::Value;
        let Node::Scalar(key, is_merge) = key else {
            return Vec::new();
        };
        if is_merge {
            self.turn = Turn::Merged(line);
        }
        if self.keys.insert(key.clone()) {
            return Vec::new();
        }
        let is_merged = false;
        vec![RepeatedKey {
            line,
            key,
            is_merged,
        }]
    }

    /// Adds the keys of a merge. A key that follows the merge may override them, since all parsers then use that key.
    fn merge(&mut self, keys: &HashSet<String>, line: usize) -> Vec<RepeatedKey> {
        let earlier = |key: &&String| self.keys.contains(*key) || self.merged.contains(*key);
        let mut repeated: Vec<&String> = keys.iter().filter(earlier).collect();
        repeated.sort();
        let is_merged = true;
        let repeated = repeated.into_iter().map(|key| RepeatedKey {
            line,
            key: key.clone(),
            is_merged,
        });
        let repeated = repeated.collect();
        self.merged.extend(keys.iter().cloned());
        repeated
    }

    fn node(&mut self) -> Node {
        if self.kind == Kind::List {
            return Node::Other;
        }
        let mut keys = std::mem::take(&mut self.keys);
        keys.remove(MERGE_KEY);
        keys.extend(std::mem::take(&mut self.merged));
        Node::Keys(Rc::new(keys))
    }
}

/// Returns the merge key itself, for a merge whose keys are not known or too many.
fn unknown_merge(line: usize) -> RepeatedKey {
    RepeatedKey {
        line,
        key: MERGE_KEY.to_owned(),
        is_merged: true,
    }
}

/// Returns a scalar with the key that `read` would create from it. For the merge key, and for a scalar that cannot be a
/// key, the name is the source text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Node {
    let name = yaml_in::key_name(text, style, tag);
    let is_merge = name.is_none() && text == MERGE_KEY;
    Node::Scalar(name.unwrap_or_else(|| text.to_owned()), is_merge)
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
                "a: &a {b: 1}\nc: {<<: *a, b: 2}\nd: {<<: {}, <<: *a}\n",
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

    /// Attack: an author writes a key and merges another value over it, so that kustomize uses the first value, and
    /// reviewers and `kubectl` see the second.
    #[test]
    fn finds_a_merge_that_overrides_a_key() {
        for (text, want) in [
            ("a: 1\n<<: {a: 2}\n", Some(2)),
            ("a: 1\n<<: {<<: {a: 2}}\n", Some(2)),
            ("b:\n  a: 1\n  <<: [{c: 1}, {a: 2}]\n", Some(3)),
            ("x: &x {a: 1}\nb:\n  a: 2\n  <<: *x\n", Some(4)),
            ("x: &x {a: 1}\nb:\n  a: 2\n  <<: [*x]\n", Some(4)),
            ("x: &x [{a: 1}]\nb:\n  a: 2\n  <<: *x\n", Some(4)),
            ("<<: {a: 1}\n<<: {a: 2}\n", Some(2)),
            ("x: &x\n  <<: {a: 1}\ny:\n  a: 2\n  <<: *x\n", Some(5)),
            ("- a: 1\n  ? <<\n  : a: 2\n", Some(2)),
            ("<<: {a: 1}\na: 2\n", None),
            ("<<: [{a: 1}, {a: 2}]\na: 3\n", None),
            ("a: 1\n<<: {b: {a: 1}}\n", None),
            ("a: 1\nb: {<<: {a: 2}}\n", None),
            ("a: 1\n\"<<\": {a: 2}\n", None),
            ("x: [{a: 1}, {a: 2}]\n", None),
        ] {
            assert_eq!(first_repeated(text), want, "{text:?}");
        }
    }

    #[test]
    fn many_merges_count_as_repeated() {
        let keys: Vec<String> = (0..1000).map(|key| format!("k{key}: 1, ")).collect();
        let keys = keys.concat();
        let merges = |count| format!("x: &x {{{keys}}}\ny: [{}]\n", "{<<: *x}, ".repeat(count));
        assert_eq!(first_repeated(&merges(50)), None);
        assert_eq!(first_repeated(&merges(51)), Some(2));
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
