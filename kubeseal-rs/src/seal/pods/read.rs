//! Reads the objects of a survey from the cluster.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use class::{OBJECTS, PROVIDER};
use jiff::Timestamp;
use kubeseal_library::cluster::{ApiPath, ClusterError, Newest, Objects, parse};
use restart::consumption::Source;
use restart::delivered::Class;
use restart::pod::Pod;
use restart::sealed::Sealed;
use restart::state::SecretId;
use restart::survey::{self, Row};
use restart::workload::{Id, Kind, Workload};
use serde_json::Value as Json;

use super::{receivers, reports};
use crate::failure::Failure;

const SEALED_SECRETS: &str = "cannot list SealedSecrets";
const PODS: &str = "cannot list Pods";
const WORKLOADS: &str = "cannot list workloads";
const CLASSES: &str = "cannot list SecretProviderClasses";
const MOUNTS: &str = "cannot list SecretProviderClassPodStatuses";

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

    /// Returns whether a row is shown. A row with neither a SealedSecret nor a class is also shown, because the
    /// container may receive every SealedSecret.
    fn contains(&self, row: &Row) -> bool {
        match (self, &row.secret) {
            (Self::All | Self::Namespace(_), _) => true,
            (Self::Object { name, .. }, Some(secret)) => secret == name,
            (Self::Object { .. }, None) => row.class.is_none(),
        }
    }
}

/// The containers, each with the version that it has.
pub(super) struct Survey {
    pub(super) rows: BTreeSet<Row>,
    /// Whether a SealedSecret has changed since the controller recorded its version.
    pub(super) is_unrecorded: bool,
    /// The SealedSecrets on which no controller has reported: their status has no observed generation.
    pub(super) unreported: BTreeSet<SecretId>,
    /// The SealedSecrets whose newest version could not be unsealed. Even Pods with the newest content of the Secret
    /// have an earlier version of the SealedSecret.
    pub(super) failed: BTreeSet<SecretId>,
    /// Warnings about objects that could not be read.
    pub(super) notes: Vec<String>,
}

/// Returns the rows of all SealedSecrets in the scope; `None` if the time limit of `objects` is reached before all
/// objects and logs are read.
pub(super) fn survey_in_time(
    objects: &Objects,
    scope: &Scope,
    now: Timestamp,
) -> Result<Option<Survey>> {
    let is_time_limit =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(ClusterError::TimeLimit));
    match survey(objects, scope, now) {
        Err(error) if is_time_limit(&error) => Ok(None),
        survey => survey.map(Some),
    }
}

/// Returns the rows of all SealedSecrets in the scope.
pub(super) fn survey(objects: &Objects, scope: &Scope, now: Timestamp) -> Result<Survey> {
    let Listed {
        objects: listed,
        unreported,
        failed,
        notes,
    } = read(objects, scope.namespace())?;
    let with_unknown = matches!(scope, Scope::All | Scope::Namespace(_));
    let rows = survey::rows(&listed, with_unknown, now);
    if let Scope::Object { namespace, name } = scope
        && !listed
            .secrets
            .contains_key(&(namespace.clone(), name.clone()))
    {
        let message = format!("no SealedSecret {name:?} in namespace {namespace:?}");
        bail!(Failure::new(message).hint("pass its namespace with --namespace"));
    }
    let is_shown = |(_, secret): &SecretId| match scope {
        Scope::Object { name, .. } => secret == name,
        Scope::All | Scope::Namespace(_) => true,
    };
    Ok(Survey {
        rows: rows.into_iter().filter(|row| scope.contains(row)).collect(),
        is_unrecorded: listed.unrecorded.iter().any(is_shown),
        unreported: unreported.into_iter().filter(is_shown).collect(),
        failed: failed.into_iter().filter(is_shown).collect(),
        notes,
    })
}

/// The objects of a namespace or of the cluster. The other fields are described in [`Survey`].
struct Listed {
    objects: survey::Objects,
    unreported: BTreeSet<SecretId>,
    failed: BTreeSet<SecretId>,
    notes: Vec<String>,
}

/// Reads the SealedSecrets last, so that no Pod has a newer version than the SealedSecret that was read.
fn read(objects: &Objects, namespace: Option<&str>) -> Result<Listed> {
    let mut listed = survey::Objects::default();
    let (mut unreported, mut failed) = (BTreeSet::new(), BTreeSet::new());
    let mut notes = Vec::new();
    read_pods(objects, namespace, &mut listed)?;
    if listed.pods.iter().any(has_class) {
        read_mounts(objects, namespace, &mut listed, &mut notes)?;
    }
    reports::read(objects, &mut listed)?;
    read_workloads(objects, namespace, &mut listed)?;
    let sealed = Resource {
        group: "/apis/bitnami.com/v1alpha1",
        all: "/apis/bitnami.com/v1alpha1/sealedsecrets",
        plural: "sealedsecrets",
    };
    for_each(objects, SEALED_SECRETS, &sealed, namespace, |object| {
        let id = id(object);
        match Newest::of(object) {
            Newest::Recorded => {}
            Newest::NotReported => unreported.extend([id.clone()]),
            Newest::NotRecorded => listed.unrecorded.extend([id.clone()]),
            Newest::Failed => failed.extend([id.clone()]),
        }
        listed.secrets.insert(id, Sealed::read(object));
    })?;
    Ok(Listed {
        objects: listed,
        unreported,
        failed,
        notes,
    })
}

