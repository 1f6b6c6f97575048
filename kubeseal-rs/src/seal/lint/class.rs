//! Checks each `SecretProviderClass` of the provider `sealed`: first its own text and, after all files are read, the
//! SealedSecrets that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use class::objects::{self, Selection};
use class::{OBJECTS, PROVIDER};
use deliver::EntryBody;
use kubeseal_library::finding;
use shared::manifest::{Node, Value};
use template::Template;

use super::object::FindingInFile;
use super::placeholder::is_templated;
use crate::seal::object::Object;

const GROUP: &str = "secrets-store.csi.x-k8s.io/";
const KIND: &str = "SecretProviderClass";

/// Collects the classes and SealedSecrets of all files, to check that each class names existing SealedSecrets and
/// items.
#[derive(Default)]
pub(super) struct ClassCheck {
    classes: Vec<ClassInFile>,
    /// The SealedSecrets by name.
    sealed: BTreeMap<String, Vec<SealedInFile>>,
}

/// The SealedSecrets that a class names.
struct ClassInFile {
    file: PathBuf,
    /// The line of the parameter `objects`.
    line: usize,
    name: String,
    namespace: String,
    entries: Vec<EntryBody>,
}

struct SealedInFile {
    namespace: String,
    /// The item keys of the Secret; `None` if they are not known.
    items: Option<BTreeSet<String>>,
}

impl ClassCheck {
    /// Records the namespace and item names of a SealedSecret. Ignores an object that cannot be read.
    pub(super) fn add_sealed(&mut self, node: &Node) {
        let Ok(object) = Object::read_leniently(node) else {
            return;
        };
        let sealed = SealedInFile {
            namespace: literal_namespace(object.sealed.namespace_or_empty()),
            items: item_names(&object),
        };
        let name = object.sealed.name_or_empty().to_owned();
        self.sealed.entry(name).or_default().push(sealed);
    }

    /// Adds a class, and returns the findings about its own text. Ignores an object that is not a class of this
    /// provider.
    pub(super) fn add_class(&mut self, node: &Node, file: &Path) -> Vec<FindingInFile> {
        let Some(class) = ClassNode::of(node) else {
            return Vec::new();
        };
        let mut findings = class.secret_objects();
        findings.extend(class.unknown_parameters());
        match class.selection() {
            Ok(Some((line, selection))) => {
                let entries = selection.request.objects;
                findings.extend(template_findings(&entries, line));
                self.classes.push(class.in_file(file, line, entries));
            }
            Ok(None) => {}
            Err(finding) => findings.push(finding),
        }
        findings
    }

    /// Returns the findings about SealedSecrets that classes name, each with its file. With `is_tree`, a SealedSecret
    /// that no file defines is a finding too.
    pub(super) fn findings(&self, is_tree: bool) -> Vec<(&Path, FindingInFile)> {
        let findings = self.classes.iter().flat_map(|class| {
            let found = self.findings_of(class, is_tree);
            found
                .into_iter()
                .map(move |finding| (class.file.as_path(), finding))
        });
        findings.collect()
    }

    fn findings_of(&self, class: &ClassInFile, is_tree: bool) -> Vec<FindingInFile> {
        let mut findings = Vec::new();
        for (name, items) in named_items(&class.entries) {
            match (self.items_of(&class.namespace, name), items) {
                (Found::No, _) if is_tree => findings.push(class.missing_object(name)),
                (Found::WithItems(existing), Some(items)) => {
                    let missing = items
                        .iter()
                        .filter(|item| !existing.contains(item.as_str()));
                    findings.extend(missing.map(|item| class.missing_item(name, item)));
                }
                _ => {}
            }
        }
        findings
    }

