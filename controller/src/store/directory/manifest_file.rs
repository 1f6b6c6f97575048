//! Parses a manifest file into the SealedSecrets that it contains.

use std::sync::Arc;

use controller_core::object_id::ObjectId;
use shared::error_chain;
use shared::manifest::{self, Document, Node, Reading};
use shared::resource::SealedSecret;
use shared::scope::CLUSTER_WIDE_ANNOTATION;
use shared::v2;

use super::names::{NameError, check_name, check_namespace};

/// The content of a manifest file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ManifestFile {
    /// The SealedSecrets whose name is valid and whose namespace is valid or missing.
    pub(super) objects: Vec<FileObject>,
    /// Problems with documents, each with a line, and most with a document number.
    pub(super) problems: Vec<String>,
    /// One message for each document that is ignored because of its kind.
    pub(super) ignored: Vec<String>,
}

/// One SealedSecret in a file.
#[derive(Debug, PartialEq)]
pub(super) struct FileObject {
    /// The namespace and name. The namespace is empty if it is missing.
    pub(super) id: ObjectId,
    /// The SealedSecret, or the reason why it is invalid.
    pub(super) sealed: Result<Arc<SealedSecret>, String>,
}

impl FileObject {
    fn is_v2(&self) -> bool {
        let sealed = self.sealed.as_ref();
        sealed.is_ok_and(|sealed| v2::is_v2(&sealed.spec.encrypted_data))
    }
}

/// Parses all documents in a file, including the items of lists.
///
/// # Errors
///
/// Returns an error if the file is not valid YAML or JSON. Problems of single documents are part of the result.
pub(super) fn read(bytes: &[u8]) -> Result<ManifestFile, String> {
    let documents = manifest::read(bytes).map_err(|error| error_chain(&error))?;
    let mut file = ManifestFile::default();
    for document in &documents {
        for node in document.root.list_items(&["List", "SealedSecretList"]) {
            file.add(document.number, node);
        }
    }
    file.refuse_repeated_keys(bytes);
    Ok(file)
}

impl ManifestFile {
    fn add(&mut self, number: usize, node: &Node) {
        match node.text("kind").unwrap_or_default() {
            "SealedSecret" => self.add_sealed(number, node),
            "" => self.add_problem(
                number,
                node,
                "it has no `kind`; this directory may contain only manifests",
            ),
            _ => {
                // Do not quote the kind, since a file that is not a manifest can have a secret in that field.
                self.ignored.push(format!(
                    "document {number} is not a SealedSecret; documents of other kinds are ignored"
                ));
            }
        }
    }

    fn add_sealed(&mut self, number: usize, node: &Node) {
        let id = match identity(node) {
            Ok(id) => id,
            Err(problem) => return self.add_problem(number, node, &problem),
        };
        let sealed = if id.namespace.is_empty() {
            Err(error_chain(&missing_namespace_error(node)))
        } else {
            parse_sealed(number, node)
        };
        if let Err(problem) = &sealed {
            self.add_problem(number, node, problem);
        }
        self.objects.push(FileObject { id, sealed });
    }

    /// Refuses the v2 objects of a file that repeats a key anywhere: programs that keep different entries would read
    /// different values or templates. v1 objects are parsed as in upstream.
    fn refuse_repeated_keys(&mut self, bytes: &[u8]) {
        let objects = self.objects.iter_mut();
        let v2_objects: Vec<_> = objects.filter(|object| object.is_v2()).collect();
        if v2_objects.is_empty() {
            return;
        }
        let Some(repeated) = manifest::repeated_keys(bytes, |_| true).into_iter().next() else {
            return;
        };
        let problem = format!(
            "line {}: this key occurs twice in its mapping, and the file contains values that are sealed as v2; remove one of \
             the two entries",
            repeated.line
        );
        for object in v2_objects {
            object.sealed = Err(problem.clone());
        }
        self.problems.push(problem);
    }

    fn add_problem(&mut self, number: usize, node: &Node, problem: &str) {
        let line = node.line;
        self.problems
            .push(format!("document {number}, line {line}: {problem}"));
    }
}

/// Returns the namespace and name, parsed in the same way as the complete object: an unquoted `name: on` means `true`.
/// The namespace is empty if it is missing: such an object has a status but no Secret.
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

