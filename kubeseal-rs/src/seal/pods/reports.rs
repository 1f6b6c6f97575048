//! Reads the reports of programs from the logs of their containers. A report proves nothing: the commands that these
//! programs start write to the same log, and can imitate one.

use deliver::{DeliveredObject, report};
use kubeseal_library::cluster::{ApiPath, ClusterError, Objects};
use restart::delivered::{Content, Receiver, Report};
use restart::survey;

/// The number of lines at the end of a log that are searched for the newest report. An agent writes few lines.
const LAST_LINES: &str = "500";
/// The maximum size of the end of a log, in bytes. Any container can print long lines.
const LAST_BYTES: Limit = Limit {
    bytes: 1_048_576,
    text: "1048576",
};
/// The size of the beginning of a log that is searched for the first report, in bytes. Before this report, `seal exec`
/// writes only why it waits. Once the kubelet has rotated the log, its beginning is output of the application.
const FIRST_BYTES: Limit = Limit {
    bytes: 262_144,
    text: "262144",
};

/// The maximum size of a response, as a number and as a parameter of a request.
#[derive(Debug, Clone, Copy)]
struct Limit {
    bytes: usize,
    text: &'static str,
}

/// Which part of a log is read, and which report in it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The beginning. The first report counts: unless the log was rotated, `seal exec` wrote it, and the application the
    /// lines after it.
    Beginning,
    /// The end. The newest report counts, whether the program or a command that it has started wrote it.
    End,
}

impl Part {
    fn of(receiver: &Receiver) -> Self {
        if receiver.program.reports_once() {
            Self::Beginning
        } else {
            Self::End
        }
    }

    /// Appends the parameters of the request to the path of a log.
    fn select(self, log: &ApiPath) -> ApiPath {
        match self {
            Self::Beginning => log.parameter("limitBytes", FIRST_BYTES.text),
            Self::End => {
                let log = log.parameter("tailLines", LAST_LINES);
                log.parameter("limitBytes", LAST_BYTES.text)
            }
        }
    }

    /// Returns the report in this part of a log. The API server omits the last lines if the end of a log is too large,
    /// so the newest report in the response may be outdated.
    fn report(self, log: &[u8]) -> Report {
        let text = String::from_utf8_lossy(log);
        let objects = match self {
            Self::Beginning => report::first(&text),
            Self::End if log.len() >= LAST_BYTES.bytes => None,
            Self::End => report::newest(&text),
        };
        objects.map_or(Report::Missing, contents)
    }
}

fn contents(objects: Vec<DeliveredObject>) -> Report {
    let content = |object: DeliveredObject| {
        let content = Content {
            version: object.version,
            generation: Some(object.generation),
        };
        (object.name, content)
    };
    Report::Content(objects.into_iter().map(content).collect())
}

/// Reads the reports of all programs that write them. A log that cannot be read is not an error.
///
/// # Errors
///
/// Fails at the time limit of `objects`.
pub(super) fn read(objects: &Objects, listed: &mut survey::Objects) -> Result<(), ClusterError> {
    for ((namespace, pod), receivers) in &mut listed.receivers {
        let reporting = receivers
            .iter_mut()
            .filter(|receiver| receiver.program.reports());
        for receiver in reporting {
            receiver.report = read_report(objects, namespace, pod, receiver)?;
        }
    }
    Ok(())
}

fn read_report(
    objects: &Objects,
    namespace: &str,
    pod: &str,
    receiver: &Receiver,
) -> Result<Report, ClusterError> {
    let Some(log) = log_path(namespace, pod, receiver) else {
        return Ok(Report::Unreadable);
    };
    let part = Part::of(receiver);
    match objects.get_raw(&part.select(&log)) {
        Ok((200, log)) => Ok(part.report(&log)),
        Err(ClusterError::TimeLimit) => Err(ClusterError::TimeLimit),
        Ok(_) | Err(_) => Ok(Report::Unreadable),
    }
}

/// Returns the path of the log of a receiver; `None` if a name is not valid.
fn log_path(namespace: &str, pod: &str, receiver: &Receiver) -> Option<ApiPath> {
    let pods = ApiPath::namespaced("/api/v1", namespace, "pods").ok()?;
    pods.object(pod).ok()?.log_of(&receiver.container).ok()
}

#[cfg(test)]
mod tests {
    use restart::delivered::Program;

    use super::*;

    const OLD: &str = "db (generation 1, version a): starting the command\n";
    const NEW: &str = "db (generation 2, version b): starting the command\n";

    fn version(report: &Report) -> Option<&str> {
        Some(report.contents()?.get("db")?.version.as_str())
    }

    #[test]
    fn a_program_that_reports_once_is_read_from_the_beginning_of_its_log() {
        for (program, want) in [
            (Program::Exec, Part::Beginning),
            (Program::ExecOnChange, Part::End),
            (Program::Agent, Part::End),
            (Program::AgentOnce, Part::End),
        ] {
            let receiver = Receiver {
                container: "app".into(),
                program,
                objects: None,
                report: Report::Unreadable,
            };
            assert_eq!(Part::of(&receiver), want, "{program:?}");
        }
    }

    /// Attack: an application writes a line in the form of a report, to hide that it has an earlier value. Only the first
    /// report of a log that was not rotated resists this.
    #[test]
    fn a_line_of_the_application_does_not_replace_a_single_report() {
        let log = format!("waiting for values: no permission\n{OLD}{NEW}");
        assert_eq!(version(&Part::Beginning.report(log.as_bytes())), Some("a"));
        assert_eq!(version(&Part::End.report(log.as_bytes())), Some("b"));
    }

    #[test]
    fn a_log_without_a_report_has_none() {
        let waiting = b"waiting for values: the SealedSecret db has no item nosuch\n\xff\n";
        for part in [Part::Beginning, Part::End] {
            assert_eq!(part.report(waiting), Report::Missing, "{part:?}");
            assert_eq!(part.report(b""), Report::Missing, "{part:?}");
        }
    }

    /// Fault: the application writes long lines, so the response ends before the newest report.
    #[test]
    fn an_incomplete_end_of_a_log_has_no_newest_report() {
        let lines = |size: usize| [OLD.as_bytes(), &vec![b'x'; size - OLD.len()]].concat();
        assert_eq!(Part::End.report(&lines(LAST_BYTES.bytes)), Report::Missing);
        let complete = Part::End.report(&lines(LAST_BYTES.bytes - 1));
        assert_eq!(version(&complete), Some("a"));
        let beginning = Part::Beginning.report(&lines(FIRST_BYTES.bytes));
        assert_eq!(version(&beginning), Some("a"));
    }

    #[test]
    fn requests_and_checks_have_the_same_limits() {
        for limit in [FIRST_BYTES, LAST_BYTES] {
            assert_eq!(limit.text, limit.bytes.to_string());
        }
    }
}
