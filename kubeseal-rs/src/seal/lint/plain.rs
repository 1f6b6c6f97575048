//! Finds plaintext values in Secrets, and in literals and files of a `secretGenerator` of kustomize.

use std::path::Path;

use kubeseal_library::finding;
use kubeseal_library::walk::LISTS;
use shared::base64;
use shared::key_secret::has_key_label;
use shared::manifest::{Node, Reading, Value, is_same_name};
use shared::names;
use shared::secret::Secret;

use super::object::FindingInFile;
use super::placeholder::{LITERAL, is_placeholder, is_templated};
use super::template::Literals;
use super::{patch, sops};
use crate::seal::controller_keys::KnownKeys;

/// The kind of a generator of Secrets in a separate file.
pub(super) const SECRET_GENERATOR: &str = "SecretGenerator";

/// The maximum number of keys in a message.
const MAX_SHOWN: usize = 5;

/// Reports a Secret with plaintext values. Ignores placeholders, and SOPS ciphertexts in an object with SOPS metadata.
pub(super) fn secret(
    node: &Node,
    literals: &Literals<'_>,
    has_sops: bool,
    known: &KnownKeys,
) -> Option<FindingInFile> {
    let has_sops = has_sops || node.field("sops").is_some();
    let plain = plain_fields(node, literals, has_sops);
    if plain.is_empty() {
        return None;
    }
    let name = name_of(node);
    let message = if is_key(node, known) {
        format!(
            "the Secret {name} contains a private key of the controller, which can unseal every value sealed for it; if \
             it was committed, run `seal keys compromise`, renew the key, and change these values"
        )
    } else {
        format!(
            "the {} {name} has plain values: {}; seal it with `seal -i`, and change the values if they were \
             committed",
            kind_of(node),
            join_first_keys(&plain.iter().map(String::as_str).collect::<Vec<_>>())
        )
    };
    Some((finding::PLAIN_SECRET, node.line, message))
}

/// Returns whether an object is a private key of a controller, including a retired key and a key without its label.
fn is_key(node: &Node, known: &KnownKeys) -> bool {
    let labels = node.field("metadata").and_then(|m| m.field("labels"));
    let is_labeled = matches!(labels.map(|labels| &labels.value), Some(Value::Map(labels))
        if has_key_label(labels.iter().map(|(name, _)| name)));
    let secret = Secret::from_node(node, &mut Reading::default());
    is_labeled || secret.is_ok_and(|secret| known.has_private_key(&secret))
}

/// Returns the kind of an object, for messages.
fn kind_of(node: &Node) -> &str {
    let kind = node.text("kind").unwrap_or_default();
    if kind.is_empty() || is_templated(kind) {
        "Secret"
    } else {
        kind
    }
}

/// Returns the keys of the plaintext values in `data` and `stringData`.
pub(super) fn plain_fields(node: &Node, literals: &Literals<'_>, has_sops: bool) -> Vec<String> {
    let values = |field| values(node, field, literals, has_sops);
    [values("data"), values("stringData")].concat()
}

/// Returns whether an object is a Secret although its kind does not show this. The kind can be missing (`kubeseal`
/// accepts this), come from a template, or be misspelled in the core API, where only Secrets have `stringData`.
pub(super) fn is_secret_of_unknown_kind(node: &Node) -> bool {
    let text = |name| node.text(name).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let is_unknown = kind.is_empty() || is_templated(kind);
    is_unknown && (version.is_empty() || is_v1(version)) && has_values_of_secret(node)
        || version == "v1" && has_string_data(node)
}

/// Returns whether an object may be a Secret. `kind` and `apiVersion` can occur in several branches of a template, and
/// in several variants that differ in letter case, so one match is enough; a templated `apiVersion` matches too. A kind
/// such as `secret` or `Secrets`, or another `apiVersion`, is a mistake if the object has the values of a Secret.
pub(super) fn may_be_secret(node: &Node) -> bool {
    let has_kind = |is_match: fn(&str) -> bool| node.texts("kind").any(is_match);
    let has_version = node.texts("apiVersion").next().is_some();
    let has_v1 = node.texts("apiVersion").any(is_v1);
    if has_kind(|kind| kind == "Secret") && (!has_version || has_v1) {
        return true;
    }
    let is_object = has_v1 && node.field("metadata").is_some();
    has_kind(names_secret) && (is_object || has_values_of_secret(node))
}

