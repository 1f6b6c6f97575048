//! Translates Go's syntax to that of the `regex` crate, and refuses the expressions that Go refuses.

use super::class;

/// Go's limit for a counted repetition; nested counts are multiplied.
const MAX_REPETITIONS: u64 = 1000;

pub(super) struct TranslatedPattern {
    pub(super) text: String,
    pub(super) names: Vec<(String, usize)>,
}

/// Translates an expression; returns `None` if Go would refuse it.
pub(super) fn translate(source: &str) -> Option<TranslatedPattern> {
    let mut translator = Translator {
        rest: source,
        out: String::with_capacity(source.len() + 16),
        names: Vec::new(),
        groups: 0,
        open: Vec::new(),
        operand: Operand::Nothing,
        max: 1,
    };
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    translator.open.is_empty().then_some(TranslatedPattern {
        text: translator.out,
        names: translator.names,
    })
}

/// The item that a repetition operator would apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    Nothing,
    /// An item whose nested counted repetitions have at most this product.
    Atom(u64),
    Repetition(u64),
}

struct Translator<'s> {
    rest: &'s str,
    out: String,
    names: Vec<(String, usize)>,
    groups: usize,
    /// For each open group, the largest product so far in the group around it.
    open: Vec<u64>,
    operand: Operand,
    /// The largest product of counted repetitions in the current group.
    max: u64,
}

