//! Go's regular expressions (RE2) on the `regex` crate, which also searches in linear time. Translates the
//! syntax where the two differ; bytes that are not UTF-8 match like U+FFFD, as in Go.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use crate::budget::Gauge;
use crate::error::Fault;
use crate::runes;

mod class;
mod translate;
mod weight;

use weight::Weight;

/// Size limit of a compiled expression, which bounds the compile time; Go's own limit is larger.
const MAX_COMPILED_BYTES: usize = 4 << 20;

/// Size limit of the states that a search caches.
const MAX_CACHE_BYTES: usize = 1 << 19;

/// A compiled expression and the names of its groups.
pub(crate) struct Pattern {
    regex: Regex,
    names: Vec<(String, usize)>,
    weight: Weight,
}

/// Start and end of a match and of its groups, as byte offsets into the subject.
pub(crate) type Groups = Vec<Option<(usize, usize)>>;

impl Pattern {
    pub(crate) fn new(source: &[u8], gauge: &mut Gauge) -> Result<Self, Fault> {
        let invalid = Fault::failed("invalid regular expression");
        let source = std::str::from_utf8(source).map_err(|_| invalid)?;
        gauge.charge_steps(1000 + 20 * source.len())?;
        let translated = translate::translate(source).ok_or(invalid)?;
        gauge.charge_steps(weight::parsing_steps(&translated.text))?;
        let hir = regex_syntax::parse(&translated.text).map_err(|_| invalid)?;
        let weight = Weight::estimate(&hir);
        let groups = hir.properties().explicit_captures_len();
        gauge.charge_steps(weight.states / 4)?;
        // Two automata are compiled; one of the engines also stores a slot for each group in each state.
        gauge.charge_memory(weight.states.saturating_mul(64 + 16 * groups))?;
        let regex = RegexBuilder::new(&translated.text)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_CACHE_BYTES)
            .build()
            .map_err(|_| {
                Fault::failed(
                    "invalid regular expression, or one that is larger than 4 MiB when compiled",
                )
            })?;
        Ok(Self {
            regex,
            names: translated.names,
            weight,
        })
    }

    /// Returns the steps for searching this many bytes: in the worst case each byte touches each state.
    fn cost(&self, len: usize) -> usize {
        (1 + len / 64).saturating_mul(1 + self.weight.threads / 4)
    }

    /// Returns the steps for continuing after a match, with this many bytes remaining.
    fn cost_to_continue(&self, remaining: usize) -> usize {
        if self.weight.can_read_beyond {
            // Usual expressions have a few threads, and take a nanosecond per byte.
            (1 + remaining / 256).saturating_mul(1 + self.weight.threads / 16)
        } else {
            1
        }
    }

    pub(crate) fn is_match(&self, text: &[u8], gauge: &mut Gauge) -> Result<bool, Fault> {
        gauge.charge_steps(self.cost(text.len()))?;
        Ok(self.regex.is_match(&Subject::new(text).text))
    }

    /// Returns the numbers of the groups with this name; several groups may share a name.
    pub(crate) fn groups<'p>(&'p self, name: &'p str) -> impl Iterator<Item = usize> + 'p {
        self.names
            .iter()
            .filter(move |(group, _)| group == name)
            .map(|&(_, at)| at)
    }

    /// Returns the first matches, at most `max_matches`, without their groups.
    pub(crate) fn find_all(
        &self,
        text: &[u8],
        max_matches: usize,
        gauge: &mut Gauge,
    ) -> Result<Vec<(usize, usize)>, Fault> {
        gauge.charge_steps(self.cost(text.len()))?;
        let subject = Subject::new(text);
        let mut matches = Vec::new();
        for one_match in self.regex.find_iter(&subject.text).take(max_matches) {
            matches.push(subject.original_range(one_match.start(), one_match.end()));
            gauge.charge_steps(self.cost_to_continue(subject.text.len() - one_match.end()))?;
        }
        Ok(matches)
    }

    /// Passes all matches with their groups to `visit`, one by one, so that `visit` can stop when the budget is
    /// exhausted.
    pub(crate) fn for_each_match(
        &self,
        text: &[u8],
        gauge: &mut Gauge,
        mut visit: impl FnMut(&Groups, &mut Gauge) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let factor = 1 + self.regex.captures_len() / 8;
        gauge.charge_steps(self.cost(text.len()).saturating_mul(factor))?;
        let subject = Subject::new(text);
        let mut groups = Groups::new();
        for one_match in self.regex.captures_iter(&subject.text) {
            groups.clear();
            let to_range =
                |group: regex::Match<'_>| subject.original_range(group.start(), group.end());
            groups.extend(one_match.iter().map(|group| group.map(to_range)));
            visit(&groups, gauge)?;
            let end = one_match.get_match().end();
            gauge.charge_steps(self.cost_to_continue(subject.text.len() - end))?;
        }
        Ok(())
    }
}

/// The string to search, with a mapping back to the original bytes.
struct Subject<'t> {
    text: Cow<'t, str>,
    /// Offsets in `text` and in the original, after each replaced byte.
    shifts: Vec<(usize, usize)>,
}

impl<'t> Subject<'t> {
    fn new(bytes: &'t [u8]) -> Self {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Self {
                text: Cow::Borrowed(text),
                shifts: Vec::new(),
            };
        }
        let mut text = String::with_capacity(bytes.len());
        let mut shifts = Vec::new();
        for (at, char, width) in runes::char_indices(bytes) {
            text.push(char);
            if char == runes::REPLACEMENT && width == 1 {
                shifts.push((text.len(), at + 1));
            }
        }
        Self {
            text: Cow::Owned(text),
            shifts,
        }
    }

    fn original_range(&self, start: usize, end: usize) -> (usize, usize) {
        (self.original_offset(start), self.original_offset(end))
    }

    fn original_offset(&self, at: usize) -> usize {
        match self.shifts.partition_point(|&(after, _)| after <= at) {
            0 => at,
            count => {
                let (after, original) = self.shifts[count - 1];
                original + (at - after)
            }
        }
    }
}
