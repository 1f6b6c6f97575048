//! The log line in which `agent` and `exec` report the content that an application receives.
//!
//! A Pod's account may not change the Pod, so the log is the only place where a program can report without further
//! permissions. Versions are public: the status of the SealedSecret contains them too.
//!
//! The application of `exec` and the commands that `agent` runs after a change write to the same log, and can imitate a
//! report. An imitation is only a false statement about the container that wrote it.

use crate::response::DeliveredObject;

/// The maximum length of a version; versions from the controller have 22 characters.
const MAX_VERSION: usize = 64;

/// Returns the log line about these objects. `outcome` describes what the program did with their values.
pub fn line(objects: &[DeliveredObject], outcome: &str) -> String {
    let objects = objects.iter().map(|object| {
        let DeliveredObject {
            name,
            generation,
            version,
        } = object;
        format!("{name} (generation {generation}, version {version})")
    });
    format!("{}: {outcome}", objects.collect::<Vec<_>>().join(", "))
}

/// Returns the objects of the newest report in a log; `None` if the log has no report. The report is not reliable:
/// commands that the reporting program starts write to the same log and can imitate a report.
pub fn newest(log: &str) -> Option<Vec<DeliveredObject>> {
    log.lines().rev().find_map(objects)
}

/// Returns the objects of the first report in a log; `None` if the log has no report. In a complete log of a program that
/// reports once, before it starts the application, this is the report of the program. In the rest of a rotated log, the
/// application may have written it.
pub fn first(log: &str) -> Option<Vec<DeliveredObject>> {
    log.lines().find_map(objects)
}

fn objects(line: &str) -> Option<Vec<DeliveredObject>> {
    let (objects, _) = line.split_once("): ")?;
    objects.split("), ").map(object).collect()
}

fn object(text: &str) -> Option<DeliveredObject> {
    let (name, rest) = text.split_once(" (generation ")?;
    let (generation, version) = rest.split_once(", version ")?;
    let is_version = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let has_version = (1..=MAX_VERSION).contains(&version.len()) && version.bytes().all(is_version);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let has_name = !name.is_empty() && name.bytes().all(is_name);
    (has_name && has_version).then_some(DeliveredObject {
        name: name.to_owned(),
        generation: generation.parse().ok()?,
        version: version.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delivered(name: &str, generation: i64, version: &str) -> DeliveredObject {
        DeliveredObject {
            name: name.to_owned(),
            generation,
            version: version.to_owned(),
        }
    }

    #[test]
    fn the_newest_report_counts() {
        let log = "db (generation 1, version v1): wrote the files\nno refresh, the last values stay: connection refused\n\
                   db (generation 2, version v-2_), web.tls (generation 1, version w): replaced the files\n\
                   the controller delivers again\n";
        let want = vec![delivered("db", 2, "v-2_"), delivered("web.tls", 1, "w")];
        assert_eq!(newest(log), Some(want));
        assert!(log.contains(&line(&[delivered("db", 1, "v1")], "wrote the files")));
    }

    /// Attack: an application writes a line in the form of a report after the report of the program that started it. In a
    /// rotated log, its line would be the first one.
    #[test]
    fn a_report_of_the_application_is_not_the_first_one() {
        let log = "waiting for values: no permission\ndb (generation 1, version v1): starting the command\n\
                   db (generation 2, version v2): starting the command\n";
        assert_eq!(first(log), Some(vec![delivered("db", 1, "v1")]));
        assert_eq!(first("waiting for values: no permission\n"), None);
    }

    #[test]
    fn other_lines_are_no_report() {
        let long = format!("db (generation 1, version {}): x", "v".repeat(65));
        for text in [
            "",
            "db: wrote the files",
            "db (generation 1): wrote the files",
            "db (generation one, version v): x",
            "db (generation 1, version ): x",
            "db (generation 1, version a b): x",
            "cannot write db (generation 1, version v): x",
            "db (generation 1, version v), web: x",
            &long,
        ] {
            assert_eq!((newest(text), first(text)), (None, None), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_report_is_read_as_it_was_written(
            objects in prop::collection::vec(("[a-z0-9]([-.a-z0-9]{0,6}[a-z0-9])?", any::<i64>(), "[-_A-Za-z0-9]{1,22}"), 1..4),
            outcome in "[ -~]{0,20}",
        ) {
            let objects: Vec<_> = objects.iter().map(|(name, generation, version)| delivered(name, *generation, version)).collect();
            let line = line(&objects, &outcome);
            prop_assert_eq!(first(&line), newest(&line));
            prop_assert_eq!(newest(&line), Some(objects));
        }

        #[test]
        fn no_log_panics(log in "(db|[(): ,]|generation 1|version v|\\PC){0,12}") {
            let _ = newest(&log);
        }
    }
}
