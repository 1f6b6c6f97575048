//! Reads the objects of a survey from the cluster.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use jiff::Timestamp;
use kubeseal_library::cluster::{ApiPath, ClusterError, Objects, parse};
use restart::consumption::Source;
use restart::pod::Pod;
use restart::sealed::Sealed;
use restart::survey::{self, Row};
use restart::workload::{Id, Kind, Workload};
use serde_json::Value as Json;

use crate::failure::Failure;

const SEALED_SECRETS: &str = "cannot list SealedSecrets";
const PODS: &str = "cannot list Pods";
const WORKLOADS: &str = "cannot list workloads";

/// Which SealedSecrets to show.
pub(super) enum Scope {
    All,
    Namespace(String),
    Object { namespace: String, name: String },
}

impl Scope {
    fn namespace(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Namespace(namespace) | Self::Object { namespace, .. } => Some(namespace),
        }
    }
}

/// Returns the rows of all SealedSecrets in the scope.
pub(super) fn rows(objects: &Objects, scope: &Scope, now: Timestamp) -> Result<BTreeSet<Row>> {
    let listed = read(objects, scope.namespace())?;
    let rows = survey::rows(
        &listed,
        matches!(scope, Scope::All | Scope::Namespace(_)),
        now,
    );
    let Scope::Object { namespace, name } = scope else {
        return Ok(rows);
    };
    if !listed
        .secrets
        .contains_key(&(namespace.clone(), name.clone()))
    {
        let message = format!("no SealedSecret {name:?} in namespace {namespace:?}");
        bail!(Failure::new(message).hint("pass its namespace with --namespace"));
    }
    let has_name = |row: &Row| matches!(&row.source, Source::Secret(secret) if secret == name);
    Ok(rows.into_iter().filter(has_name).collect())
}

fn read(objects: &Objects, namespace: Option<&str>) -> Result<survey::Objects> {
    let mut listed = survey::Objects::default();
    let sealed = Resource {
        group: "/apis/bitnami.com/v1alpha1",
        all: "/apis/bitnami.com/v1alpha1/sealedsecrets",
        plural: "sealedsecrets",
    };
    for_each(objects, SEALED_SECRETS, &sealed, namespace, |object| {
        let id = (
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        );
        listed.secrets.insert(id, Sealed::read(object));
    })?;
    let pods = Resource {
        group: "/api/v1",
        all: "/api/v1/pods",
        plural: "pods",
    };
    for_each(objects, PODS, &pods, namespace, |object| {
        listed.pods.extend(Pod::read(object));
    })?;
    for kind in Kind::ALL {
        let read = for_each(objects, WORKLOADS, &workloads(kind), namespace, |object| {
            let id = Id {
                namespace: text(&object["metadata"]["namespace"]),
                kind,
                name: text(&object["metadata"]["name"]),
            };
            listed.workloads.push((id, Workload::read(kind, object)));
        });
        match read {
            // Argo Rollouts is not installed, or the user may not list them.
            Err(ClusterError::Object { code, .. })
                if kind == Kind::Rollout && matches!(code.as_u16(), 403 | 404) => {}
            other => other?,
        }
    }
    Ok(listed)
}

/// A kind of objects: its path in a namespace, and of all namespaces.
struct Resource {
    group: &'static str,
    all: &'static str,
    plural: &'static str,
}

fn workloads(kind: Kind) -> Resource {
    let (group, all) = match kind {
        Kind::Deployment => ("/apis/apps/v1", "/apis/apps/v1/deployments"),
        Kind::StatefulSet => ("/apis/apps/v1", "/apis/apps/v1/statefulsets"),
        Kind::DaemonSet => ("/apis/apps/v1", "/apis/apps/v1/daemonsets"),
        Kind::Rollout => (
            "/apis/argoproj.io/v1alpha1",
            "/apis/argoproj.io/v1alpha1/rollouts",
        ),
    };
    Resource {
        group,
        all,
        plural: kind.plural(),
    }
}

fn for_each(
    objects: &Objects,
    failure: &'static str,
    resource: &Resource,
    namespace: Option<&str>,
    mut read: impl FnMut(&Json),
) -> Result<(), ClusterError> {
    let path = match namespace {
        Some(namespace) => ApiPath::namespaced(resource.group, namespace, resource.plural)?,
        None => ApiPath::fixed(resource.all),
    };
    for page in objects.list(failure, &path)? {
        let page = parse(&page).map_err(|_| ClusterError::MalformedResponse { failure })?;
        page["items"]
            .as_array()
            .into_iter()
            .flatten()
            .for_each(&mut read);
    }
    Ok(())
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
