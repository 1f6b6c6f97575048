//! Where our engine and Go's differ on purpose: the whole list.

use super::peer::Verdict;

/// A template that contains all the texts may differ, for the reason given.
pub(crate) struct Deviation {
    pub(crate) texts: &'static [&'static str],
    /// Ours refuses what Go renders; any other difference still counts.
    pub(crate) refused: bool,
    pub(crate) reason: &'static str,
}

pub(crate) const DEVIATIONS: &[Deviation] = &[
    Deviation {
        texts: &["slice"],
        refused: true,
        reason: "Go's slice reaches past the end of a list into memory that growing it left spare; ours refuses",
    },
    Deviation {
        texts: &["printf", "toDate"],
        refused: false,
        reason: "number verbs on a time show Go's internal fields; ours shows seconds and nanoseconds since 1970",
    },
];

/// The reason why this template may differ.
pub(crate) fn reason(template: &str, ours: &Verdict) -> Option<&'static str> {
    let refuses = matches!(ours, Verdict::RenderError(_) | Verdict::ParseError);
    let fits = |deviation: &&Deviation| {
        deviation.texts.iter().all(|text| template.contains(text))
            && (refuses || !deviation.refused)
    };
    DEVIATIONS
        .iter()
        .find(fits)
        .map(|deviation| deviation.reason)
}
