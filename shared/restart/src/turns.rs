//! Schedules the work of namespaces round-robin, so that no namespace delays the others for long.

use std::collections::BTreeSet;

/// The work that a namespace can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Determine when to check workloads that changed, or whose Secrets changed.
    Schedule,
    /// Compare a pattern with names of Secrets.
    Match,
    /// Decide about the workloads that are due.
    Consider,
    /// Find the Pods to refresh.
    Refresh,
}

/// Chooses the namespace and the kind of work for the next turn, round-robin.
#[derive(Debug, Default)]
pub struct Turns {
    /// The last turn: the namespace and the kind of work.
    last: Option<(String, Work)>,
}

impl Turns {
    /// Returns the turn in `due` that follows the last turn, in the order of namespaces and kinds of work; the first
    /// turn in `due` if none follows.
    pub fn next(&mut self, due: &BTreeSet<(&str, Work)>) -> Option<(String, Work)> {
        let last = self.last.as_ref();
        let last = last.map(|(namespace, work)| (namespace.as_str(), *work));
        let mut later = due.iter().filter(|turn| Some(**turn) > last);
        let (namespace, work) = later.next().or_else(|| due.first())?;
        let turn = ((*namespace).to_owned(), *work);
        self.last = Some(turn.clone());
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a tenant has work of every kind at all times, so that the work of other tenants waits.
    #[test]
    fn a_busy_namespace_delays_another_by_at_most_one_turn_of_each_kind() {
        let all = [Work::Schedule, Work::Match, Work::Consider, Work::Refresh];
        let busy = all.map(|work| ("busy", work));
        for other in ["another", "quiet"] {
            for work in all {
                let mut turns = Turns::default();
                for _ in 0..7 {
                    turns.next(&BTreeSet::from(busy));
                }
                let mut due = BTreeSet::from(busy);
                due.insert((other, work));
                let waits = (0..).take_while(|_| turns.next(&due) != Some((other.into(), work)));
                assert!(waits.count() <= busy.len(), "{other} {work:?}");
            }
        }
    }

    #[test]
    fn every_namespace_and_kind_of_work_gets_a_turn() {
        let mut turns = Turns::default();
        let due = BTreeSet::from([
            ("a", Work::Refresh),
            ("a", Work::Consider),
            ("b", Work::Match),
        ]);
        let got: Vec<_> = (0..4).filter_map(|_| turns.next(&due)).collect();
        let want = [
            ("a", Work::Consider),
            ("a", Work::Refresh),
            ("b", Work::Match),
            ("a", Work::Consider),
        ];
        assert_eq!(
            got,
            want.map(|(namespace, work)| (namespace.to_owned(), work))
        );
        assert_eq!(turns.next(&BTreeSet::new()), None);
    }
}