fn names_secret(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("Secret") || kind.eq_ignore_ascii_case("Secrets")
}

/// Returns whether an `apiVersion` is `v1`, the version of Secrets, or may become `v1` when a template is rendered.
pub(super) fn is_v1(version: &str) -> bool {
    version.eq_ignore_ascii_case("v1") || is_templated(version)
}

/// Returns whether an object has `stringData`, or metadata and `data` in base64. `data` alone is a common name in other
/// objects, and in files that are not manifests.
fn has_values_of_secret(node: &Node) -> bool {
    let maps = |name| {
        node.fields(name).filter_map(|node| match &node.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        })
    };
    let is_encoded = |(_, node): &(String, Node)| match &node.value {
        Value::Null => true,
        Value::Text(text) => {
            is_placeholder(text, &Literals::default()) || base64::decode(text.as_bytes()).is_ok()
        }
        _ => false,
    };
    let mut data = maps("data");
    has_string_data(node)
        || maps("metadata").next().is_some() && data.any(|data| data.iter().all(is_encoded))
}

fn has_string_data(node: &Node) -> bool {
    let mut fields = node.fields("stringData");
    fields.any(|field| !matches!(field.value, Value::Null))
}

/// Returns the keys of the plaintext values in each field with this name or a variant of it. A field that is not a
/// mapping may be a value itself, and is returned by its name. A field whose name comes from a template counts as
/// `stringData`.
fn values(secret: &Node, field: &str, literals: &Literals<'_>, has_sops: bool) -> Vec<String> {
    // The branches of a template may have the same field, so each counts.
    let fields = match &secret.value {
        Value::Map(fields) => fields.as_slice(),
        _ => &[],
    };
    let is_same =
        |name: &str| is_same_name(name, field) || field == "stringData" && is_templated(name);
    let matching_fields = fields.iter().filter(|(name, _)| is_same(name));
    let is_plain = |node: &Node| {
        !(has_sops && is_sops_ciphertext(node)) && is_value(node, field == "data", literals)
    };
    let mut keys = Vec::new();
    for (name, node) in matching_fields {
        match &node.value {
            Value::Map(entries) => {
                let plain = entries.iter().filter(|(_, node)| is_plain(node));
                keys.extend(plain.map(|(key, _)| shown_key(key).to_owned()));
            }
            Value::List(items) if !items.iter().any(is_plain) => {}
            _ if is_plain(node) => {
                keys.push(format!("{name} ({}, not a mapping)", node.kind()));
            }
            _ => {}
        }
    }
    keys
}

/// Returns a key as it is shown. The key of an action that outputs whole entries is not known.
fn shown_key(key: &str) -> &str {
    if key == LITERAL {
        "keys of a template action"
    } else {
        key
    }
}

/// Returns whether a value is a ciphertext of sops. A file of sops may also contain plaintext values.
pub(super) fn is_sops_ciphertext(node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if sops::is_ciphertext(text))
}

/// Returns whether a node is a plaintext value. `is_encoded` is whether values are in base64.
pub(super) fn is_value(node: &Node, is_encoded: bool, literals: &Literals<'_>) -> bool {
    match &node.value {
        Value::Null => false,
        Value::Text(text) if is_placeholder(text, literals) => false,
        Value::Text(text) if is_encoded => !encodes_placeholder(text, literals),
        _ => true,
    }
}

fn encodes_placeholder(encoded: &str, literals: &Literals<'_>) -> bool {
    let decoded = base64::decode(encoded.as_bytes()).ok();
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    text.is_some_and(|text| is_placeholder(&text, literals))
}

