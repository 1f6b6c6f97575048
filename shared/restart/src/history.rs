//! The content versions of a Secret, from the status of its SealedSecret.
//!
//! The controller records the latest versions, newest first. A version is a keyed digest, so the same content has a
//! different version under a different key; two entries with the same generation and different keys have the same
//! content. The oldest entry does not prove a change: a controller that begins to record versions finds content that
//! may be older.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;

/// The maximum number of entries that are read; the controller writes five.
const MAX_ENTRIES: usize = 16;

/// Maximum length of a version and of the identifier of a key. The controller writes 22 and 8 characters.
const MAX_LENGTH: usize = 64;

/// An entry of `status.versions`: a content of the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The content version of the whole Secret.
    pub version: Box<str>,
    /// Identifies the key with which the version was calculated.
    pub key_id: Box<str>,
    /// The generation of the SealedSecret that first had this content.
    pub generation: i64,
    /// The time at which the Secret got this content, rounded up to a whole second.
    pub time: Timestamp,
}

impl Entry {
    fn from_json(entry: &Json) -> Option<Self> {
        let text = |name: &str| {
            let text = entry[name].as_str();
            text.filter(|text| text.len() <= MAX_LENGTH)
        };
        Some(Self {
            version: text("version")?.into(),
            key_id: text("keyId")?.into(),
            generation: entry["generation"].as_i64()?,
            time: entry["time"].as_str()?.parse().ok()?,
        })
    }

    /// Returns whether this entry has the same content as the next older entry.
    fn has_content_of(&self, older: &Self) -> bool {
        let is_rekeyed = self.generation == older.generation && self.key_id != older.key_id;
        let is_equal = self.version == older.version && self.key_id == older.key_id;
        is_rekeyed || is_equal
    }
}

/// The content versions of one Secret, newest first. Empty if unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(Vec<Entry>);

/// Which content of a Secret a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The newest content.
    Current,
    /// Earlier content, which was replaced at this time.
    Stale(Timestamp),
    /// Unknown, for example because the status does not record enough versions.
    Unknown,
}

impl History {
    /// Reads the versions from a SealedSecret, up to the first malformed entry.
    pub fn from_sealed_secret(object: &Json) -> Self {
        let entries = object["status"]["versions"].as_array();
        let entries = entries.map(Vec::as_slice).unwrap_or_default();
        let readable = entries.iter().take(MAX_ENTRIES).map_while(Entry::from_json);
        Self(readable.collect())
    }

    /// Returns the entry that represents the newest content: the oldest of the newest consecutive entries with this
    /// content, so that a new version key does not change the result.
    pub fn newest(&self) -> Option<&Entry> {
        self.0.get(self.newest_run().end.checked_sub(1)?)
    }

    /// Returns when the content last changed, as far as known.
    pub fn changed_at(&self) -> Option<Timestamp> {
        let is_change = self.newest_run().end < self.0.len();
        is_change.then(|| self.newest().map(|entry| entry.time))?
    }

    /// Returns when the content first changed after `time`, as far as known.
    pub fn first_change_after(&self, time: Timestamp) -> Option<Timestamp> {
        let changes = self
            .0
            .windows(2)
            .filter(|pair| !pair[0].has_content_of(&pair[1]));
        changes
            .map(|pair| pair[0].time)
            .rfind(|change| *change > time)
    }

    /// Returns whether a container that read the Secret when it started has the newest content. `start` is its start
    /// time, rounded down to a second.
    pub fn state_at(&self, start: Timestamp) -> State {
        let Some(newest) = self.newest() else {
            return State::Unknown;
        };
        if start >= newest.time {
            return State::Current;
        }
        let Some(changed_at) = self.changed_at() else {
            return State::Unknown;
        };
        let possible_entries = self.possible_entries(start);
        if possible_entries.is_empty() {
            // The container started before the oldest version, but the content has changed since.
            return State::Stale(self.first_change_after(start).unwrap_or(changed_at));
        }
        if self.0[possible_entries.clone()]
            .iter()
            .all(|entry| self.has_newest_content(entry))
        {
            return State::Current;
        }
        State::Stale(self.first_change_after(start).unwrap_or(changed_at))
    }

