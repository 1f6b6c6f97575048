//! Parses a file into the SealedSecrets that it contains.

use std::sync::Arc;

use controller_core::object_id::ObjectId;
use shared::error_chain;
use shared::manifest::{self, Document, Node, Reading};
use shared::resource::SealedSecret;
use shared::scope::CLUSTER_WIDE_ANNOTATION;

use super::names::{NameError, check_name, check_namespace};

/// The content of a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Claims {
    /// SealedSecrets whose namespace and name are known.
    pub(super) objects: Vec<Claim>,
    /// Problems with documents, one sentence each, with document number and line. They quote only names.
    pub(super) problems: Vec<String>,
    /// Documents that are ignored because they have another kind, one sentence each.
    pub(super) others: Vec<String>,
}

/// One SealedSecret in a file.
#[derive(Debug, PartialEq)]
pub(super) struct Claim {
    /// The namespace and name.
    pub(super) id: ObjectId,
    /// The SealedSecret, or the reason why it cannot be used.
    pub(super) sealed: Result<Arc<SealedSecret>, String>,
}

/// Parses every document of a file, including the items of lists.
///
/// # Errors
///
/// Returns an error if the file is not a series of documents.
pub(super) fn read(bytes: &[u8]) -> Result<Claims, String> {
    let documents = manifest::read(bytes).map_err(|error| error_chain(&error))?;
    let mut claims = Claims::default();
    for document in &documents {
        for node in document.root.list_items(&["List", "SealedSecretList"]) {
            claims.take(document.number, node);
        }
    }
    Ok(claims)
}

impl Claims {
    fn take(&mut self, number: usize, node: &Node) {
        match node.text("kind").unwrap_or_default() {
            "SealedSecret" => self.take_sealed(number, node),
            "" => self.problem(
                number,
                node,
                "it has no `kind`; this folder may contain only manifests",
            ),
            _ => {
                // Do not quote the kind: in a file that is not a manifest, it can contain anything.
                self.others.push(format!(
                    "document {number} has another kind; only SealedSecrets are processed"
                ));
            }
        }
    }

    fn take_sealed(&mut self, number: usize, node: &Node) {
        let id = match identity(node) {
            Ok(id) => id,
            Err(why) => return self.problem(number, node, &why),
        };
        let sealed = if id.namespace.is_empty() {
            Err(error_chain(&missing_namespace(node)))
        } else {
            sealed(number, node)
        };
        if let Err(why) = &sealed {
            self.problem(number, node, why);
        }
        self.objects.push(Claim { id, sealed });
    }

    fn problem(&mut self, number: usize, node: &Node, why: &str) {
        let line = node.line;
        self.problems
            .push(format!("document {number}, line {line}: {why}"));
    }
}

/// Returns the namespace and name, parsed like the object itself: an unquoted `name: on` means `true` in both. The
/// namespace is empty if it is missing: such an object has a status, and no Secret.
fn identity(node: &Node) -> Result<ObjectId, String> {
    let mut reading = Reading::default();
    let mut field = |name: &str| {
        let node = node
            .field("metadata")
            .and_then(|metadata| metadata.field(name));
        node.map_or(Ok(String::new()), |node| {
            reading.inside("metadata", |reading| {
                reading.inside(name, |reading| reading.text(node))
            })
        })
    };
    let namespace = field("namespace").map_err(|error| error_chain(&error))?;
    let name = field("name").map_err(|error| error_chain(&error))?;
    check_name(&name).map_err(|error| error_chain(&error))?;
    if !namespace.is_empty() {
        check_namespace(&namespace).map_err(|error| error_chain(&error))?;
    }
    Ok(ObjectId { namespace, name })
}

fn missing_namespace(node: &Node) -> NameError {
    if is_cluster_wide(node) {
        NameError::AnyNamespace
    } else {
        NameError::NoNamespace
    }
}

fn is_cluster_wide(node: &Node) -> bool {
    let metadata = node.field("metadata");
    let annotations = metadata.and_then(|metadata| metadata.field("annotations"));
    let value = annotations.and_then(|annotations| annotations.text(CLUSTER_WIDE_ANNOTATION));
    value == Some("true")
}

