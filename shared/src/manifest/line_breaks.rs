//! Refuses characters that are line breaks in YAML 1.1 and letters in YAML 1.2. Go's parsers follow YAML 1.1 here: a
//! comment or an unquoted value ends at such a character, and the text after it is part of the document, which the
//! parser of this project would not notice.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle};
use zeroize::Zeroizing;

use super::error::ReadProblem;

const NEXT_LINE: char = '\u{85}';
const BREAKS: [char; 3] = [NEXT_LINE, '\u{2028}', '\u{2029}'];

/// A character that both versions of YAML treat as a letter.
const LETTER: &str = "\u{f8ff}";

/// Checks YAML. Fails with the line, counted from one, of a character that parsers read differently.
/// Accepts U+2028 and U+2029 inside quotes, except next to white space, which a parser would remove.
pub(super) fn check(text: &str) -> Result<(), (usize, ReadProblem)> {
    let breaks: Vec<usize> = text.match_indices(BREAKS).map(|(at, _)| at).collect();
    if breaks.is_empty() {
        return Ok(());
    }
    let folded = breaks.iter().position(|at| is_folded(text, *at));
    let Some(wrong) = folded.or_else(|| first_outside_quotes(text, &breaks)) else {
        return Ok(());
    };
    let (before, rest) = text.split_at(breaks[wrong]);
    let line = before.matches('\n').count() + 1;
    let problem = ReadProblem::LineBreak(rest.chars().next().map_or(0, u32::from));
    Err((line, problem))
}

/// Returns whether a parser would replace the break, or remove white space next to it, even inside quotes.
fn is_folded(text: &str, at: usize) -> bool {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n') || BREAKS.contains(&c);
    let mut rest = text[at..].chars();
    rest.next() == Some(NEXT_LINE)
        || rest.next().is_some_and(is_space)
        || text[..at].ends_with(is_space)
}

/// Returns the index of the first break that is not inside quotes. Replaces breaks with [`LETTER`] and counts the
/// letters in quoted scalars, because the positions that the parser reports for scalars include comments.
fn first_outside_quotes(text: &str, breaks: &[usize]) -> Option<usize> {
    let others = letters_in_quotes(text);
    let are_in_quotes = |count: usize| {
        let end = breaks.get(count).copied().unwrap_or(text.len());
        let replaced = Zeroizing::new(text[..end].replace(BREAKS, LETTER) + &text[end..]);
        letters_in_quotes(&replaced) == others + count
    };
    let (mut inside, mut outside) = (0, breaks.len() + 1);
    if are_in_quotes(breaks.len()) {
        return None;
    }
    while outside - inside > 1 {
        let middle = inside.midpoint(outside);
        if are_in_quotes(middle) {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    Some(inside)
}

/// Returns the number of [`LETTER`]s in quoted scalars, whether written or escaped.
fn letters_in_quotes(text: &str) -> usize {
    let events = Parser::new_from_str(text).map_while(Result::ok);
    let texts = events.filter_map(|(event, _)| quoted_text(event));
    texts.map(|text| text.matches(LETTER).count()).sum()
}

fn quoted_text(event: Event<'_>) -> Option<Cow<'_, str>> {
    match event {
        Event::Scalar(text, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..) => {
            Some(text)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ReadProblem, read};

    /// Returns the line and the character of the problem. In `text`, `^` stands for U+2028, and `~` for U+0085.
    fn problem(text: &str) -> Option<(usize, u32)> {
        let text = text.replace('^', "\u{2028}").replace('~', "\u{85}");
        let error = read(text.as_bytes()).err()?;
        let ReadProblem::LineBreak(character) = error.problem else {
            panic!("{text:?}: {error}")
        };
        Some((error.line().unwrap(), character))
    }

    /// Attack: an author hides a document after a line break that only other programs recognize, so that neither the
    /// checks of this project nor reviewers who use its programs see the content that the cluster receives.
    #[test]
    fn refuses_line_breaks_that_only_other_parsers_know() {
        for (text, line) in [
            ("a: b # x^c: d\n", 1),
            ("#^c: d\na: b\n", 1),
            ("a: b\n# x^---^kind: Secret\n", 2),
            ("a: 'b' # x^c: d\n", 1),
            ("a: !!str # x^c: d\n  'b'\n", 1),
            ("a: b\nc: d^e: f\n", 2),
            ("a: |\n  b^c: d\n", 2),
            ("a: >-\n  b^c: d\n", 2),
            ("a^: b\n", 1),
            ("a: 'b^c' # d^e: f\n", 1),
            ("a: 'b^c'\nd: \"\\uf8ff\u{f8ff}\" # x^e: f\n", 2),
            ("%x \u{fc}\u{fc}\u{fc}\u{fc}\n---\n#^b\na: 'bcd'\n", 3),
            ("a: 'b ^c'\n", 1),
            ("a: \"b^ c\"\n", 1),
            ("a: \"b^^c\"\n", 1),
            ("a: 'b^\n\n  c'\n", 1),
            ("{\"a\": 1}\n---\nb: c^d: e\n", 3),
            ("{a: 'x'} # ^b: c\n", 1),
        ] {
            assert_eq!(problem(text), Some((line, 0x2028)), "{text:?}");
        }
        for text in ["a: b # x~c: d\n", "a: 'b~c'\n", "a: \"b~c\"\n"] {
            assert_eq!(problem(text), Some((1, 0x85)), "{text:?}");
        }
    }

    #[test]
    fn accepts_line_breaks_that_every_parser_reads_alike() {
        for text in [
            "a: 'b^c'\n",
            "a: \"^b\"\n",
            "a: \"b^\" # c\n",
            "'a^b': [\"c^d\"]\n",
            "a: \"\\N\\L\\P \\u2028\"\n",
            "{\"a\": \"b ^ c~d\"}\n",
        ] {
            assert_eq!(problem(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn accepts_no_break_outside_quotes(
            before in "[ab:#!|\\^ \\-\n]{0,20}",
            after in "[ab:#!|\\^ \\-\n]{0,20}",
        ) {
            let text = format!("{before}^{after}").replace('^', "\u{2028}");
            proptest::prop_assert!(read(text.as_bytes()).is_err());
        }
    }
}