    /// Returns the items of a SealedSecret. If several files define it, as overlays do, these are the items of all.
    fn items_of(&self, namespace: &str, name: &str) -> Found<'_> {
        let is_same = |other: &str| namespace.is_empty() || other.is_empty() || namespace == other;
        let all = self.sealed.get(name).into_iter().flatten();
        let all: Vec<_> = all.filter(|sealed| is_same(&sealed.namespace)).collect();
        if all.is_empty() {
            return Found::No;
        }
        let items: Option<Vec<_>> = all.iter().map(|sealed| sealed.items.as_ref()).collect();
        items.map_or(Found::Unknown, |items| {
            let items = items.into_iter().flatten();
            Found::WithItems(items.map(String::as_str).collect())
        })
    }
}

/// Whether the files define a SealedSecret.
enum Found<'a> {
    No,
    /// Yes, but the names of its items are not known.
    Unknown,
    WithItems(BTreeSet<&'a str>),
}

impl ClassInFile {
    fn missing_object(&self, name: &str) -> FindingInFile {
        let message = format!(
            "the class {} names the SealedSecret {name}, which none of these files defines: Pods with this class wait until it \
             exists in their namespace",
            self.name
        );
        (finding::CLASS_OBJECT, self.line, message)
    }

    fn missing_item(&self, name: &str, item: &str) -> FindingInFile {
        let message = format!(
            "the class {} names the item {item} of the SealedSecret {name}, which has no such item: Pods with this class do \
             not start",
            self.name
        );
        (finding::CLASS_ITEM, self.line, message)
    }
}

/// A class of the provider `sealed`.
struct ClassNode<'a> {
    node: &'a Node,
    spec: &'a Node,
}

impl<'a> ClassNode<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        let group = node.text("apiVersion").unwrap_or_default();
        let is_class = node.text("kind") == Some(KIND) && group.starts_with(GROUP);
        let spec = node.field("spec").filter(|_| is_class)?;
        (spec.text("provider") == Some(PROVIDER)).then_some(Self { node, spec })
    }

    fn metadata(&self, field: &str) -> &'a str {
        let metadata = self.node.field("metadata");
        let text = metadata.and_then(|metadata| metadata.text(field));
        text.unwrap_or_default()
    }

    fn in_file(&self, file: &Path, line: usize, entries: Vec<EntryBody>) -> ClassInFile {
        ClassInFile {
            file: file.to_owned(),
            line,
            name: self.metadata("name").to_owned(),
            namespace: literal_namespace(self.metadata("namespace")),
            entries,
        }
    }

    fn secret_objects(&self) -> Vec<FindingInFile> {
        let list = self.spec.field("secretObjects");
        let list = list.filter(|list| !matches!(&list.value, Value::Null) && !is_empty(list));
        let message = format!(
            "the class {} has `secretObjects`, so the CSI driver creates a Secret from the values, which delivery \
             without a Secret avoids; remove `secretObjects`, or use the Secret of the SealedSecret",
            self.metadata("name")
        );
        list.map(|list| (finding::CLASS_SECRET, list.line, message))
            .into_iter()
            .collect()
    }

    fn unknown_parameters(&self) -> Vec<FindingInFile> {
        let Some(Value::Map(parameters)) = self.parameters().map(|node| &node.value) else {
            return Vec::new();
        };
        let unknown = parameters.iter().filter(|(name, _)| name != OBJECTS);
        let finding = |(name, node): &(String, Node)| {
            let message = format!(
                "the class {} has the parameter {name}, which the provider {PROVIDER} does not know: it has no effect",
                self.metadata("name")
            );
            (finding::CLASS_PARAMETER, node.line, message)
        };
        unknown.map(finding).collect()
    }

    fn parameters(&self) -> Option<&'a Node> {
        self.spec.field("parameters")
    }

    /// Returns the items that the class selects, with the line of the parameter; `None` if the parameter is a template
    /// that cannot be parsed before rendering.
    fn selection(&self) -> Result<Option<(usize, Selection)>, FindingInFile> {
        let malformed = |line, problem: &str| {
            let message = format!("the class {}: {problem}", self.metadata("name"));
            (finding::CLASS, line, message)
        };
        let node = self.parameters().and_then(|node| node.field(OBJECTS));
        let Some(node) = node else {
            let problem = "the parameter `objects` is missing, so the class delivers nothing";
            return Err(malformed(self.spec.line, problem));
        };
        let Value::Text(text) = &node.value else {
            let problem = "the parameter `objects` is not a string: write `objects: |`, and indent the list below it";
            return Err(malformed(node.line, problem));
        };
        match objects::read(text) {
            Ok(selection) => Ok(Some((node.line, selection))),
            // The provider reads the rendered text, not this template.
            Err(_) if is_templated(text) => Ok(None),
            Err(error) => {
                let text = error.to_string();
                Err(malformed(node.line, &text.replace("\nhint: ", "; ")))
            }
        }
    }
}