    /// Returns whether the content with this version is the newest, and its generation, as far as known.
    /// `is_recorded` is whether the newest content is recorded: if it is, a version without an entry belongs to earlier
    /// content.
    pub fn state_of(&self, version: &str, is_recorded: bool) -> (State, Option<i64>) {
        let has_version = |entry: &Entry| &*entry.version == version;
        let newest_run = &self.0[self.newest_run()];
        if newest_run.iter().any(has_version) {
            return (State::Current, self.newest().map(|entry| entry.generation));
        }
        match self.0.iter().position(has_version) {
            Some(index) => {
                let state = self.replaced_at(index).map_or(State::Unknown, State::Stale);
                (state, Some(self.0[index].generation))
            }
            None if is_recorded => (self.before_every_entry(), None),
            None => (State::Unknown, None),
        }
    }

    /// Returns when the content of an entry was replaced.
    fn replaced_at(&self, index: usize) -> Option<Timestamp> {
        let newer = self.0[..=index].windows(2);
        let mut changes = newer.filter(|pair| !pair[0].has_content_of(&pair[1]));
        changes.next_back().map(|pair| pair[0].time)
    }

    /// Returns the state of content that no entry has: the first recorded change replaced it at the latest or, without
    /// a recorded change, the newest content did.
    fn before_every_entry(&self) -> State {
        let first_change = self.first_change_after(Timestamp::MIN);
        let oldest = || self.newest().map(|entry| entry.time);
        first_change
            .or_else(oldest)
            .map_or(State::Unknown, State::Stale)
    }

