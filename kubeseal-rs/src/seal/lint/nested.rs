//! Finds Secrets wherever they are in a file: as documents, in lists, as values of another object such as the
//! `manifests` of a Helm chart, and inside strings, such as a file in a ConfigMap.

use std::sync::Arc;

use kubeseal_library::walk::{Kind, LISTS, may_hide_kind, names_kind};
use shared::manifest::{self, Document, Node, Value, folded, is_same_name};

use super::object::FindingInFile;
use super::placeholder::is_templated;
use super::template::{self, Form, Literals, Piece, Pieces};
use super::{misplaced, patch, plain, sops, unrendered};
use crate::seal::controller_keys::KnownKeys;

/// The maximum nesting depth of strings.
const MAX_LEVELS: usize = 4;

/// The kinds that a string is searched for, in lowercase.
const KINDS: [&str; 5] = [
    "secret",
    "secrets",
    "secretlist",
    "secretgenerator",
    "sopssecret",
];

/// The findings of a file.
#[derive(Default)]
pub(super) struct Search {
    pub(super) findings: Vec<FindingInFile>,
    /// The lines of strings that name a Secret and could not be read.
    pub(super) unreadable_lines: Vec<usize>,
    /// The remaining number of bytes of nested strings to parse. Aliases can make them much larger than the file.
    bytes_left: usize,
    known_keys: Arc<KnownKeys>,
}

/// The file, or a string inside it.
#[derive(Clone, Copy)]
struct Level<'a> {
    text: &'a [&'a str],
    literals: &'a Literals<'a>,
    /// Whether the document contains SOPS metadata.
    has_sops: bool,
    /// Whether the document is a patch of a Secret.
    is_patch_of_secret: bool,
    /// Where the lines of the string are in the file.
    lines: Lines,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Lines {
    /// The string begins after this many lines of the file.
    After(usize),
    /// The positions of the string's lines are unknown, so findings name the line where the string begins.
    Only(usize),
}

impl Lines {
    fn of(self, line: usize) -> usize {
        match self {
            Self::After(before) => before + line,
            Self::Only(only) => only,
        }
    }
}

impl Search {
    /// Creates a search in a file of this size. `known_keys` are keys of controllers.
    pub(super) fn new(size: usize, known_keys: Arc<KnownKeys>) -> Self {
        Self {
            known_keys,
            bytes_left: 4 * size + (1 << 20),
            ..Self::default()
        }
    }

