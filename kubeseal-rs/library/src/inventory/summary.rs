//! The numbers of objects by state, format and age of the newest key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Content, KeyTimes, Row, State};

/// The numbers of objects. Each position in a file counts as one object, and each object that is only in the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of objects.
    pub objects: usize,
    /// The number of files.
    pub files: usize,
    /// The number of objects by state; empty if no cluster was read.
    pub states: BTreeMap<State, usize>,
    /// The number of objects by format. An object with several formats counts for each.
    pub formats: BTreeMap<String, usize>,
    /// The number of objects by the age of the newest key whose age is known.
    pub key_ages: BTreeMap<AgeGroup, usize>,
}

/// A range of ages of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgeGroup {
    /// Less than 30 days.
    Month,
    /// From 30 to 89 days.
    Quarter,
    /// From 90 to 364 days.
    Year,
    /// 365 days or more.
    Older,
    /// No age is known.
    Unknown,
}

impl AgeGroup {
    /// Returns the name of the range in all outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Month => "under 30 days",
            Self::Quarter => "30 to 89 days",
            Self::Year => "90 to 364 days",
            Self::Older => "365 days or more",
            Self::Unknown => "unknown",
        }
    }

    fn of(since: Option<Timestamp>, now: Timestamp) -> Self {
        let Some(since) = since else {
            return Self::Unknown;
        };
        match now.duration_since(since).as_hours() / 24 {
            ..30 => Self::Month,
            30..90 => Self::Quarter,
            90..365 => Self::Year,
            365.. => Self::Older,
        }
    }
}

impl Summary {
    /// Counts the rows from [`super::join()`]. Rows with the same namespace and name count separately, because files of
    /// several clusters may contain different objects with one name.
    pub fn new(rows: &[Row], times: &KeyTimes, now: Timestamp) -> Self {
        let mut summary = Self::default();
        let paths = rows.iter().filter_map(|row| row.position.as_ref());
        let paths: BTreeSet<_> = paths.map(|position| &position.path).collect();
        summary.files = paths.len();
        for row in rows {
            summary.add_row(row, times, now);
        }
        summary
    }

    fn add_row(&mut self, row: &Row, times: &KeyTimes, now: Timestamp) {
        self.objects += 1;
        for format in row.content.iter().flat_map(|content| &content.formats) {
            *self.formats.entry(format.clone()).or_default() += 1;
        }
        if let Some(state) = row.state {
            *self.states.entry(state).or_default() += 1;
        }
        let newest = |content: &Content| times.newest(content);
        let group = AgeGroup::of(row.content.as_ref().and_then(newest), now);
        *self.key_ages.entry(group).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::join::join;
    use super::super::join::tests::file;
    use super::*;

    #[test]
    fn each_position_in_a_file_counts() {
        let mut files = vec![
            file("a.yaml", Some("shop"), "db"),
            file("b.yaml", Some("shop"), "db"),
            file("b.yaml", Some("shop"), "web"),
        ];
        files[1].content.formats.insert("v2 xw".to_owned());
        let rows = join(Some(files), None);
        let summary = Summary::new(&rows, &KeyTimes::default(), Timestamp::UNIX_EPOCH);
        assert_eq!((summary.objects, summary.files), (3, 2));
        assert!(summary.states.is_empty());
        let formats: Vec<_> = summary.formats.into_iter().collect();
        assert_eq!(
            formats,
            [("v1 2048".to_owned(), 3), ("v2 xw".to_owned(), 1)]
        );
        let ages: Vec<_> = summary.key_ages.into_iter().collect();
        assert_eq!(ages, [(AgeGroup::Unknown, 3)]);
    }

    #[test]
    fn ages_have_ranges() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        for (days, want) in [
            (-1, AgeGroup::Month),
            (29, AgeGroup::Month),
            (30, AgeGroup::Quarter),
            (90, AgeGroup::Year),
            (365, AgeGroup::Older),
        ] {
            let since = now
                .checked_sub(SignedDuration::from_hours(24 * days))
                .unwrap();
            assert_eq!(AgeGroup::of(Some(since), now), want, "{days}");
        }
    }
}