fn sealed(number: usize, node: &Node) -> Result<Arc<SealedSecret>, String> {
    let root = node.clone();
    let (mut sealed, _) = SealedSecret::all_from_document(&Document { number, root })
        .map_err(|error| error_chain(&error))?;
    let sealed = sealed.pop().map(Arc::new);
    sealed.ok_or_else(|| "contains no SealedSecret".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: web, namespace: ns}\nspec: {encryptedData: {a: QQ==}}\n";

    fn summary(text: &str) -> (Vec<String>, Vec<String>) {
        let claims = read(text.as_bytes()).unwrap();
        let objects = claims.objects.iter().map(|claim| match &claim.sealed {
            Ok(_) => claim.id.to_string(),
            Err(why) => format!("{}: {why}", claim.id),
        });
        (objects.collect(), claims.problems)
    }

    #[test]
    fn the_error_for_a_missing_namespace_explains_what_to_add() {
        let without = GOOD.replace(", namespace: ns", "");
        let wide = |scope: &str, value: &str| {
            let annotations = format!(
                "{{name: web, annotations: {{sealedsecrets.bitnami.com/{scope}: {value}}}}}"
            );
            without.replace("{name: web}", &annotations)
        };
        for (text, want) in [
            (
                without.clone(),
                "add the namespace that the values were sealed for",
            ),
            (
                wide("namespace-wide", "\"true\""),
                "add the namespace that the values were sealed for",
            ),
            (
                wide("cluster-wide", "\"false\""),
                "add the namespace that the values were sealed for",
            ),
            (
                wide("cluster-wide", "\"true\""),
                "the values can be unsealed in any namespace",
            ),
        ] {
            let (objects, problems) = summary(&text);
            assert!(objects[0].starts_with("/web: "), "{objects:?}");
            assert!(objects[0].contains(want), "{text}: {objects:?}");
            assert!(problems[0].contains(want), "{text}: {problems:?}");
        }
    }

    #[test]
    fn reads_documents_lists_and_json() {
        let list = format!(
            "kind: List\nitems:\n- {}",
            GOOD.trim().replace('\n', "\n  ")
        );
        let json = "{\"apiVersion\":\"bitnami.com/v1alpha1\",\"kind\":\"SealedSecret\",\"metadata\":{\"name\":\"web\",\"namespace\":\"ns\"},\"spec\":{\"encryptedData\":{}}}";
        for (why, text, count) in [
            ("nothing", String::new(), 0),
            ("one", GOOD.to_owned(), 1),
            (
                "two",
                format!("{GOOD}---\n{}", GOOD.replace("name: web,", "name: db,")),
                2,
            ),
            ("a list", list, 1),
            ("JSON", json.to_owned(), 1),
            (
                "next to another kind",
                format!("kind: ConfigMap\n---\n{GOOD}"),
                1,
            ),
        ] {
            let (objects, problems) = summary(&text);
            assert_eq!((objects.len(), problems), (count, vec![]), "{why}");
        }
        let coerced = read(GOOD.replace("name: web", "name: on").as_bytes()).unwrap();
        assert_eq!(coerced.objects[0].id.name, "true");
        let sealed = coerced.objects[0].sealed.as_ref().unwrap();
        assert_eq!(sealed.metadata.name.as_deref(), Some("true"));
        let others = read(b"kind: Secret\n").unwrap().others;
        assert_eq!(
            others,
            ["document 1 has another kind; only SealedSecrets are processed"]
        );
    }

    #[test]
    fn reports_problems_with_their_location() {
        for (text, objects, problem) in [
            ("a: b\n", vec![], "document 1, line 1: it has no `kind`"),
            (
                &GOOD.replace(", namespace: ns", ""),
                vec![
                    "/web: metadata.namespace is missing; add the namespace that the values were sealed for",
                ],
                "document 1, line 1: metadata.namespace is missing",
            ),
            (
                &GOOD.replace("name: web,", "name: ../x,"),
                vec![],
                "document 1, line 1: metadata.name \"../x\" is invalid",
            ),
            (
                &GOOD.replace("v1alpha1", "v2"),
                vec![
                    "ns/web: it is bitnami.com/v2 SealedSecret, not bitnami.com/v1alpha1 SealedSecret",
                ],
                "document 1, line 1: it is bitnami.com/v2",
            ),
            (
                &GOOD.replace("spec: {", "spec: {template: [], "),
                vec!["ns/web: line 4: spec.template must be a mapping, not a list"],
                "document 1, line 1: line 4: spec.template",
            ),
        ] {
            let (got, problems) = summary(text);
            assert_eq!(got, objects, "{text}");
            assert_eq!(problems.len(), 1, "{text}");
            assert!(problems[0].starts_with(problem), "{problems:?}");
        }
        assert!(read(b"a: [").unwrap_err().contains("malformed YAML"));
    }
}
