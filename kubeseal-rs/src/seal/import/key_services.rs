//! Finds the addresses of key services in a `sops` file, and checks that the user trusts them. `sops` sends the user's
//! credentials to these services, such as the token of Vault, and the author of the file chooses the address.

use shared::manifest::{Document, Node, Value};

use crate::failure::Failure;

/// The field with the SOPS metadata.
const METADATA: &str = "sops";

/// The fields of the SOPS metadata that decide where a request goes.
const FIELDS: [&str; 4] = ["vault_address", "vault_url", "arn", "key_id"];

/// The host name suffixes of Azure Key Vault and Managed HSM. A token that is sent to such a server stays with Azure.
const AZURE: [&str; 6] = [
    ".vault.azure.net",
    ".vault.azure.cn",
    ".vault.usgovcloudapi.net",
    ".managedhsm.azure.net",
    ".managedhsm.azure.cn",
    ".managedhsm.usgovcloudapi.net",
];

/// A field of [`FIELDS`] and its value; if the value is not text, the kind of the value.
type Service = (&'static str, String);

/// The addresses that the user trusts with credentials.
pub(super) struct TrustedAddresses<'a> {
    /// The user's Vault, `VAULT_ADDR`.
    pub(super) vault: Option<String>,
    /// The addresses of `--key-service`.
    pub(super) from_flags: &'a [String],
}

impl TrustedAddresses<'_> {
    /// Fails with the first address that is not trusted.
    pub(super) fn check(&self, services: &[Service], file: &str) -> Result<(), Failure> {
        let Some((field, address)) = services.iter().find(|service| !self.is_trusted(service))
        else {
            return Ok(());
        };
        let remedy = match *field {
            "vault_address" => "set VAULT_ADDR to this address, or pass --key-service URL",
            _ => "pass --key-service URL",
        };
        let message = format!(
            "{file} names the key service {address:?} ({field}), and sops would send your credentials to it"
        );
        Err(Failure::new(message).hint(format!("if the address is correct, {remedy}")))
    }

    fn is_trusted(&self, (field, address): &Service) -> bool {
        let without_slash = |text: &str| text.trim_end_matches('/').to_owned();
        let vault = self.vault.as_ref().filter(|_| *field == "vault_address");
        let mut allowed = self.from_flags.iter().chain(vault);
        // With an empty Vault address, `sops` uses `VAULT_ADDR`.
        address.is_empty()
            || allowed.any(|allowed| without_slash(allowed) == without_slash(address))
            || *field == "vault_url" && is_azure_key_vault(address)
            || *field == "arn" && is_arn(address)
            || *field == "key_id" && is_huawei_key(address)
    }
}

fn is_azure_key_vault(address: &str) -> bool {
    let host = address.strip_prefix("https://").unwrap_or_default();
    let host = host.strip_suffix('/').unwrap_or(host);
    let name = AZURE.iter().find_map(|suffix| host.strip_suffix(suffix));
    name.is_some_and(is_word)
}

/// Returns whether a string is the ARN of an AWS KMS key. Its region becomes part of a host name.
fn is_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let [arn, partition, service, region, account, key] = parts.as_slice() else {
        return false;
    };
    let is_key = key.starts_with("key/") || key.starts_with("alias/");
    *arn == "arn"
        && partition.starts_with("aws")
        && *service == "kms"
        && [partition, region, account]
            .into_iter()
            .all(|part| is_word(part))
        && is_key
}

/// Returns whether a string has the form of a key identifier of Huawei Cloud, `REGION:UUID`. The region becomes part of
/// a host name.
fn is_huawei_key(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(region, key)| is_word(region) && is_word(key))
}

fn is_word(text: &str) -> bool {
    let is_in_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !text.is_empty() && text.chars().all(is_in_word)
}

/// Returns the key services named in YAML or JSON documents.
pub(super) fn services_in_documents(documents: &[Document]) -> Vec<Service> {
    let mut services = Vec::new();
    for document in documents {
        let Value::Map(fields) = &document.root.value else {
            continue;
        };
        let metadata = fields.iter().filter(|(name, _)| folded(name) == METADATA);
        metadata.for_each(|(_, node)| collect(node, &mut services));
    }
    services
}

/// Refuses SOPS metadata with a key that contains characters outside ASCII. `sops` never writes such keys, and parsers
/// may compare them differently.
pub(super) fn check_keys(documents: &[Document], file: &str) -> Result<(), Failure> {
    let mut roots = documents.iter().map(|document| &document.root);
    let Some((key, line)) = roots.find_map(non_ascii_key) else {
        return Ok(());
    };
    let message = format!(
        "{file}, line {line}: the SOPS metadata has the key {key:?}, which sops never writes"
    );
    Err(Failure::new(message)
        .hint("get the file from its author again, and do not decrypt this one"))
}

/// Returns the first key of the metadata that contains a character outside ASCII, and the line of its value.
fn non_ascii_key(root: &Node) -> Option<(&str, usize)> {
    let Value::Map(fields) = &root.value else {
        return None;
    };
    let mut metadata = fields.iter().filter(|(name, _)| folded(name) == METADATA);
    metadata.find_map(|(name, node)| {
        if name.is_ascii() {
            non_ascii_key_in(node)
        } else {
            Some((name.as_str(), node.line))
        }
    })
}

fn non_ascii_key_in(node: &Node) -> Option<(&str, usize)> {
    match &node.value {
        Value::List(items) => items.iter().find_map(non_ascii_key_in),
        Value::Map(fields) => fields.iter().find_map(|(name, node)| {
            let own = (!name.is_ascii()).then_some((name.as_str(), node.line));
            own.or_else(|| non_ascii_key_in(node))
        }),
        _ => None,
    }
}