fn missing_namespace_error(node: &Node) -> NameError {
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

fn parse_sealed(number: usize, node: &Node) -> Result<Arc<SealedSecret>, String> {
    let root = node.clone();
    let (mut sealed, _) = SealedSecret::all_from_document(&Document { number, root })
        .map_err(|error| error_chain(&error))?;
    let sealed = sealed.pop().map(Arc::new);
    sealed.ok_or_else(|| "contains no SealedSecret".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: web, namespace: ns}\nspec: {encryptedData: {a: QQ==}}\n";

    /// Returns the objects in a file as strings, and the problems.
    fn summary(text: &str) -> (Vec<String>, Vec<String>) {
        let file = read(text.as_bytes()).unwrap();
        let objects = file.objects.iter().map(|object| match &object.sealed {
            Ok(_) => object.id.to_string(),
            Err(problem) => format!("{}: {problem}", object.id),
        });
        (objects.collect(), file.problems)
    }

    #[test]
    fn the_error_for_a_missing_namespace_explains_what_to_add() {
        let without_namespace = VALID.replace(", namespace: ns", "");
        let with_scope = |scope: &str, value: &str| {
            let annotations = format!(
                "{{name: web, annotations: {{sealedsecrets.bitnami.com/{scope}: {value}}}}}"
            );
            without_namespace.replace("{name: web}", &annotations)
        };
        for (text, want) in [
            (
                without_namespace.clone(),
                "add the namespace that the values were sealed for",
            ),
            (
                with_scope("namespace-wide", "\"true\""),
                "add the namespace that the values were sealed for",
            ),
            (
                with_scope("cluster-wide", "\"false\""),
                "add the namespace that the values were sealed for",
            ),
            (
                with_scope("cluster-wide", "\"true\""),
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
    fn parses_documents_lists_and_json() {
        let list = format!(
            "kind: List\nitems:\n- {}",
            VALID.trim().replace('\n', "\n  ")
        );
        let json = "{\"apiVersion\":\"bitnami.com/v1alpha1\",\"kind\":\"SealedSecret\",\"metadata\":{\"name\":\"web\",\"namespace\":\"ns\"},\"spec\":{\"encryptedData\":{}}}";
        for (case_name, text, count) in [
            ("no document", String::new(), 0),
            ("one document", VALID.to_owned(), 1),
            (
                "two documents",
                format!("{VALID}---\n{}", VALID.replace("name: web,", "name: db,")),
                2,
            ),
            ("a list", list, 1),
            ("JSON", json.to_owned(), 1),
            (
                "next to another kind",
                format!("kind: ConfigMap\n---\n{VALID}"),
                1,
            ),
        ] {
            let (objects, problems) = summary(&text);
            assert_eq!((objects.len(), problems), (count, vec![]), "{case_name}");
        }
        let coerced = read(VALID.replace("name: web", "name: on").as_bytes()).unwrap();
        assert_eq!(coerced.objects[0].id.name, "true");
        let sealed = coerced.objects[0].sealed.as_ref().unwrap();
        assert_eq!(sealed.metadata.name.as_deref(), Some("true"));
        let ignored = read(b"kind: Secret\n").unwrap().ignored;
        assert_eq!(
            ignored,
            ["document 1 is not a SealedSecret; documents of other kinds are ignored"]
        );
    }

    /// Attack: an editor repeats a key, so that a reviewer's program shows a value that the controller does not use.
    #[test]
    fn a_repeated_key_in_a_file_with_v2_values_is_refused() {
        let v2 = VALID.replace("{a: QQ==}", "{a: seal2.s.AA}");
        let repeated =
            |text: &str| text.replace("spec: {", "spec: {template: {type: x}, template: {}, ");
        for (text, is_refused) in [
            (repeated(VALID), false),
            (v2.clone(), false),
            (repeated(&v2), true),
            (v2.replace("{a:", "{a: QQ==, a:"), true),
            (
                format!(
                    "{}---\nkind: A\n",
                    v2.replace("ns}", "ns, labels: {x: y, x: z}}")
                ),
                true,
            ),
        ] {
            let (objects, problems) = summary(&text);
            let is_reported = problems
                .iter()
                .any(|problem| problem.contains("occurs twice"));
            assert_eq!(is_reported, is_refused, "{text}: {problems:?}");
            assert_eq!(objects[0].contains("occurs twice"), is_refused, "{text}");
        }
    }

    #[test]
    fn reports_problems_with_their_location() {
        for (text, objects, problem) in [
            ("a: b\n", vec![], "document 1, line 1: it has no `kind`"),
            (
                &VALID.replace(", namespace: ns", ""),
                vec![
                    "/web: metadata.namespace is missing; add the namespace that the values were sealed for",
                ],
                "document 1, line 1: metadata.namespace is missing",
            ),
            (
                &VALID.replace("name: web,", "name: ../x,"),
                vec![],
                "document 1, line 1: metadata.name \"../x\" is not a valid Secret name",
            ),
            (
                &VALID.replace("v1alpha1", "v2"),
                vec![
                    "ns/web: it is bitnami.com/v2 SealedSecret, not bitnami.com/v1alpha1 SealedSecret",
                ],
                "document 1, line 1: it is bitnami.com/v2",
            ),
            (
                &VALID.replace("spec: {", "spec: {template: [], "),
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
