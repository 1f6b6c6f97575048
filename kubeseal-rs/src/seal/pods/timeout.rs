//! The warning of `seal pods --wait` when the time limit is reached: what is still stale, and why it may stay stale.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use restart::state::SecretId;
use restart::survey::{Remedy, Row};

use super::is_stale;
use super::table::source;
use crate::report::shown;

/// Maximum number of groups of containers, or of SealedSecrets, that a warning lists.
const MAX_LINES: usize = 20;
/// The hint if a workload is stale and no automatic restart follows.
const HINT: &str = "hint: restart workloads without automatic restart manually, or annotate them with \
                    `sealedsecrets.bitnami.com/restart: auto` and run `seal restart` in the cluster";
/// The hint if no controller has reported on a SealedSecret.
const UNREPORTED_HINT: &str = "hint: check with `seal doctor` whether the controller is running, watches these \
                               namespaces and writes statuses";

/// Returns the warning about rows that are stale after the time limit, or `None` if there are none. The last line is a
/// hint if nothing restarts a stale workload.
pub(super) fn warning(rows: &[Row], limit: SignedDuration) -> Option<String> {
    let stale: Vec<&Row> = rows.iter().filter(|row| is_stale(row)).collect();
    if stale.is_empty() {
        return None;
    }
    let count = match count_containers(&stale) {
        1 => "1 container still has an earlier value".to_owned(),
        count => format!("{count} containers still have an earlier value"),
    };
    let mut lines = vec![format!("timed out after {limit:#}: {count}")];
    lines.extend(groups(&stale));
    lines.extend(
        stale
            .iter()
            .any(|row| is_unattended(row))
            .then(|| HINT.to_owned()),
    );
    Some(lines.join("\n"))
}

/// Returns the warning about a change that the controller has not recorded within the time limit.
pub(super) fn unrecorded(limit: SignedDuration) -> String {
    format!(
        "timed out after {limit:#}: a SealedSecret has changed, and the controller has not recorded its new version: \
         see its status"
    )
}

/// Returns the warning about SealedSecrets on which no controller has reported within the time limit, or `None` if there
/// are none.
pub(super) fn unreported(unreported: &BTreeSet<SecretId>, limit: SignedDuration) -> Option<String> {
    let line =
        |(namespace, name): &SecretId| format!("  {}", shown(&format!("{namespace}/{name}")));
    let mut lines = vec![format!(
        "timed out after {limit:#}: the controller has not reported on these SealedSecrets, so the values that containers \
         have are not known:"
    )];
    lines.extend(unreported.iter().take(MAX_LINES).map(line));
    let omitted = unreported.len().saturating_sub(MAX_LINES);
    lines.extend((omitted > 0).then(|| format!("  and {omitted} more")));
    lines.push(UNREPORTED_HINT.to_owned());
    (!unreported.is_empty()).then(|| lines.join("\n"))
}

fn count_containers(rows: &[&Row]) -> usize {
    let names = rows
        .iter()
        .map(|row| (&row.namespace, &row.pod, &row.container));
    names.collect::<BTreeSet<_>>().len()
}

/// Returns a line for each combination of workload (or Pod without a workload), SealedSecret and refresh; at most
/// [`MAX_LINES`], then the number of omitted lines.
fn groups(stale: &[&Row]) -> Vec<String> {
    let mut groups = BTreeMap::<_, Vec<&Row>>::new();
    for row in stale {
        let key = (consumer(row), source(row), refresh(row));
        groups.entry(key).or_default().push(row);
    }
    let omitted = groups.len().saturating_sub(MAX_LINES);
    let line = |((consumer, source, refresh), rows): (&(String, String, String), &Vec<&Row>)| {
        let count = match count_containers(rows) {
            1 => "1 container".to_owned(),
            count => format!("{count} containers"),
        };
        let text = format!("{consumer}, {count} with an earlier {source}: {refresh}");
        format!("  {}", shown(&text))
    };
    let mut lines: Vec<String> = groups.iter().take(MAX_LINES).map(line).collect();
    lines.extend((omitted > 0).then(|| format!("  and {omitted} more")));
    lines
}

fn consumer(row: &Row) -> String {
    let (namespace, pod) = (&row.namespace, &row.pod);
    match &row.workload {
        Some(id) => format!("{}/{} in {namespace}", id.kind.name(), id.name),
        None => format!("Pod/{pod} in {namespace}"),
    }
}