/// Returns a name in lower case, as Go's JSON decoder compares names: it also treats `ſ` (U+017F) as `s`, and the
/// Kelvin sign (U+212A) as `k`.
fn folded(name: &str) -> String {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

fn collect(node: &Node, services: &mut Vec<Service>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| collect(item, services)),
        Value::Map(fields) => {
            for (name, node) in fields {
                match (field(name), &node.value) {
                    (Some(_), Value::Null) => {}
                    (Some(field), Value::Text(text)) => services.push((field, text.to_string())),
                    (Some(field), _) => services.push((field, node.kind().to_owned())),
                    (None, _) => collect(node, services),
                }
            }
        }
        _ => {}
    }
}

fn field(name: &str) -> Option<&'static str> {
    let name = folded(name);
    FIELDS.into_iter().find(|field| *field == name)
}

/// Returns the key services named in the lines of a dotenv or INI file that begin with `prefix`. In these formats, the
/// metadata is flat: `sops_hc_vault__list_0__map_vault_address`.
pub(super) fn services_in_lines(bytes: &[u8], prefix: &str) -> Vec<Service> {
    let text = String::from_utf8_lossy(bytes);
    let mut services = Vec::new();
    for line in text
        .split(['\n', '\r'])
        .map(str::trim_start)
        .filter(|line| line.starts_with(prefix))
    {
        let (name, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
        let (name, value) = (folded(name.trim()), value.trim());
        let name = name.trim_matches(['"', '`', '\'']);
        let last = name.rsplit("__map_").next().unwrap_or_default();
        // An encrypted value is data, not metadata.
        if let Some(field) = field(last)
            && !value.starts_with("ENC[")
        {
            services.push((field, value.to_owned()));
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_trusted(field: &'static str, address: &str) -> bool {
        let trusted = TrustedAddresses {
            vault: Some("https://vault.example:8200/".into()),
            from_flags: &["https://other.example".into()],
        };
        trusted.check(&[(field, address.into())], "x").is_ok()
    }

    #[test]
    fn trusts_addresses_of_the_user_and_of_the_provider() {
        for (field, address, want) in [
            ("vault_address", "https://vault.example:8200", true),
            ("vault_address", "https://other.example/", true),
            ("vault_address", "", true),
            ("vault_address", "https://vault.example:8201", false),
            ("vault_address", "http://vault.example:8200", false),
            (
                "vault_address",
                "https://vault.example:8200@evil.example",
                false,
            ),
            ("vault_address", "https://vault.example:8200/x", false),
            ("vault_url", "https://v.vault.azure.net", true),
            ("vault_url", "https://v.vault.azure.net/", true),
            ("vault_url", "https://other.example", true),
            ("vault_url", "https://vault.example:8200", false),
            ("vault_url", "http://v.vault.azure.net", false),
            ("vault_url", "https://evil.example/.vault.azure.net", false),
            ("vault_url", "https://evil.example#.vault.azure.net", false),
            ("vault_url", "https://v.vault.azure.net.evil.example", false),
            ("arn", "arn:aws:kms:us-east-1:123456789012:key/a-b", true),
            ("arn", "arn:aws-cn:kms:cn-north-1:1:alias/a", true),
            ("arn", "arn:aws:kms:evil.example/:123456789012:key/a", false),
            ("arn", "arn:aws:kms:x@evil.example:443:1:key/a", false),
            ("key_id", "tr-west-1:7f2c-a", true),
            ("key_id", "evil.example:x", false),
            ("key_id", "evil.example/:x", false),
            ("key_id", "x", false),
        ] {
            assert_eq!(is_trusted(field, address), want, "{field}: {address}");
        }
    }

    #[test]
    fn finds_the_vault_address_in_each_format() {
        for text in [
            "sops: {hc_vault: [{vault_address: http://evil}]}",
            "sops: {key_groups: [{hc_vault: [{vault_address: http://evil}]}]}",
            "a: b\n---\nsops: {hc_vault: [{vault_address: http://evil}]}",
            "sops: {hc_vault: [{<<: {vault_address: http://evil}}]}",
            r#"{"SOPS": {"HC_Vault": [{"Vault_Address": "http://evil"}]}}"#,
            r#"{"sops": {"hc_vault": [{"vault_address": "http://evil"}]}, "Sops": {"mac": "x"}}"#,
            r#"{"\u017fops": {"hc_vault": [{"vault_addre\u017fs": "http://evil"}]}}"#,
        ] {
            let documents = shared::manifest::read(text.as_bytes()).unwrap();
            let want = [("vault_address", "http://evil".to_owned())];
            assert_eq!(services_in_documents(&documents), want, "{text}");
        }
        for (text, prefix) in [
            (
                "sops_hc_vault__list_0__map_vault_address=http://evil",
                "sops_",
            ),
            (
                "[sops]\nhc_vault__list_0__map_vault_address = http://evil\n",
                "",
            ),
            (
                "[sops]\r\n`hc_vault__list_0__map_vault_address` : http://evil\r\n",
                "",
            ),
        ] {
            let want = [("vault_address", "http://evil".to_owned())];
            assert_eq!(services_in_lines(text.as_bytes(), prefix), want, "{text}");
        }
        let data = "VAULT_ADDRESS=ENC[AES256_GCM,data:x]\nvault_address=http://mine\n";
        assert_eq!(services_in_lines(data.as_bytes(), "sops_"), []);
    }
}
