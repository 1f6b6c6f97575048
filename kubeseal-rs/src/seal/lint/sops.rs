//! Recognizes values and files that sops encrypted. The metadata alone proves nothing: sops can leave values in
//! plaintext, so each value is checked. Also finds the values of a `SopsSecret` that is not encrypted.

use std::sync::LazyLock;

use kubeseal_library::finding;
use regex::Regex;
use shared::manifest::{self, Node, Value};

use super::object::FindingInFile;
use super::plain::{join_first_keys, name_of, plain_fields};
use super::template::Literals;

/// Matches a ciphertext of sops.
static CIPHERTEXT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let base64 = "[A-Za-z0-9+/=]";
    let ciphertext =
        format!(r"^ENC\[AES256_GCM,data:{base64}*,iv:{base64}+,tag:{base64}+,type:[a-z]+\]$");
    Regex::new(&ciphertext).ok()
});

/// Matches the keys of the metadata in a dotenv file.
static METADATA: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let keys = "age|azure_kv|encrypted|gcp_kms|hc_vault|hckms|key_groups|kms|lastmodified|mac|pgp|shamir|unencrypted|version";
    Regex::new(&format!("^sops_({keys})([0-9a-z_]*)$")).ok()
});

/// Returns whether a string is a sops ciphertext.
pub(super) fn is_ciphertext(text: &str) -> bool {
    let text = text.trim();
    CIPHERTEXT
        .as_ref()
        .is_some_and(|ciphertext| ciphertext.is_match(text))
}

/// Returns whether a variable is metadata.
pub(super) fn is_metadata(key: &str) -> bool {
    METADATA
        .as_ref()
        .is_some_and(|metadata| metadata.is_match(key))
}

/// Returns whether a dotenv file contains the sops MAC.
pub(super) fn has_mac(text: &str) -> bool {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .any(|(key, value)| key.trim() == "sops_mac" && is_ciphertext(value))
}

/// Returns whether a file has the sops MAC, and every nonempty value is a sops ciphertext. Supports the sops formats
/// YAML, JSON, dotenv and INI.
pub(super) fn is_encrypted(text: &str) -> bool {
    if !text.contains("sops") {
        return false;
    }
    match manifest::read(text.as_bytes()).as_deref() {
        Ok([document]) if matches!(document.root.value, Value::Map(_)) => {
            is_encrypted_mapping(&document.root)
        }
        _ => are_encrypted_lines(text),
    }
}

/// Returns a finding if a `SopsSecret` of the sops operator contains plaintext values. The check for Secrets does not find
/// them, since the entries of `secretTemplates` have no `kind`.
pub(super) fn secret(
    node: &Node,
    literals: &Literals<'_>,
    has_sops: bool,
) -> Option<FindingInFile> {
    let has_sops = has_sops || node.field("sops").is_some();
    if node.text("kind") != Some("SopsSecret") {
        return None;
    }
    let Value::List(templates) = &node.field("spec")?.field("secretTemplates")?.value else {
        return None;
    };
    let keys = templates
        .iter()
        .flat_map(|template| plain_fields(template, literals, has_sops));
    let keys: Vec<String> = keys.collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let message = format!(
        "the SopsSecret {} has plain values: {}; encrypt it with `sops`, and change the values if they were committed",
        name_of(node),
        join_first_keys(&keys)
    );
    (!keys.is_empty()).then_some((finding::PLAIN_SECRET, node.line, message))
}

fn is_encrypted_mapping(root: &Node) -> bool {
    let Value::Map(fields) = &root.value else {
        return false;
    };
    let metadata = root.field("sops");
    let has_mac = metadata
        .and_then(|metadata| metadata.text("mac"))
        .is_some_and(is_ciphertext);
    let mut others = fields.iter().filter(|(key, _)| key != "sops");
    has_mac && others.all(|(_, value)| is_encrypted_node(value))
}

fn is_encrypted_node(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Text(text) => text.is_empty() || is_ciphertext(text),
        Value::List(items) => items.iter().all(is_encrypted_node),
        Value::Map(fields) => fields.iter().all(|(_, value)| is_encrypted_node(value)),
        _ => false,
    }
}

/// Returns whether a dotenv or INI file has the sops MAC, and every nonempty value is a sops ciphertext. In INI, the
/// metadata is in a section.
fn are_encrypted_lines(text: &str) -> bool {
    let (mut is_in_metadata, mut has_mac) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') && line.ends_with(']') {
            is_in_metadata = line == "[sops]";
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return false;
        };
        let key = key.trim();
        let is_metadata = is_metadata(key) || is_in_metadata && is_metadata(&format!("sops_{key}"));
        has_mac |= is_metadata && key.ends_with("mac") && is_ciphertext(value);
        if !is_metadata && !is_ciphertext(value) && !value.trim().is_empty() {
            return false;
        }
    }
    has_mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCRYPTED: &str = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]";

    #[test]
    fn a_file_is_encrypted_if_each_value_is() {
        let mac = format!("sops: {{mac: '{ENCRYPTED}', version: 3.9.0}}");
        for (text, want) in [
            (format!("a: {ENCRYPTED}\n{mac}\n"), true),
            (format!("a: [{{b: '{ENCRYPTED}'}}, '', ]\n{mac}\n"), true),
            (format!("{{\"data\": \"{ENCRYPTED}\", {mac}}}"), true),
            (
                format!("a={ENCRYPTED}\nsops_mac={ENCRYPTED}\nsops_age__list_0__map_enc=x\n"),
                true,
            ),
            (
                format!("[a]\nb = {ENCRYPTED}\n[sops]\nmac = {ENCRYPTED}\nversion = 3\n"),
                true,
            ),
            (format!("a: hunter2\n{mac}\n"), false),
            (format!("a: {ENCRYPTED}\nb: [1]\n{mac}\n"), false),
            (format!("a: {ENCRYPTED}\nsops: {{}}\n"), false),
            (
                format!("a={ENCRYPTED}\nb=hunter2\nsops_mac={ENCRYPTED}\n"),
                false,
            ),
            (format!("sops_pw=hunter2\nsops_mac={ENCRYPTED}\n"), false),
            (format!("hunter2 sops {ENCRYPTED}"), false),
            ("hunter2 sops ENC[".to_owned(), false),
            (format!("# sops ENC[\na={ENCRYPTED}\n"), false),
        ] {
            assert_eq!(is_encrypted(&text), want, "{text}");
        }
    }
}