/// Returns a finding for each generator with plain literals, in a kustomization or in a separate file.
pub(super) fn generators(root: &Node, literals: &Literals<'_>) -> Vec<FindingInFile> {
    let nodes = secret_generators(root).into_iter();
    nodes
        .filter_map(|node| check_generator(node, literals))
        .collect()
}

/// A file that a generator of a kustomization reads values from, or a patch of a Secret.
pub(super) struct GeneratorFile<'a> {
    /// The name of the generator; empty for a patch.
    pub(super) generator: &'a str,
    /// The line that names the file.
    pub(super) line: usize,
    /// The path of the file, relative to the directory of the kustomization.
    pub(super) path: &'a str,
    /// The form of the file.
    pub(super) form: FileForm,
    /// The key for the whole file, if it is one value.
    pub(super) key: Option<&'a str>,
}

/// The form of a file with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileForm {
    /// The file is one value.
    Value,
    /// A dotenv file, where each variable is a key.
    Variables,
    /// A patch of a Secret.
    Patch,
}

/// Returns the files that the generators of a document read, and the patches of Secrets that it applies.
pub(super) fn generator_files(root: &Node) -> Vec<GeneratorFile<'_>> {
    let mut files = Vec::new();
    for node in secret_generators(root) {
        let generator = name_of(node);
        let mut add = |field: &'static str, is_one_value: bool| {
            for (line, text) in node.fields(field).flat_map(lines) {
                let (key, path) = match text.split_once('=') {
                    Some((key, path)) if is_one_value => (Some(key), path),
                    _ if is_one_value => (text.rsplit('/').next(), text),
                    _ => (None, text),
                };
                let form = if is_one_value {
                    FileForm::Value
                } else {
                    FileForm::Variables
                };
                files.push(GeneratorFile {
                    generator,
                    line,
                    path,
                    form,
                    key,
                });
            }
        };
        add("files", true);
        add("envs", false);
        add("env", false);
    }
    let patches = patch::files(root).into_iter();
    files.extend(patches.map(|(line, path)| GeneratorFile {
        generator: "",
        line,
        path,
        form: FileForm::Patch,
        key: None,
    }));
    files
}

/// Returns the directories that paths in a document may be relative to. In a kustomization, paths are relative to its
/// own directory. In a generator in a separate file, paths are relative to the kustomization that names this file,
/// which is in the same directory or above.
pub(super) fn base_directories<'a>(root: &Node, manifest: &'a Path) -> Vec<&'a Path> {
    let directory = manifest.parent().unwrap_or(Path::new(""));
    if root.texts("kind").any(|kind| kind == SECRET_GENERATOR) {
        directory.ancestors().collect()
    } else {
        vec![directory]
    }
}

/// Returns the items of a list, or a single value where kustomize requires a list.
fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// Returns the strings of a list, or a single string, with their lines.
fn lines(node: &Node) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    for item in items(node) {
        if let Value::Text(text) = &item.value {
            lines.push((item.line, text.as_str()));
        }
    }
    lines
}

/// Returns the finding for a file that a generator reads, with the keys of its plaintext values.
pub(super) fn generator_file(
    file: &GeneratorFile<'_>,
    shown: &str,
    plain: &PlainKeys,
) -> Option<FindingInFile> {
    if plain.count == 0 {
        return None;
    }
    let keys = file.key.map_or_else(|| plain.text(), str::to_owned);
    let subject = match file.form {
        FileForm::Patch => "a patch of a Secret".to_owned(),
        _ => format!("the secretGenerator {}", file.generator),
    };
    let message = format!(
        "{subject} has plain values in {shown}: {keys}; seal them with `seal create`, and change the values if they were \
         committed"
    );
    Some((finding::PLAIN_SECRET, file.line, message))
}

/// Returns the keys of the plaintext values in a dotenv file.
pub(super) fn plain_variables(bytes: &[u8]) -> PlainKeys {
    let text = String::from_utf8_lossy(bytes);
    let has_sops = sops::has_mac(&text);
    let is_plain = |key: &str, value: &str| {
        !(has_sops && (sops::is_ciphertext(value) || sops::is_metadata(key)))
            && !is_placeholder(value, &Literals::default())
    };
    let plain = variables(&text).filter(|(key, value)| is_plain(key, value));
    PlainKeys::of(plain.map(|(key, _)| key))
}