    /// Searches documents in the file. `text` is the content of the file.
    pub(super) fn search_documents<'a>(
        &mut self,
        text: &str,
        literals: &Literals<'_>,
        documents: impl IntoIterator<Item = &'a Document>,
    ) {
        let level = Level {
            text: &text.lines().collect::<Vec<_>>(),
            literals,
            has_sops: false,
            is_patch_of_secret: false,
            lines: Lines::After(0),
            depth: 0,
        };
        for document in documents {
            let has_sops = document.root.field("sops").is_some();
            self.search_node(&document.root, true, Level { has_sops, ..level });
        }
    }

    /// Searches the strings in the actions of a template, which may contain whole manifests.
    pub(super) fn search_strings(&mut self, text: &str, literals: &Literals<'_>) {
        let mut line = 1;
        for piece in Pieces::of(text) {
            let source = match &piece {
                Piece::Text(text) => text,
                Piece::Action(action) => action.source,
            };
            if let Piece::Action(action) = &piece
                && action.form == Form::Expression
                && may_contain_secret(action.content)
            {
                let level = Level {
                    text: &[],
                    literals,
                    has_sops: false,
                    is_patch_of_secret: false,
                    lines: Lines::Only(line),
                    depth: 0,
                };
                for string in template::strings(action.content) {
                    let string = string.replace("\\n", "\n");
                    if may_contain_secret(&string) {
                        self.search_text(&string, line, level);
                    }
                }
            }
            line += source.matches('\n').count();
        }
    }

    /// Searches a value. `is_object` is whether the value may be a whole object, such as a Secret without `kind`.
    fn search_node(&mut self, node: &Node, is_object: bool, level: Level<'_>) {
        match &node.value {
            Value::Map(_) if is_secret(node, is_object) => {
                self.check_secret(node, level);
                // `kubectl apply` keeps a copy of the object in an annotation.
                if let Some(metadata) = node.field("metadata") {
                    self.search_node(metadata, false, level);
                }
            }
            Value::Map(fields) => {
                self.check_patch(node, is_object, level);
                let unencrypted = sops::secret(node, level.literals, level.has_sops);
                self.add(unencrypted, level);
                let is_patch_of_secret = patch::targets_secret(node);
                let mut kinds = node.texts("kind");
                let is_list = kinds.any(|kind| LISTS.contains(&kind) || is_templated(kind));
                for (name, field) in fields {
                    self.search_node(
                        field,
                        is_object && is_list && is_same_name(name, "items"),
                        Level {
                            is_patch_of_secret: is_patch_of_secret && is_same_name(name, "patch"),
                            ..level
                        },
                    );
                }
            }
            Value::List(items) => {
                for item in items {
                    self.search_node(item, is_object, level);
                }
            }
            Value::Text(text) if level.is_patch_of_secret || may_contain_secret(text) => {
                self.search_text(text, node.line, level);
            }
            _ => {}
        }
    }

    fn check_secret(&mut self, node: &Node, level: Level<'_>) {
        let Level {
            literals, has_sops, ..
        } = level;
        let plain = plain::secret(node, literals, has_sops, &self.known_keys);
        self.add(plain, level);
        if plain::may_be_secret(node) {
            self.add(misplaced::values(node, literals, has_sops), level);
        }
    }

    /// Searches a mapping that may be an operation of a JSON patch, or a patch of a Secret.
    fn check_patch(&mut self, node: &Node, is_object: bool, level: Level<'_>) {
        let is_secret_patch = level.is_patch_of_secret;
        self.add(
            patch::operation(node, is_secret_patch, level.literals),
            level,
        );
        if is_secret_patch && is_object {
            self.add(patch::part_of_secret(node, level.literals), level);
        }
    }

    fn add(&mut self, finding: Option<FindingInFile>, level: Level<'_>) {
        let finding = finding.map(|(rule, line, message)| (rule, level.lines.of(line), message));
        self.findings.extend(finding);
    }

    /// Searches a string that may be a manifest.
    fn search_text(&mut self, text: &str, line: usize, outer: Level<'_>) {
        let lines = match (outer.lines, head_of_block(outer.text, line)) {
            (Lines::After(before), Some(head)) => Lines::After(before + head),
            (lines, _) => Lines::Only(lines.of(line)),
        };
        let fits = outer.depth < MAX_LEVELS && text.len() <= self.bytes_left;
        self.bytes_left = self.bytes_left.saturating_sub(text.len());
        if !fits {
            self.unreadable_lines.push(outer.lines.of(line));
            return;
        }
        let size_limit = 4 * text.len();
        let literals = outer.literals.nested(text);
        let readable = || unrendered::replace_actions(text, &literals);
        let read = |text: &str| manifest::read_within(text.as_bytes(), size_limit).ok();
        let Some(documents) = read(text).or_else(|| read(&readable()?)) else {
            if text.contains('\n') {
                self.unreadable_lines.push(outer.lines.of(line));
            }
            return;
        };
        let level = Level {
            text: &text.lines().collect::<Vec<_>>(),
            literals: &literals,
            has_sops: false,
            is_patch_of_secret: outer.is_patch_of_secret,
            lines,
            depth: outer.depth + 1,
        };
        for document in &documents {
            let has_sops = document.root.field("sops").is_some();
            self.search_node(&document.root, true, Level { has_sops, ..level });
            let generators = plain::generators(&document.root, &literals).into_iter();
            let generators =
                generators.map(|(rule, line, message)| (rule, lines.of(line), message));
            self.findings.extend(generators);
        }
    }
}

fn is_secret(node: &Node, is_object: bool) -> bool {
    Kind::of(node) == Some(Kind::Secret)
        || plain::may_be_secret(node)
        || is_object && plain::is_secret_of_unknown_kind(node)
}

/// Returns whether a string may be a manifest that defines or generates a Secret.
fn may_contain_secret(text: &str) -> bool {
    if !text.contains(['\n', '{']) {
        return false;
    }
    let text = folded(text);
    names_kind(text.as_bytes(), &KINDS)
        || text.contains("secretgenerator:")
        || text.contains("/stringdata")
        || text.contains("kind") && may_hide_kind(text.as_bytes())
}

/// Returns the line of the `|` above the value that begins on this line, if the value is a literal block. The lines of
/// such a block are the lines of its text.
fn head_of_block(text: &[&str], line: usize) -> Option<usize> {
    let above = text.get(..line.checked_sub(1)?)?;
    let head = above.iter().rposition(|line| !line.trim().is_empty())?;
    let text = above[head].split(" #").next().unwrap_or_default();
    let text = text
        .trim_end()
        .trim_end_matches(|c: char| c.is_ascii_digit() || "+-".contains(c));
    text.ends_with('|').then_some(head + 1)
}