fn has_class(pod: &Pod) -> bool {
    pod.uses
        .uses()
        .any(|usage| matches!(usage.source, Source::Class(_)))
}

fn read_pods(
    objects: &Objects,
    namespace: Option<&str>,
    listed: &mut survey::Objects,
) -> Result<()> {
    let pods = Resource {
        group: "/api/v1",
        all: "/api/v1/pods",
        plural: "pods",
    };
    for_each(objects, PODS, &pods, namespace, |object| {
        let Some(pod) = Pod::read(object) else {
            return;
        };
        let receivers = receivers::of(object);
        if !receivers.is_empty() {
            listed.receivers.insert(id(object), receivers);
        }
        listed.pods.push(pod);
    })?;
    Ok(())
}

/// Reads the classes, and the driver's records of the volumes that it has mounted. Without permission to list them,
/// versions in volumes are unknown.
fn read_mounts(
    objects: &Objects,
    namespace: Option<&str>,
    listed: &mut survey::Objects,
    notes: &mut Vec<String>,
) -> Result<()> {
    let resource = |all, plural| Resource {
        group: "/apis/secrets-store.csi.x-k8s.io/v1",
        all,
        plural,
    };
    let classes = resource(
        "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses",
        "secretproviderclasses",
    );
    let mut note = |what: &str| {
        notes.push(format!(
            "{what}: no permission, so versions in their volumes are unknown"
        ));
    };
    let read = for_each(objects, CLASSES, &classes, namespace, |object| {
        listed.classes.insert(id(object), class_of(object));
    });
    if !is_permitted(read)? {
        note(CLASSES);
    }
    let mounts = resource(
        "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasspodstatuses",
        "secretproviderclasspodstatuses",
    );
    let read = for_each(objects, MOUNTS, &mounts, namespace, |object| {
        listed.mounts.add(object);
    });
    if !is_permitted(read)? {
        note(MOUNTS);
    }
    Ok(())
}

/// Returns `true` if a list could be read or its kind is not installed, and `false` without permission to read it.
fn is_permitted(read: Result<(), ClusterError>) -> Result<bool, ClusterError> {
    match read {
        Ok(()) => Ok(true),
        Err(ClusterError::Object { code, .. }) if code.as_u16() == 404 => Ok(true),
        Err(ClusterError::Object { code, .. }) if code.as_u16() == 403 => Ok(false),
        Err(error) => Err(error),
    }
}

fn class_of(object: &Json) -> Class {
    let spec = &object["spec"];
    if spec["provider"] != PROVIDER {
        return Class::Other;
    }
    let text = spec["parameters"][OBJECTS].as_str().unwrap_or_default();
    let selection = class::objects::read(text).ok();
    let entries = selection
        .into_iter()
        .flat_map(|selection| selection.request.objects);
    let names = entries.flat_map(|entry| {
        entry
            .sealed_secret
            .into_iter()
            .chain(entry.from.into_iter().flatten())
    });
    Class::Sealed(names.collect())
}

fn read_workloads(
    objects: &Objects,
    namespace: Option<&str>,
    listed: &mut survey::Objects,
) -> Result<()> {
    for kind in Kind::ALL {
        let read = for_each(objects, WORKLOADS, &workloads(kind), namespace, |object| {
            let (namespace, name) = id(object);
            let id = Id {
                namespace,
                kind,
                name,
            };
            listed.workloads.push((id, Workload::read(kind, object)));
        });
        if kind == Kind::Rollout {
            // Argo Rollouts is not installed, or the user may not list them.
            is_permitted(read)?;
        } else {
            read?;
        }
    }
    Ok(())
}

/// Returns the namespace and the name of an object.
fn id(object: &Json) -> (String, String) {
    let metadata = &object["metadata"];
    (text(&metadata["namespace"]), text(&metadata["name"]))
}

/// A resource type: the path of its API group, its path for all namespaces, and its plural name.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_class_names_its_sealed_secrets() {
        let class = |spec: Json| class_of(&json!({ "spec": spec }));
        let names =
            |names: &[&str]| Class::Sealed(names.iter().map(|name| (*name).to_owned()).collect());
        let objects = "- sealedSecret: db\n- {path: dsn, template: x, from: [db, web]}";
        for (spec, want) in [
            (
                json!({ "provider": "sealed", "parameters": { "objects": objects } }),
                names(&["db", "web"]),
            ),
            (
                json!({ "provider": "sealed", "parameters": { "objects": "[" } }),
                names(&[]),
            ),
            (json!({ "provider": "sealed" }), names(&[])),
            (
                json!({ "provider": "vault", "parameters": { "objects": objects } }),
                Class::Other,
            ),
            (json!(null), Class::Other),
        ] {
            assert_eq!(class(spec.clone()), want, "{spec}");
        }
    }
}