/// Returns whether a file that is one value is in plaintext: not a placeholder, and not encrypted by sops.
pub(super) fn is_plain_file(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    !is_placeholder(&text, &Literals::default()) && !sops::is_encrypted(&text)
}

/// Returns the variables of a file as kustomize reads them. A line without `=` is skipped: kustomize takes its value
/// from the environment. An invalid name may be a value, so it is replaced.
fn variables(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let key = if names::check_item(key).is_ok() {
            key
        } else {
            "a value without a key"
        };
        Some((key, value))
    })
}

/// Returns the name of an object or a generator, for messages.
pub(super) fn name_of(node: &Node) -> &str {
    let metadata = node.field("metadata").and_then(|m| m.text("name"));
    metadata
        .or_else(|| node.text("name"))
        .unwrap_or("without a name")
}

/// Returns the generators of Secrets in a document. kustomize ignores letter case in the names of fields, and of
/// several variants of a name it uses one, so each counts.
fn secret_generators(root: &Node) -> Vec<&Node> {
    let mut generators = secret_generators_of_object(root);
    if root.texts("kind").any(|kind| LISTS.contains(&kind)) {
        let objects = root.fields("items").flat_map(items);
        generators.extend(objects.flat_map(secret_generators));
    }
    generators
}

fn secret_generators_of_object(object: &Node) -> Vec<&Node> {
    let has_kind = |is_match: fn(&str) -> bool| object.texts("kind").any(is_match);
    if has_kind(|kind| kind == SECRET_GENERATOR) {
        return vec![object];
    }
    let is_kustomization =
        has_kind(|kind| ["", "Kustomization", "Component"].contains(&kind) || is_templated(kind));
    if is_kustomization || object.texts("kind").next().is_none() {
        object.fields("secretGenerator").flat_map(items).collect()
    } else {
        Vec::new()
    }
}

fn check_generator(node: &Node, literals: &Literals<'_>) -> Option<FindingInFile> {
    let keys = |list| plain_literals(list, literals);
    let plain: Vec<&str> = node.fields("literals").flat_map(keys).collect();
    if plain.is_empty() {
        return None;
    }
    let name = name_of(node);
    let message = format!(
        "the secretGenerator {name} has plain values: {}; seal them with `seal create`, and change \
         the values if they were committed",
        join_first_keys(&plain)
    );
    let mut lists = node.fields("literals");
    let list = lists.find(|list| !plain_literals(list, literals).is_empty())?;
    Some((finding::PLAIN_SECRET, list.line, message))
}

/// Returns the keys of the plaintext values in the literals of a generator.
fn plain_literals<'a>(list: &'a Node, literals: &Literals<'_>) -> Vec<&'a str> {
    if let Value::Map(entries) = &list.value {
        // kustomize rejects a mapping, but it contains the values nevertheless.
        let is_plain = |node: &Node| is_value(node, false, literals);
        let plain = entries.iter().filter(|(_, node)| is_plain(node));
        return plain.map(|(key, _)| key.as_str()).collect();
    }
    let items = items(list).iter();
    items
        .filter_map(|item| key_of_value(item, literals))
        .collect()
}

/// Returns the key of a literal, if its value is not a placeholder.
fn key_of_value<'a>(literal: &'a Node, literals: &Literals<'_>) -> Option<&'a str> {
    let text = match &literal.value {
        Value::Text(text) => text,
        Value::Null => return None,
        _ => return Some("a value without a key"),
    };
    let (key, value) = text.split_once('=').unwrap_or(("", text));
    let unquoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    // An invalid key may be a value, so the message does not repeat it.
    let key = if names::check_item(key).is_ok() {
        key
    } else {
        "a value without a key"
    };
    (!is_placeholder(unquoted.unwrap_or(value), literals)).then_some(key)
}

/// Returns the first keys, separated by commas, and the number of the remaining keys.
pub(super) fn join_first_keys(keys: &[&str]) -> String {
    PlainKeys::of(keys.iter().copied()).text()
}

