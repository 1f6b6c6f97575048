//! The JSON output of `seal pods`.

use jiff::Timestamp;
use restart::consumption::Source;
use restart::survey::{Row, Verdict};
use restart::workload::Id;
use serde::Serialize;

/// The output of `seal pods`: every way in which a container consumes a Secret.
#[derive(Debug, Serialize)]
pub(super) struct PodsReport<'a> {
    pods: Vec<PodReport<'a>>,
}

/// A way in which a container consumes a Secret.
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
        let (secret, secret_provider_class) = match &row.source {
            Source::Secret(name) => (Some(name.as_str()), None),
            Source::Class(name) => (None, Some(name.as_str())),
        };
        let workload = |id: &'a Id| WorkloadReport {
            kind: id.kind.name(),
            name: &id.name,
        };
        Self {
            namespace: &row.namespace,
            secret,
            secret_provider_class,
            workload: row.workload.as_ref().map(workload),
            pod: &row.pod,
            container: &row.container,
            consumes: row.delivery.name(),
            generation: row.generation,
            state: row.verdict.name(),
            since: match row.verdict {
                Verdict::Stale(time) => Some(time),
                Verdict::Current | Verdict::Unknown | Verdict::NotStarted => None,
            },
            refreshed_by: row.remedy.map(restart::survey::Remedy::text),
        }
    }
}

#[cfg(test)]
mod tests {
    use restart::consumption::Delivery;
    use restart::survey::Remedy;
    use restart::workload::Kind;

    use super::*;
    use crate::seal::output::tests::check;

    #[test]
    fn the_documentation_describes_every_field() {
        let row = Row {
            namespace: "shop".into(),
            source: Source::Secret("db".into()),
            workload: Some(Id {
                namespace: "shop".into(),
                kind: Kind::Deployment,
                name: "web".into(),
            }),
            pod: "web-1".into(),
            container: "app".into(),
            delivery: Delivery::Env,
            generation: Some(3),
            verdict: Verdict::Stale(Timestamp::UNIX_EPOCH),
            remedy: Some(Remedy::Restart),
        };
        let class = Row {
            source: Source::Class("web".into()),
            workload: None,
            delivery: Delivery::Csi,
            generation: None,
            verdict: Verdict::Unknown,
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
      "secretProviderClass": "web",
      "workload": null,
      "pod": "web-1",
      "container": "app",
      "consumes": "csi",
      "generation": null,
      "state": "unknown",
      "since": null,
      "refreshedBy": "CSI driver"
    }
  ]
}
"#;
        check("seal pods", &PodsReport::new(&[row, class]), want);
    }
}