/// Returns what brings the newest value to a container.
fn refresh(row: &Row) -> String {
    match (row.remedy, &row.workload) {
        (Some(Remedy::Restart), Some(_)) => {
            "no automatic restart: nothing restarts this workload".to_owned()
        }
        (Some(Remedy::Restart), None) => {
            "no automatic restart: nothing recreates this Pod".to_owned()
        }
        (Some(Remedy::AutomaticRestart), _) => {
            "waits for seal restart, if it is running".to_owned()
        }
        (Some(remedy @ (Remedy::Kubelet | Remedy::Driver)), _) => {
            format!("waits for the {}", remedy.text())
        }
        (Some(remedy), _) => format!("waits for {}", remedy.text()),
        (None, _) => "not known what refreshes it".to_owned(),
    }
}

/// Returns whether nothing brings the newest value to the workload.
fn is_unattended(row: &Row) -> bool {
    row.remedy == Some(Remedy::Restart) && row.workload.is_some()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use restart::consumption::Delivery;
    use restart::survey::{Verdict, Way};
    use restart::workload::{Id, Kind};

    use super::*;

    const LIMIT: SignedDuration = SignedDuration::from_mins(5);

    /// Returns a stale use of `db` by the workload, or by a Pod without a workload.
    fn stale(workload: Option<&str>, pod: &str, remedy: Remedy) -> Row {
        let id = |name: &str| Id {
            namespace: "shop".into(),
            kind: Kind::Deployment,
            name: name.into(),
        };
        Row {
            namespace: "shop".into(),
            secret: Some("db".into()),
            class: None,
            workload: workload.map(id),
            pod: pod.into(),
            container: "app".into(),
            way: Way::Kubelet(Delivery::Env),
            generation: Some(1),
            verdict: Verdict::Stale(Timestamp::UNIX_EPOCH),
            remedy: Some(remedy),
        }
    }

    #[test]
    fn says_for_each_workload_whether_something_will_refresh_it() {
        let rows = [
            stale(Some("web"), "web-1", Remedy::Restart),
            stale(Some("web"), "web-2", Remedy::Restart),
            stale(Some("api"), "api-1", Remedy::AutomaticRestart),
            stale(Some("files"), "files-1", Remedy::Kubelet),
            stale(None, "job-1", Remedy::Restart),
        ];
        let want = "\
timed out after 5m: 5 containers still have an earlier value
  Deployment/api in shop, 1 container with an earlier db: waits for seal restart, if it is running
  Deployment/files in shop, 1 container with an earlier db: waits for the kubelet, within 2m
  Deployment/web in shop, 2 containers with an earlier db: no automatic restart: nothing restarts this workload
  Pod/job-1 in shop, 1 container with an earlier db: no automatic restart: nothing recreates this Pod
hint: restart workloads without automatic restart manually, or annotate them with `sealedsecrets.bitnami.com/restart: auto` and run \
`seal restart` in the cluster";
        assert_eq!(warning(&rows, LIMIT).as_deref(), Some(want));
    }

    #[test]
    fn gives_no_hint_if_every_workload_is_refreshed_or_ends() {
        let rows = [
            stale(Some("files"), "files-1", Remedy::Kubelet),
            stale(Some("web"), "web-1", Remedy::Termination),
        ];
        let want = "\
timed out after 5m: 2 containers still have an earlier value
  Deployment/files in shop, 1 container with an earlier db: waits for the kubelet, within 2m
  Deployment/web in shop, 1 container with an earlier db: waits for termination";
        assert_eq!(warning(&rows, LIMIT).as_deref(), Some(want));
    }

    #[test]
    fn current_and_unknown_rows_are_not_reported() {
        let row = Row {
            verdict: Verdict::Current,
            remedy: None,
            ..stale(Some("web"), "web-1", Remedy::Restart)
        };
        assert_eq!(warning(&[row], LIMIT), None);
    }

    #[test]
    fn names_at_most_twenty_sealed_secrets_without_a_report() {
        assert_eq!(unreported(&BTreeSet::new(), LIMIT), None);
        let id = |number: usize| ("shop".to_owned(), format!("db-{number:02}"));
        let one = unreported(&BTreeSet::from([id(7)]), LIMIT).unwrap();
        assert!(one.starts_with("timed out after 5m: the controller has not reported on"));
        assert!(one.contains("\n  shop/db-07\nhint: "), "{one}");
        let many = unreported(&(0..23).map(id).collect(), LIMIT).unwrap();
        assert!(many.contains("\n  and 3 more\nhint: "), "{many}");
        assert_eq!(many.lines().count(), 23);
    }

    #[test]
    fn lists_at_most_twenty_consumers_and_counts_the_others() {
        let name = |number| format!("web-{number:02}");
        let rows: Vec<Row> = (0..23)
            .map(|number| stale(Some(&name(number)), "pod", Remedy::Kubelet))
            .collect();
        let warning = warning(&rows, LIMIT).unwrap();
        assert_eq!(warning.lines().count(), 22);
        assert!(warning.ends_with("\n  and 3 more"), "{warning}");
    }
}
