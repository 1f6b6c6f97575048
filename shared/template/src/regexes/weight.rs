//! Estimates the cost of an expression from its syntax, before it is compiled.

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// Estimates of the compiled size and of the search time.
#[derive(Clone, Copy)]
pub(super) struct Weight {
    /// States after compilation.
    pub(super) states: usize,
    /// States that one byte of text may touch.
    pub(super) threads: usize,
    /// Whether a search may continue far beyond the match that it finds. The next search then reads the same text
    /// again.
    pub(super) can_read_beyond: bool,
}

impl Weight {
    pub(super) fn estimate(hir: &Hir) -> Self {
        let (states, threads) = size(hir);
        Self {
            states,
            threads,
            can_read_beyond: can_read_beyond(hir),
        }
    }
}

/// Returns the steps for parsing the translated expression, in addition to its length. A Unicode class is a
/// table of hundreds of ranges; without case sensitivity, each character of a wide range is processed.
pub(super) fn parsing_steps(text: &str) -> usize {
    let count = |part: &str| memchr::memmem::find_iter(text.as_bytes(), part).count();
    let tables = count("\\p{") + count("\\P{");
    let wide_ranges = if text.contains("(?i") {
        let next = text.chars().skip(1);
        let ranges = text.chars().zip(next);
        count("[^") + count("[:^") + ranges.filter(|(a, b)| *a == '-' && !b.is_ascii()).count()
    } else {
        0
    };
    2000 * tables + 15_000 * wide_ranges
}

fn size(hir: &Hir) -> (usize, usize) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (1, 1),
        HirKind::Literal(literal) => (literal.0.len(), literal.0.len()),
        HirKind::Class(class) => class_size(class),
        HirKind::Repetition(repetition) => repeated_size(repetition),
        HirKind::Capture(capture) => add_sizes((2, 2), size(&capture.sub)),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(size).fold((1, 1), add_sizes)
        }
    }
}

fn add_sizes(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

/// Returns the states and threads of a class. A character outside ASCII takes several bytes, each with its
/// own states.
fn class_size(class: &Class) -> (usize, usize) {
    let Class::Unicode(class) = class else {
        return (1, 1);
    };
    let ranges = class.ranges().len();
    if class.is_ascii() {
        (ranges, 1)
    } else {
        (ranges + 8, 4)
    }
}

fn repeated_size(repetition: &Repetition) -> (usize, usize) {
    let max = repetition.max.unwrap_or(repetition.min.saturating_add(1));
    let times = usize::try_from(max).unwrap_or(usize::MAX).max(1);
    let (states, threads) = size(&repetition.sub);
    (
        states.saturating_add(1).saturating_mul(times),
        threads.saturating_add(1).saturating_mul(times),
    )
}

/// Returns whether many searches may each read far beyond their match, so that the same text is read repeatedly.
/// `x*y|x` finds an `x` only after reading every `x` that follows; so does `x(x*y)?`. `(?:x*y)+` is harmless: every
/// match contains a `y`, and a `y` in the text already read would have extended the match, so that text contains no
/// other match.
fn can_read_beyond(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Alternation(parts) => parts
            .iter()
            .any(|part| has_mandatory_tail(part) || can_read_beyond(part)),
        HirKind::Repetition(repetition) => {
            let sub = &repetition.sub;
            let optional =
                repetition.min == 0 || repetition.max.is_some_and(|max| max > repetition.min);
            optional && has_mandatory_tail(sub) || can_read_beyond(sub)
        }
        HirKind::Capture(capture) => can_read_beyond(&capture.sub),
        HirKind::Concat(parts) => parts.iter().any(can_read_beyond),
        _ => false,
    }
}

/// Returns whether an unbounded part is followed by a mandatory part.
fn has_mandatory_tail(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Alternation(parts) => parts.iter().any(has_mandatory_tail),
        HirKind::Repetition(repetition) => has_mandatory_tail(&repetition.sub),
        HirKind::Capture(capture) => has_mandatory_tail(&capture.sub),
        HirKind::Concat(parts) => {
            let is_unbounded = |part: &Hir| part.properties().maximum_len().is_none();
            let first = parts.iter().position(is_unbounded).unwrap_or(parts.len());
            parts.iter().skip(first + 1).any(is_mandatory) || parts.iter().any(has_mandatory_tail)
        }
        _ => false,
    }
}

fn is_mandatory(hir: &Hir) -> bool {
    let properties = hir.properties();
    properties.minimum_len() != Some(0) || !properties.look_set().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(pattern: &str) -> Weight {
        Weight::estimate(&regex_syntax::parse(pattern).expect("a valid expression"))
    }

    #[test]
    fn detects_searches_that_continue_beyond_their_match() {
        let cases = [
            (".*[^A-Z]|[A-Z]", true),
            ("x(?:[^c]*y)?", true),
            ("(?:x*y)*", true),
            ("(?:ax*y){1,2}", true),
            (" | +$", true),
            ("(?:(a|x*y)b)", true),
            ("a*", false),
            ("[a-z]+@[a-z]+", false),
            (" +|,", false),
            ("^ *#.*$", false),
            ("(?:x*y)+", false),
            (r#""(?:[^"\\]|\\.)*""#, false),
            ("(?:a[^c]*|b)d", false),
        ];
        for (pattern, beyond) in cases {
            assert_eq!(weight(pattern).can_read_beyond, beyond, "{pattern}");
        }
    }

    #[test]
    fn weighs_repetitions_and_large_classes() {
        assert_eq!(weight("[a-z]{900}").threads, 1800);
        assert!(weight(r"\p{L}").states > 500);
        assert_eq!(weight(r"\p{L}").threads, 4);
    }

    #[test]
    fn class_tables_and_case_insensitive_wide_ranges_are_expensive() {
        assert_eq!(parsing_steps("[a-z]+[^0-9]"), 0);
        assert_eq!(parsing_steps(r"\p{gc=L}\P{gc=L}"), 4000);
        assert_eq!(parsing_steps("(?i)[ -\u{10ffff}][^a]"), 30_000);
    }
}