/// The first keys of plaintext values, and the total number of keys. Other keys are not kept, because a file may
/// contain thousands of keys and be named thousands of times.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PlainKeys {
    first: Vec<String>,
    count: usize,
}

impl PlainKeys {
    /// Counts the keys, and keeps only the first keys.
    pub(super) fn of<'a>(mut keys: impl Iterator<Item = &'a str>) -> Self {
        let first: Vec<String> = keys.by_ref().take(MAX_SHOWN).map(str::to_owned).collect();
        let count = first.len() + keys.count();
        Self { first, count }
    }

    fn text(&self) -> String {
        let rest = match self.count - self.first.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        format!("{}{rest}", self.first.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use shared::manifest;

    use super::*;

    fn message(
        check: impl Fn(&Node, &Literals<'_>) -> Option<FindingInFile>,
        text: &str,
    ) -> Option<String> {
        let documents = manifest::read(text.as_bytes()).unwrap();
        check(&documents[0].root, &Literals::default()).map(|(_, _, message)| message)
    }

    #[test]
    fn reports_values_but_not_placeholders() {
        for (text, want) in [
            ("stringData: {a: '${A}', b: '{{ .b }}', c: '', d: }", None),
            (
                "data: {a: '', b: JHtBfQ==, c: '{{ .c | b64enc }}', d: Cg==}",
                None,
            ),
            ("stringData: {a: '${A}', b: hunter2}", Some("values: b;")),
            ("data: {a: '', b: aHVudGVyMg==}", Some("values: b;")),
            ("data: {a: '!!'}", Some("values: a;")),
            (
                "data: {a: aHVudGVyMg==}\nstringData: {a: ''}",
                Some("values: a;"),
            ),
            ("stringData: {a: 1}", Some("values: a;")),
            (
                "stringData: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1}",
                Some("a, b, c, d, e and 2 more;"),
            ),
            ("stringData: {a: x}\nsops: {}", Some("values: a;")),
            (
                "stringData: {a: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}\nsops: {}",
                None,
            ),
            (
                "stringData: {a: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}",
                Some("values: a;"),
            ),
            ("stringData: {}", None),
        ] {
            let finding = message(
                |node, literals| secret(node, literals, false, &KnownKeys::default()),
                text,
            );
            match (&finding, want) {
                (None, None) => {}
                (Some(finding), Some(want)) if finding.contains(want) => {}
                _ => unreachable!("{text}: {finding:?}"),
            }
        }
    }

    #[test]
    fn literals_of_a_generator_count_as_values_unless_they_are_placeholders() {
        let first =
            |node: &Node, literals: &Literals<'_>| generators(node, literals).into_iter().next();
        for (text, want) in [
            (
                "secretGenerator: [{name: db, literals: [a=hunter2, 'b=${B}']}]",
                Some("values: a;"),
            ),
            (
                "kind: Kustomization\nsecretGenerator: [{name: db, literals: ['a=\"hunter2\"']}]",
                Some("values: a;"),
            ),
            (
                "kind: SecretGenerator\nmetadata: {name: db}\nliterals: [a=hunter2]",
                Some("secretGenerator db has"),
            ),
            (
                "secretGenerator: [{literals: [hunter2]}]",
                Some("values: a value without a key;"),
            ),
            (
                "secretGenerator: [{literals: ['a=', 'b=\"\"', 'c=CHANGEME']}]",
                None,
            ),
            ("secretGenerator: [{files: [a.txt], envs: [.env]}]", None),
            ("configMapGenerator: [{literals: [a=b]}]", None),
            (
                "kind: Deployment\nsecretGenerator: [{literals: [a=b]}]",
                None,
            ),
        ] {
            let finding = message(first, text);
            match (&finding, want) {
                (None, None) => {}
                (Some(finding), Some(want)) if finding.contains(want) => {}
                _ => unreachable!("{text}: {finding:?}"),
            }
            assert!(!finding.unwrap_or_default().contains("hunter2"), "{text}");
        }
    }
}
