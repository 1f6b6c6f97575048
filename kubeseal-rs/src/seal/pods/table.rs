//! The table of `seal pods`.

use jiff::Timestamp;
use restart::survey::{Remedy, Row, Verdict};

use crate::seal::table::table;

/// Formats the rows as a table, or returns a message if there are none.
pub(super) fn text(rows: &[Row], has_namespaces: bool, now: Timestamp) -> String {
    if rows.is_empty() {
        return "no Pod consumes a SealedSecret\n".to_owned();
    }
    let mut head = vec![
        "SECRET",
        "WORKLOAD",
        "POD",
        "CONTAINER",
        "CONSUMES",
        "GENERATION",
        "STATE",
        "SINCE",
        "REFRESHED BY",
    ];
    if has_namespaces {
        head.insert(0, "NAMESPACE");
    }
    let head: Vec<String> = head.into_iter().map(str::to_owned).collect();
    let lines = rows.iter().map(|row| columns(row, has_namespaces, now));
    table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
}

fn columns(row: &Row, has_namespaces: bool, now: Timestamp) -> Vec<String> {
    let none = || "-".to_owned();
    let since = match row.verdict {
        Verdict::Stale(time) => age(time, now),
        Verdict::Current | Verdict::Unknown(_) | Verdict::NotStarted => none(),
    };
    let workload = row.workload.as_ref();
    let mut columns = vec![
        source(row),
        workload.map_or_else(none, |id| format!("{}/{}", id.kind.name(), id.name)),
        row.pod.clone(),
        row.container.clone(),
        row.way.name().to_owned(),
        row.generation
            .map_or_else(none, |generation| generation.to_string()),
        state(row.verdict),
        since,
        row.remedy
            .map_or_else(none, |remedy| refreshed_by(remedy).to_owned()),
    ];
    if has_namespaces {
        columns.insert(0, row.namespace.clone());
    }
    columns
}

/// Returns how a container gets the newest content. Differs from the JSON output for a restart by a user, which must not
/// be mistaken for `seal restart`.
fn refreshed_by(remedy: Remedy) -> &'static str {
    if remedy == Remedy::Restart {
        return "manual restart";
    }
    remedy.text()
}

/// Returns the name of the SealedSecret, or of the class if the SealedSecret is not known; `?` if neither is known.
pub(super) fn source(row: &Row) -> String {
    match (&row.secret, &row.class) {
        (Some(name), _) => name.clone(),
        (None, Some(class)) => format!("SecretProviderClass/{class}"),
        (None, None) => "?".to_owned(),
    }
}

fn state(verdict: Verdict) -> String {
    match verdict {
        Verdict::Unknown(reason) => format!("unknown: {}", reason.text()),
        Verdict::Current | Verdict::Stale(_) | Verdict::NotStarted => verdict.name().to_owned(),
    }
}

/// Formats an age in the largest unit of which it has at least two; an age below two minutes is in seconds.
fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use restart::consumption::Delivery;
    use restart::delivered::Program;
    use restart::survey::{Reason, Way};
    use restart::workload::{Id, Kind};

    use super::*;

    #[test]
    fn aligns_the_columns() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let row = Row {
            namespace: "shop".into(),
            secret: Some("db".into()),
            class: None,
            workload: Some(Id {
                namespace: "shop".into(),
                kind: Kind::Deployment,
                name: "web".into(),
            }),
            pod: "web-1".into(),
            container: "app".into(),
            way: Way::Kubelet(Delivery::Env),
            generation: Some(3),
            verdict: Verdict::Stale(second(100)),
            remedy: Some(Remedy::Restart),
        };
        let current = Row {
            workload: None,
            way: Way::Kubelet(Delivery::Volume),
            verdict: Verdict::Current,
            remedy: None,
            generation: None,
            ..row.clone()
        };
        let agent = Row {
            secret: None,
            way: Way::Program(Program::Agent),
            verdict: Verdict::Unknown(Reason::Report),
            remedy: Some(Remedy::Agent),
            ..current.clone()
        };
        let want = "\
SECRET  WORKLOAD        POD    CONTAINER  CONSUMES  GENERATION  STATE                           SINCE  REFRESHED BY
db      Deployment/web  web-1  app        env       3           stale                           20s    manual restart
db      -               web-1  app        volume    -           current                         -      -
?       -               web-1  app        agent     -           unknown: the log has no report  -      seal agent
";
        let rows = [row, current, agent];
        assert_eq!(text(&rows, false, second(120)), want);
        assert!(text(&rows, true, second(120)).starts_with("NAMESPACE  SECRET"));
        assert_eq!(
            text(&[], true, second(120)),
            "no Pod consumes a SealedSecret\n"
        );
    }

    #[test]
    fn formats_ages() {
        let second = |second| Timestamp::from_second(second).unwrap();
        for (seconds, want) in [
            (-5, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7200, "2h"),
            (172_800, "2d"),
        ] {
            assert_eq!(age(second(0), second(seconds)), want);
        }
    }
}
