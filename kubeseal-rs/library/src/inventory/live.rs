//! The SealedSecrets and the names of Secrets in a cluster.

use std::collections::BTreeSet;

use anyhow::Result;
use http::StatusCode;
use serde_json::Value as Json;
use shared::manifest::{self, Node, Reading, Shape};

use super::Content;
use crate::cluster::{ApiPath, ClusterError, Newest, Objects, parse};
use crate::object::Object;

/// The namespace and name of an object.
pub type ObjectId = (String, String);

/// What was read from a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// The SealedSecrets.
    pub objects: Vec<LiveObject>,
    /// The Secrets; `None` without permission to list them.
    pub secrets: Option<BTreeSet<ObjectId>>,
}

/// A SealedSecret in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveObject {
    /// The namespace and name.
    pub id: ObjectId,
    /// What is visible in the object; `None` if it is malformed.
    pub content: Option<Content>,
    /// What the controller has done with the newest generation.
    pub newest: Newest,
    /// The condition `Synced`, else `Ready`; `None` without either.
    pub condition: Option<Condition>,
    /// The newest generation; `None` if the object has none.
    pub generation: Option<i64>,
    /// The newest generation that was unsealed; `None` if the controller does not record it.
    pub unsealed_generation: Option<i64>,
    /// Whether a Secret with the same namespace and name exists; `None` if it is unknown.
    pub has_secret: Option<bool>,
}

/// A condition in the status of a SealedSecret. Anyone who may write the status chooses the texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `Synced` or `Ready`.
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason, one word; empty if there is none.
    pub reason: String,
}

/// Lists the SealedSecrets and the names of the Secrets of a namespace, or of all namespaces. Without permission to
/// list Secrets, [`Live::secrets`] is `None`. Requests only the metadata of Secrets.
///
/// # Errors
///
/// Fails if the SealedSecrets cannot be listed, or if the Secrets cannot be listed for another reason than a missing
/// permission.
pub fn read(objects: &Objects, namespace: Option<&str>) -> Result<Live> {
    let secrets = secrets(objects, namespace)?;
    let sealed = path(
        namespace,
        "/apis/bitnami.com/v1alpha1",
        "sealedsecrets",
        "/apis/bitnami.com/v1alpha1/sealedsecrets",
    )?;
    let mut live = Live {
        objects: Vec::new(),
        secrets,
    };
    for page in objects.list("cannot list the SealedSecrets", &sealed)? {
        for document in manifest::read(&page)? {
            let nodes = document.root.list_items(&["SealedSecretList"]).into_iter();
            live.objects
                .extend(nodes.map(|node| live_object(node, live.secrets.as_ref())));
        }
    }
    Ok(live)
}

fn path(
    namespace: Option<&str>,
    group: &'static str,
    plural: &'static str,
    all: &'static str,
) -> Result<ApiPath, ClusterError> {
    match namespace {
        Some(namespace) => ApiPath::namespaced(group, namespace, plural),
        None => Ok(ApiPath::fixed(all)),
    }
}

fn secrets(objects: &Objects, namespace: Option<&str>) -> Result<Option<BTreeSet<ObjectId>>> {
    const FAILURE: &str = "cannot list the Secrets";
    let path = path(namespace, "/api/v1", "secrets", "/api/v1/secrets")?;
    let pages = match objects.list_metadata(FAILURE, &path) {
        Err(ClusterError::Object { code, .. }) if code == StatusCode::FORBIDDEN => return Ok(None),
        pages => pages?,
    };
    let mut ids = BTreeSet::new();
    for page in pages {
        let failure = FAILURE;
        let page = parse(&page).map_err(|_| ClusterError::MalformedResponse { failure })?;
        ids.extend(page["items"].as_array().into_iter().flatten().map(id));
    }
    Ok(Some(ids))
}

fn id(object: &Json) -> ObjectId {
    let text = |field: &str| {
        let value = object["metadata"][field].as_str();
        value.unwrap_or_default().to_owned()
    };
    (text("namespace"), text("name"))
}

/// Returns a SealedSecret of a list. A malformed one has no content.
fn live_object(node: &Node, secrets: Option<&BTreeSet<ObjectId>>) -> LiveObject {
    let field = |name: &str| {
        let field = node.field(name)?;
        Reading::default().json(field, Shape::Any).ok()
    };
    let object = serde_json::json!({ "metadata": field("metadata"), "status": field("status") });
    let status = &object["status"];
    let content = Object::read_leniently(node).ok();
    let id = id(&object);
    LiveObject {
        content: content.as_ref().map(Content::from),
        newest: Newest::of(&object),
        condition: condition(status),
        generation: object["metadata"]["generation"].as_i64(),
        unsealed_generation: status["lastUnsealedGeneration"].as_i64(),
        has_secret: secrets.map(|secrets| secrets.contains(&id)),
        id,
    }
}

fn condition(status: &Json) -> Option<Condition> {
    let of_kind = |kind: &'static str| {
        let mut conditions = status["conditions"].as_array()?.iter();
        let condition = conditions.find(|condition| condition["type"] == kind)?;
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        Some(Condition {
            kind,
            status: text("status"),
            reason: text("reason"),
        })
    };
    of_kind("Synced").or_else(|| of_kind("Ready"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> LiveObject {
        let documents = manifest::read(text.as_bytes()).unwrap();
        let secrets = BTreeSet::from([("shop".to_owned(), "db".to_owned())]);
        live_object(&documents[0].root, Some(&secrets))
    }

    #[test]
    fn reads_the_status() {
        let live = object(
            "metadata: {name: db, namespace: shop, generation: 3}\nspec: {encryptedData: {a: x}}\n\
             status:\n  observedGeneration: 3\n  lastUnsealedGeneration: 2\n  conditions:\n  \
             - {type: Ready, status: 'True'}\n  - {type: Synced, status: 'False', reason: UnsealFailed}\n",
        );
        assert_eq!(live.id, ("shop".to_owned(), "db".to_owned()));
        assert_eq!(live.newest, Newest::Failed);
        let condition = live.condition.unwrap();
        assert_eq!(
            (condition.kind, &*condition.reason),
            ("Synced", "UnsealFailed")
        );
        assert_eq!(
            (live.generation, live.unsealed_generation),
            (Some(3), Some(2))
        );
        assert_eq!(live.has_secret, Some(true));
        assert_eq!(live.content.unwrap().items, ["a"]);
    }

    /// Attack: a client creates an object that this program cannot parse, so that it is missing in the inventory.
    #[test]
    fn a_malformed_object_is_listed_without_content() {
        for spec in ["[]", "{encryptedData: [x]}", "1", "~"] {
            let text =
                format!("metadata: {{name: web, namespace: shop}}\nspec: {spec}\nstatus: 7\n");
            let live = object(&text);
            assert_eq!(live.id.1, "web", "{spec}");
            assert_eq!(
                (live.newest, live.has_secret),
                (Newest::NotReported, Some(false))
            );
        }
        assert_eq!(object("metadata: {name: web}\nspec: 1\n").content, None);
    }
}
