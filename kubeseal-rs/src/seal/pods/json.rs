//! The JSON output of `seal pods`.

use jiff::Timestamp;
use restart::survey::{Reason, Remedy, Row, Verdict};
use restart::workload::Id;
use serde::Serialize;

/// The output of `seal pods`.
#[derive(Debug, Serialize)]
pub(super) struct PodsReport<'a> {
    pods: Vec<PodReport<'a>>,
}

/// How a container receives values of a SealedSecret, and which version it has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodReport<'a> {
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_provider_class: Option<&'a str>,
    workload: Option<WorkloadReport<'a>>,
    pod: &'a str,
    container: &'a str,
    consumes: &'static str,
    generation: Option<i64>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    since: Option<Timestamp>,
    refreshed_by: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct WorkloadReport<'a> {
    kind: &'static str,
    name: &'a str,
}

impl<'a> PodsReport<'a> {
    pub(super) fn new(rows: &'a [Row]) -> Self {
        Self {
            pods: rows.iter().map(PodReport::new).collect(),
        }
    }
}

impl<'a> PodReport<'a> {
    fn new(row: &'a Row) -> Self {
        let workload = |id: &'a Id| WorkloadReport {
            kind: id.kind.name(),
            name: &id.name,
        };
        Self {
            namespace: &row.namespace,
            secret: row.secret.as_deref(),
            secret_provider_class: row.class.as_deref(),
            workload: row.workload.as_ref().map(workload),
            pod: &row.pod,
            container: &row.container,
            consumes: row.way.name(),
            generation: row.generation,
            state: row.verdict.name(),
            reason: match row.verdict {
                Verdict::Unknown(reason) => Some(Reason::text(reason)),
                Verdict::Current | Verdict::Stale(_) | Verdict::NotStarted => None,
            },
            since: match row.verdict {
                Verdict::Stale(time) => Some(time),
                Verdict::Current | Verdict::Unknown(_) | Verdict::NotStarted => None,
            },
            refreshed_by: row.remedy.map(Remedy::text),
        }
    }
}

#[cfg(test)]
mod tests {
    use restart::consumption::Delivery;
    use restart::survey::Way;
    use restart::workload::Kind;

    use super::*;
    use crate::seal::output::tests::check;

    #[test]
    fn the_documentation_describes_every_field() {
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
            verdict: Verdict::Stale(Timestamp::UNIX_EPOCH),
            remedy: Some(Remedy::Restart),
        };
        let class = Row {
            class: Some("web".into()),
            workload: None,
            way: Way::Kubelet(Delivery::Csi),
            generation: None,
            verdict: Verdict::Unknown(Reason::Driver),
            remedy: Some(Remedy::Driver),
            ..row.clone()
        };
        let want = r#"{
  "pods": [
    {
      "namespace": "shop",
      "secret": "db",
      "workload": {
        "kind": "Deployment",
        "name": "web"
      },
      "pod": "web-1",
      "container": "app",
      "consumes": "env",
      "generation": 3,
      "state": "stale",
      "since": "1970-01-01T00:00:00Z",
      "refreshedBy": "restart"
    },
    {
      "namespace": "shop",
      "secret": "db",
      "secretProviderClass": "web",
      "workload": null,
      "pod": "web-1",
      "container": "app",
      "consumes": "csi",
      "generation": null,
      "state": "unknown",
      "reason": "the driver has recorded no mount",
      "since": null,
      "refreshedBy": "CSI driver"
    }
  ]
}
"#;
        check("seal pods", &PodsReport::new(&[row, class]), want);
    }
}