fn is_empty(list: &Node) -> bool {
    matches!(&list.value, Value::List(items) if items.is_empty())
}

/// Returns the namespace, or an empty string if it contains a template.
fn literal_namespace(namespace: &str) -> String {
    if is_templated(namespace) {
        String::new()
    } else {
        namespace.to_owned()
    }
}

/// Returns the items of the Secret that a SealedSecret describes; `None` for the deprecated `spec.data`, and if a name
/// depends on a template.
fn item_names(object: &Object) -> Option<BTreeSet<String>> {
    let sealed = object.items.iter().map(|item| &item.key);
    let names: BTreeSet<String> = sealed.chain(object.templates()).cloned().collect();
    let is_known = object.sealed.spec.data.is_none();
    (is_known && !names.iter().any(|name| is_templated(name))).then_some(names)
}

/// Returns each SealedSecret that entries name, with its named items; `None` if only a template uses the SealedSecret.
/// Omits names that contain a template.
fn named_items(entries: &[EntryBody]) -> BTreeMap<&str, Option<BTreeSet<&String>>> {
    let mut named: BTreeMap<&str, Option<BTreeSet<&String>>> = BTreeMap::new();
    for entry in entries {
        for name in entry.from.iter().flatten() {
            named.entry(name).or_default();
        }
        if let Some(name) = &entry.sealed_secret {
            let items = entry.items.iter().flatten();
            let items = items.filter(|item| !is_templated(item));
            named
                .entry(name)
                .or_default()
                .get_or_insert_default()
                .extend(items);
        }
    }
    named.retain(|name, _| !is_templated(name));
    named
}

fn template_findings(entries: &[EntryBody], line: usize) -> Vec<FindingInFile> {
    let texts = entries.iter().filter_map(|entry| {
        let name = entry.path.as_deref().unwrap_or_default();
        Some((name, entry.template.as_deref()?))
    });
    let errors = texts.filter_map(|(name, text)| Template::parse(name, text).err());
    errors
        .map(|error| (finding::TEMPLATE, line, shared::error_chain(&error)))
        .collect()
}

#[cfg(test)]
mod tests {
    use shared::manifest;

    use super::*;

    const SEALED: &str = "
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: db, namespace: shop}
spec:
  encryptedData: {user: AgA=, password: AgA=}
  template: {data: {dsn: '{{ .user }}'}}