impl Translator<'_> {
    fn step(&mut self) -> Option<()> {
        let char = self.rest.chars().next()?;
        match char {
            '(' => return self.group(),
            ')' => {
                self.skip(1);
                self.out.push(')');
                let inner = std::mem::replace(&mut self.max, self.open.pop()?);
                self.max = self.max.max(inner);
                self.operand = Operand::Atom(inner);
                return Some(());
            }
            '|' => {
                self.skip(1);
                self.out.push('|');
                self.operand = Operand::Nothing;
                return Some(());
            }
            '*' | '+' | '?' => {
                self.skip(1);
                self.out.push(char);
                return self.repetition_operator(1);
            }
            '{' => {
                if let Some((min, max, len)) = counts(self.rest) {
                    return self.counted_repetition(min, max, len);
                }
                self.skip(1);
                self.out.push_str("\\{");
            }
            '[' => {
                let len = class::translate(self.rest, &mut self.out)?;
                self.skip(len);
            }
            '\\' => return self.escape(),
            '.' | '^' | '$' => {
                self.skip(1);
                self.out.push(char);
            }
            _ => {
                self.skip(char.len_utf8());
                class::push_literal(&mut self.out, char);
            }
        }
        self.operand = Operand::Atom(1);
        Some(())
    }

    fn skip(&mut self, len: usize) {
        self.rest = &self.rest[len..];
    }

    /// Accepts a repetition operator, which must follow an item that is not repeated yet.
    fn repetition_operator(&mut self, times: u64) -> Option<()> {
        let Operand::Atom(inner) = self.operand else {
            return None;
        };
        if self.rest.starts_with('?') {
            self.skip(1);
            self.out.push('?');
        }
        let product = inner.saturating_mul(times.max(1));
        if times > 1 && product > MAX_REPETITIONS {
            return None;
        }
        self.max = self.max.max(product);
        self.operand = Operand::Repetition(product);
        Some(())
    }

    fn counted_repetition(&mut self, min: u64, max: Option<u64>, len: usize) -> Option<()> {
        if min > MAX_REPETITIONS || max.is_some_and(|max| max > MAX_REPETITIONS || max < min) {
            return None;
        }
        self.out.push_str(&self.rest[..len]);
        self.skip(len);
        self.repetition_operator(max.unwrap_or(min))
    }

    fn group(&mut self) -> Option<()> {
        if !self.rest.starts_with("(?") {
            self.skip(1);
            self.open("(", true);
            return Some(());
        }
        let named_group = self
            .rest
            .strip_prefix("(?P<")
            .or(self.rest.strip_prefix("(?<"));
        if let Some(after) = named_group {
            let (name, rest) = after.split_once('>')?;
            let is_valid = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_valid {
                return None;
            }
            self.names.push((name.to_owned(), self.groups + 1));
            self.rest = rest;
            self.open("(", true);
            return Some(());
        }
        self.flags()
    }

    fn open(&mut self, sign: &str, captures: bool) {
        self.out.push_str(sign);
        self.groups += usize::from(captures);
        self.open.push(std::mem::replace(&mut self.max, 1));
        self.operand = Operand::Nothing;
    }

    /// Translates flags, or the beginning of a group with flags, such as `(?i-s)` or `(?i-s:`.
    fn flags(&mut self) -> Option<()> {
        let end = self.rest.find([')', ':'])?;
        let flags = &self.rest[2..end];
        let is_group = self.rest[end..].starts_with(':');
        let (on, off) = flags
            .split_once('-')
            .map_or((flags, None), |(on, off)| (on, Some(off)));
        let are_flags = |flags: &str| flags.chars().all(|flag| "imsU".contains(flag));
        if !are_flags(on) || off.is_some_and(|off| off.is_empty() || !are_flags(off)) {
            return None;
        }
        let off = off.unwrap_or("");
        let unique = |flags: &str| {
            "imsU"
                .chars()
                .filter(|&flag| flags.contains(flag))
                .collect::<String>()
        };
        // A flag that is both set and cleared is cleared.
        let on: String = unique(on)
            .chars()
            .filter(|&flag| !off.contains(flag))
            .collect();
        let off = unique(off);
        let dash = if off.is_empty() { "" } else { "-" };
        let text = format!("{on}{dash}{off}");
        self.skip(end + 1);
        if is_group {
            self.open(&format!("(?{text}:"), false);
            return Some(());
        }
        if !text.is_empty() {
            self.out.extend(["(?", &text, ")"]);
        }
        self.operand = Operand::Nothing;
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        let next = self.rest[1..].chars().next()?;
        let anchor = match next {
            'A' => "\\A",
            'z' => "\\z",
            'b' => "(?-u:\\b)",
            'B' => "(?-u:\\B)",
            'C' => "(?s:.)",
            'Q' => {
                self.quotation();
                return Some(());
            }
            _ => {
                let len = class::escape(self.rest, &mut self.out, false)?;
                self.skip(len);
                self.operand = Operand::Atom(1);
                return Some(());
            }
        };
        self.out.push_str(anchor);
        self.skip(2);
        self.operand = Operand::Atom(1);
        Some(())
    }

    /// Translates `\Q…\E`: literal text, to the end of the expression if it is not terminated.
    fn quotation(&mut self) {
        let body = &self.rest[2..];
        let (quoted, rest) = body.split_once("\\E").unwrap_or((body, ""));
        for char in quoted.chars() {
            class::push_literal(&mut self.out, char);
        }
        if !quoted.is_empty() {
            self.operand = Operand::Atom(1);
        }
        self.rest = rest;
    }
}

/// Parses the counts of a repetition, such as `{2}`, `{2,}` or `{2,5}`: returns minimum, maximum and length. `None` if
/// the brace is a literal.
fn counts(text: &str) -> Option<(u64, Option<u64>, usize)> {
    let is_in_counts = |char: char| char == ',' || char.is_ascii_digit();
    let end = 1 + text[1..].find(|char| !is_in_counts(char))?;
    text[end..].starts_with('}').then_some(())?;
    let inner = &text[1..end];
    let (min, max) = match inner.split_once(',') {
        None => (count(inner)?, Some(count(inner)?)),
        Some((min, "")) => (count(min)?, None),
        Some((min, max)) => (count(min)?, Some(count(max)?)),
    };
    Some((min, max, end + 1))
}

/// Parses a number; one that is too large becomes the maximum.
fn count(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && (digits.len() == 1 || !digits.starts_with('0')))
        .then(|| digits.parse().unwrap_or(u64::MAX))
}