    /// Returns the entry with the content of a container that started at `start`, if it is known.
    pub fn entry_at(&self, start: Timestamp) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.time <= start)
    }

    /// Returns the indexes of the entries whose content a container that started at `start` may have. Several are
    /// possible for one second, since start times are rounded down and version times up.
    fn possible_entries(&self, start: Timestamp) -> Range<usize> {
        let second = SignedDuration::from_secs(1);
        let latest = start.checked_add(second).unwrap_or(start);
        let first = self.0.iter().position(|entry| entry.time <= latest);
        let last = self.0.iter().position(|entry| entry.time <= start);
        match (first, last) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        }
    }

    /// Returns whether an entry has the newest content: it has the same version and key as an entry of the newest run.
    fn has_newest_content(&self, entry: &Entry) -> bool {
        self.0[self.newest_run()]
            .iter()
            .any(|newest| newest.version == entry.version && newest.key_id == entry.key_id)
    }

    /// Returns the indexes of the newest consecutive entries that have the same content.
    fn newest_run(&self) -> Range<usize> {
        let changes = self
            .0
            .windows(2)
            .take_while(|pair| pair[0].has_content_of(&pair[1]));
        let end = if self.0.is_empty() {
            0
        } else {
            changes.count() + 1
        };
        0..end
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Returns a history of entries: version, key, generation, second; newest first.
    pub(crate) fn history(entries: &[(&str, &str, i64, i64)]) -> History {
        let versions: Vec<Json> = entries
            .iter()
            .map(|(version, key, generation, time)| {
                json!({ "version": version, "keyId": key, "generation": generation, "time": second(*time).to_string() })
            })
            .collect();
        History::from_sealed_secret(&json!({ "status": { "versions": versions } }))
    }

    const CURRENT: State = State::Current;
    const UNKNOWN: State = State::Unknown;

    fn stale_since(time: i64) -> State {
        State::Stale(second(time))
    }

    #[test]
    fn a_container_has_the_content_of_the_time_it_started() {
        let changed = [("b", "1", 2, 20), ("a", "1", 1, 10)];
        let rekeyed = [("x", "2", 1, 20), ("a", "1", 1, 10)];
        let rekeyed_after_change = [("y", "2", 2, 30), ("b", "1", 2, 20), ("a", "1", 1, 10)];
        let both_at_once = [("y", "2", 2, 20), ("a", "1", 1, 10)];
        let twice = [("c", "1", 3, 30), ("b", "1", 2, 20), ("a", "1", 1, 10)];
        for (why, history, start, want) in [
            ("no versions", &[][..], 10, UNKNOWN),
            ("first version, later", &changed[1..], 10, CURRENT),
            ("first version, earlier", &changed[1..], 9, UNKNOWN),
            ("after the change", &changed, 20, CURRENT),
            ("before the change", &changed, 18, stale_since(20)),
            ("in the second of the change", &changed, 19, stale_since(20)),
            ("before every version", &changed, 5, stale_since(20)),
            ("another key", &rekeyed, 12, CURRENT),
            ("another key, before every version", &rekeyed, 5, UNKNOWN),
            (
                "another key after a change",
                &rekeyed_after_change,
                20,
                CURRENT,
            ),
            (
                "before that change",
                &rekeyed_after_change,
                15,
                stale_since(20),
            ),
            (
                "another key together with a change",
                &both_at_once,
                15,
                stale_since(20),
            ),
            ("two changes", &twice, 12, stale_since(20)),
            ("one of two changes", &twice, 22, stale_since(30)),
        ] {
            assert_eq!(
                self::history(history).state_at(second(start)),
                want,
                "{why}"
            );
        }
    }

    #[test]
    fn a_version_shows_the_content_of_a_container() {
        let changed = [("b", "1", 2, 20), ("a", "1", 1, 10)];
        let rekeyed = [("x", "2", 2, 30), ("b", "1", 2, 20), ("a", "1", 1, 10)];
        let rekeyed_before = [("c", "2", 3, 40), ("x", "2", 2, 30), ("b", "1", 2, 20)];
        let restored = [("a", "1", 3, 30), ("b", "1", 2, 20), ("a", "1", 1, 10)];
        for (why, history, version, is_recorded, want, generation) in [
            (
                "the newest version",
                &changed[..],
                "b",
                true,
                CURRENT,
                Some(2),
            ),
            (
                "an earlier version",
                &changed,
                "a",
                true,
                stale_since(20),
                Some(1),
            ),
            (
                "a version that is no longer recorded",
                &changed,
                "z",
                true,
                stale_since(20),
                None,
            ),
            (
                "a version that is not yet recorded",
                &changed,
                "z",
                false,
                UNKNOWN,
                None,
            ),
            (
                "the newest under a former key",
                &rekeyed,
                "b",
                true,
                CURRENT,
                Some(2),
            ),
            (
                "the newest under a new key",
                &rekeyed,
                "x",
                true,
                CURRENT,
                Some(2),
            ),
            (
                "an earlier version under a former key",
                &rekeyed_before,
                "b",
                true,
                stale_since(40),
                Some(2),
            ),
            ("restored content", &restored, "a", true, CURRENT, Some(3)),
            (
                "content before restored content",
                &restored,
                "b",
                true,
                stale_since(30),
                Some(2),
            ),
            (
                "the content of a deleted object",
                &changed[..1],
                "z",
                true,
                stale_since(20),
                None,
            ),
            ("no recorded version", &[], "a", true, UNKNOWN, None),
        ] {
            let state = self::history(history).state_of(version, is_recorded);
            assert_eq!(state, (want, generation), "{why}");
        }
    }

    #[test]
    fn restored_content_is_current() {
        let restored = history(&[("a", "1", 3, 30), ("b", "1", 2, 20), ("a", "1", 1, 10)]);
        for (start, want) in [
            (12, CURRENT),
            (18, CURRENT),
            (19, stale_since(20)),
            (22, stale_since(30)),
            (29, stale_since(30)),
            (30, CURRENT),
        ] {
            assert_eq!(restored.state_at(second(start)), want, "{start}");
        }
    }

    #[test]
    fn the_newest_entry_does_not_depend_on_the_key() {
        let entries = [("x", "2", 2, 30), ("b", "1", 2, 20), ("a", "1", 1, 10)];
        let rekeyed = history(&entries);
        let before = history(&entries[1..]);
        assert_eq!(rekeyed.newest(), before.newest());
        assert_eq!(rekeyed.changed_at(), Some(second(20)));
        assert_eq!(history(&entries[2..]).changed_at(), None);
        assert_eq!(history(&[]).newest(), None);
    }

    #[test]
    fn finds_the_first_change_after_a_time() {
        let entries = [
            ("c", "1", 3, 30),
            ("x", "2", 2, 25),
            ("b", "1", 2, 20),
            ("a", "1", 1, 10),
        ];
        let history = history(&entries);
        for (time, want) in [(5, Some(20)), (19, Some(20)), (20, Some(30)), (30, None)] {
            assert_eq!(
                history.first_change_after(second(time)),
                want.map(second),
                "{time}"
            );
        }
    }

    #[test]
    fn unreadable_entries_end_the_history() {
        let entry = |version: &str| json!({ "version": version, "keyId": "1", "generation": 1, "time": "1970-01-01T00:00:09Z" });
        for (versions, want) in [
            (json!(null), 0),
            (json!("x"), 0),
            (json!([entry("a"), entry("b")]), 2),
            (json!([entry("a"), { "version": "b" }, entry("c")]), 1),
            (json!([{ "time": "soon" }]), 0),
        ] {
            let object = json!({ "status": { "versions": versions } });
            assert_eq!(
                History::from_sealed_secret(&object).0.len(),
                want,
                "{object}"
            );
        }
        assert_eq!(
            History::from_sealed_secret(&json!({ "status": 5 })),
            History::default()
        );
    }
}
