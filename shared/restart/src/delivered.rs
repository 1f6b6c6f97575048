//! Values that a Pod receives without a Secret: in volumes of the Secrets Store CSI driver, and by programs that
//! request them from the controller.
//!
//! The driver records the version of each mounted object in a `SecretProviderClassPodStatus`. `seal agent` logs the
//! versions that it wrote, and `seal exec` the versions that its command started with, possibly long after the start of
//! the container. Other programs that receive values do not report which version they have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

/// A `SecretProviderClass`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// A class of this project's provider, with the SealedSecrets that it names, as far as they can be read.
    Sealed(BTreeSet<String>),
    /// A class of another provider.
    Other,
}

/// The content that a Pod has of one SealedSecret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The version, as in the status of the SealedSecret.
    pub version: String,
    /// The generation of the SealedSecret, if it is reported.
    pub generation: Option<i64>,
}

/// The mounts that the driver has recorded.
#[derive(Debug, Default)]
pub struct Mounts(BTreeMap<MountId, Mount>);

/// The namespace, the name of the Pod, and the name of the class.
type MountId = (String, String, String);

#[derive(Debug)]
struct Mount {
    /// The uid of the Pod; empty if unknown.
    uid: String,
    objects: BTreeMap<String, Content>,
}

impl Mounts {
    /// Adds a `SecretProviderClassPodStatus` as the API server returns it, unless its `mounted` is `false`.
    pub fn add(&mut self, object: &Json) {
        let (metadata, status) = (&object["metadata"], &object["status"]);
        if status["mounted"] == false {
            return;
        }
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let mut pods = owners.filter(|owner| owner["kind"] == "Pod");
        let uid = pods.next().map(|owner| text(&owner["uid"]));
        let objects = status["objects"].as_array().into_iter().flatten();
        let content = |object: &Json| Content {
            version: text(&object["version"]),
            generation: None,
        };
        let mount = Mount {
            uid: uid.unwrap_or_default(),
            objects: objects
                .map(|object| (text(&object["id"]), content(object)))
                .collect(),
        };
        let id = (
            text(&metadata["namespace"]),
            text(&status["podName"]),
            text(&status["secretProviderClassName"]),
        );
        self.0.insert(id, mount);
    }

    /// Returns the content that a Pod has of each object of a class; `None` if the driver has recorded no mount for
    /// this Pod. A record for an earlier Pod of the same name does not count.
    pub fn of(
        &self,
        namespace: &str,
        (name, uid): (&str, &str),
        class: &str,
    ) -> Option<&BTreeMap<String, Content>> {
        let id = (namespace.to_owned(), name.to_owned(), class.to_owned());
        let mount = self.0.get(&id)?;
        (mount.uid.is_empty() || mount.uid == uid).then_some(&mount.objects)
    }
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A container that has a token for the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The name of the container.
    pub container: String,
    /// The program that the container runs.
    pub program: Program,
    /// The SealedSecrets that the arguments of the program name; `None` if they are unknown.
    pub objects: Option<BTreeSet<String>>,
    /// What the log of the container reports.
    pub report: Report,
}

/// The content that a program reports in the log of its container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Report {
    /// The log was not read, or cannot be read.
    #[default]
    Unreadable,
    /// The log has no report: the program waits for values, or the log no longer contains the report.
    Missing,
    /// The content that the program has of each SealedSecret.
    Content(BTreeMap<String, Content>),
}

impl Report {
    /// Returns the reported content of each SealedSecret; `None` without a report.
    pub fn contents(&self) -> Option<&BTreeMap<String, Content>> {
        match self {
            Self::Content(contents) => Some(contents),
            Self::Unreadable | Self::Missing => None,
        }
    }
}

/// A program that receives values from the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// `seal agent`, which receives changes.
    Agent,
    /// `seal agent --once`.
    AgentOnce,
    /// `seal exec --from`, whose command keeps the values that it started with.
    Exec,
    /// `seal exec --from --on-change`, which receives changes.
    ExecOnChange,
    /// Another program.
    Other,
}

impl Program {
    /// Returns the name that tables and reports show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent | Self::AgentOnce => "agent",
            Self::Exec | Self::ExecOnChange => "exec",
            Self::Other => "token",
        }
    }

    /// Returns whether the program writes reports.
    pub fn reports(self) -> bool {
        self != Self::Other
    }

    /// Returns whether the program reports only once, before it starts the application whose output follows in the same
    /// log.
    pub fn reports_once(self) -> bool {
        self == Self::Exec
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the status of a mount of the class `web` in the Pod `p`.
    pub(crate) fn status(uid: &str, version: &str) -> Json {
        json!({
            "metadata": { "namespace": "ns", "name": "p-ns-web", "ownerReferences": [{ "kind": "Pod", "name": "p", "uid": uid }] },
            "status": { "podName": "p", "secretProviderClassName": "web", "mounted": true, "objects": [{ "id": "db", "version": version }] },
        })
    }

    #[test]
    fn the_driver_records_the_version_of_each_object() {
        let mut mounts = Mounts::default();
        mounts.add(&status("u", "v"));
        let objects = mounts.of("ns", ("p", "u"), "web").unwrap();
        assert_eq!(objects["db"].version, "v");
        for (namespace, pod, class) in [
            ("other", ("p", "u"), "web"),
            ("ns", ("other", "u"), "web"),
            ("ns", ("p", "u"), "other"),
        ] {
            assert_eq!(mounts.of(namespace, pod, class), None);
        }
    }

    /// Fault: a StatefulSet starts a Pod again, and the record about the former Pod of the same name still exists.
    #[test]
    fn the_record_of_a_former_pod_does_not_count() {
        let mut mounts = Mounts::default();
        mounts.add(&status("former", "v"));
        assert_eq!(mounts.of("ns", ("p", "u"), "web"), None);
        let mut unmounted = status("u", "v");
        unmounted["status"]["mounted"] = json!(false);
        let mut mounts = Mounts::default();
        mounts.add(&unmounted);
        assert_eq!(mounts.of("ns", ("p", "u"), "web"), None);
    }

    #[test]
    fn an_unreadable_record_is_no_mount_of_a_pod() {
        for object in [json!({}), json!({ "status": { "objects": "x" } }), json!(5)] {
            let mut mounts = Mounts::default();
            mounts.add(&object);
            assert_eq!(mounts.of("ns", ("p", "u"), "web"), None, "{object}");
        }
    }
}