";

    /// Returns the rules of the findings about a class with these fields of its spec.
    fn rules(spec: &str, is_tree: bool) -> Vec<&'static str> {
        let class = format!(
            "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {{name: web, namespace: shop}}\n\
             spec:\n  provider: sealed\n{spec}"
        );
        rules_of(&class, is_tree)
    }

    fn rules_of(class: &str, is_tree: bool) -> Vec<&'static str> {
        let mut check = ClassCheck::default();
        let sealed = manifest::read(SEALED.as_bytes()).unwrap();
        check.add_sealed(&sealed[0].root);
        let class = manifest::read(class.as_bytes()).unwrap();
        let own = check.add_class(&class[0].root, Path::new("class.yaml"));
        let others = check.findings(is_tree);
        let others = others.iter().map(|(_, (rule, ..))| rule.name);
        own.iter()
            .map(|(rule, ..)| rule.name)
            .chain(others)
            .collect()
    }

    fn objects(yaml: &str) -> String {
        format!("  parameters: {{objects: {yaml:?}}}\n")
    }

    #[test]
    fn finds_mistakes_in_a_class() {
        let good = objects("- sealedSecret: db");
        for (why, spec, want) in [
            ("all items", good.clone(), &[][..]),
            (
                "items of the Secret",
                objects("- {sealedSecret: db, items: [user, dsn]}"),
                &[],
            ),
            (
                "a class that creates a Secret",
                format!("{good}  secretObjects: [{{secretName: db, type: Opaque, data: []}}]\n"),
                &["class-secret"],
            ),
            ("no Secret", format!("{good}  secretObjects: []\n"), &[]),
            (
                "a parameter for the Vault provider",
                "  parameters: {roleName: web, objects: '- sealedSecret: db'}\n".to_owned(),
                &["class-parameter"],
            ),
            (
                "a mistyped parameter",
                "  parameters: {object: ''}\n".to_owned(),
                &["class-parameter", "class"],
            ),
            ("no parameters", String::new(), &["class"]),
            (
                "a list instead of its text",
                "  parameters: {objects: [{sealedSecret: db}]}\n".to_owned(),
                &["class"],
            ),
            ("not YAML", objects("- sealedSecret: ["), &["class"]),
            (
                "an unknown field",
                objects("- {sealedSecret: db, item: a}"),
                &["class"],
            ),
            (
                "a path outside",
                objects("- {sealedSecret: db, path: ../}"),
                &["class"],
            ),
            (
                "no such item",
                objects("- {sealedSecret: db, items: [passphrase]}"),
                &["class-item"],
            ),
            (
                "two items that do not exist",
                objects("- {sealedSecret: db, items: [a]}\n- {sealedSecret: db, items: [b]}"),
                &["class-item", "class-item"],
            ),
            (
                "no such object",
                objects("- sealedSecret: web"),
                &["class-object"],
            ),
            (
                "a template that uses a missing object",
                objects("- {path: a, template: x, from: [db, web]}"),
                &["class-object"],
            ),
            (
                "a malformed template",
                objects("- {path: a, template: '{{ .db', from: [db]}"),
                &["template"],
            ),
            (
                "a name with a variable",
                objects("- {sealedSecret: '${NAME}'}"),
                &[],
            ),
            (
                "a string from a template",
                objects("{{ .Values.objects }}"),
                &[],
            ),
            (
                "an entry for the Vault provider",
                objects("- {objectName: a, secretPath: secret/data/db, secretKey: token}"),
                &["class-item"],
            ),
        ] {
            assert_eq!(rules(&spec, true), want, "{why}");
        }
    }

    #[test]
    fn single_files_do_not_show_which_objects_exist() {
        assert!(rules(&objects("- sealedSecret: web"), false).is_empty());
        let items = objects("- {sealedSecret: db, items: [passphrase]}");
        assert_eq!(rules(&items, false), ["class-item"]);
    }

    #[test]
    fn a_class_finds_its_objects_in_its_own_namespace() {
        let class = |namespace: &str| {
            format!(
                "{{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {{name: web, namespace: {namespace}}}, \
                 spec: {{provider: sealed, parameters: {{objects: '- sealedSecret: db'}}}}}}"
            )
        };
        for (namespace, want) in [
            ("shop", &[][..]),
            ("other", &["class-object"]),
            ("''", &[]),
            ("'${NAMESPACE}'", &[]),
        ] {
            assert_eq!(rules_of(&class(namespace), true), want, "{namespace}");
        }
    }

    #[test]
    fn classes_of_other_providers_are_not_checked() {
        let class = "{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, spec: {provider: vault}}";
        assert!(rules_of(class, true).is_empty());
    }
}
