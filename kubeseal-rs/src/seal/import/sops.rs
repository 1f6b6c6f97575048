//! `seal import sops`: seals values that `sops` decrypts.
//!
//! `sops` stores text and bytes alike, but its JSON output contains only text and only the first document, and its YAML
//! output writes some strings as `null`. So `sops` is asked for YAML if a YAML file has several documents, for bytes if
//! a file was encrypted as a whole, and for JSON otherwise. In YAML and JSON files, each string must be as long as its
//! ciphertext; otherwise nothing is imported.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use kubeseal_library::environment::Environment;
use kubeseal_library::walk::ManifestFile;
use kubeseal_library::{files, programs};
use shared::base64;
use shared::key_ring::KeyRing;
use shared::manifest::{self, Document, Node, Reading, Value};
use shared::plain::Plain;
use shared::secret::Secret;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::key_services::{self, TrustedAddresses};
use super::manifest_secrets::{ManifestContents, refuse_duplicates, secrets_in};
use super::{report_each, without_generate_name};
use crate::failure::Failure;
use crate::report::{self, ShowPath as _, path_text};
use crate::seal::create::{self, Items};
use crate::seal::import::ImportSops;
use crate::seal::sealing::Empty;
use crate::seal::session::Session;
use crate::seal::{Outcome, names, sealing};
use crate::seal_args::SecretProperties;

/// The item key for a file that was encrypted as a whole. `sops` uses the same key.
const WHOLE_FILE: &str = "data";

pub(super) fn run(args: &ImportSops, environment: &Environment) -> Result<Outcome> {
    let (name, file) = match args.args.as_slice() {
        [name, file] => (Some(path_text(name)), Path::new(file)),
        args => (None, Path::new(&args[0])),
    };
    args.destination.check()?;
    let trusted = TrustedAddresses {
        vault: environment.nonempty_variable("VAULT_ADDR"),
        from_flags: &args.key_service,
    };
    let secrets = match name {
        Some(name) => vec![named_secret(&name, file, &trusted)?],
        None => secrets(file, &trusted)?,
    };
    let no_keys = KeyRing::default();
    let session = Session::for_existing_values(&args.sealing, environment, &no_keys);
    let seal = |secret: Secret| {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let settings = session.settings(&args.destination.path(&name))?;
        sealing::seal_secret(&session, &settings, secret, Empty::Refused)
    };
    let sealed: Result<Vec<_>> = secrets.into_iter().map(seal).collect();
    args.destination.write_new(&sealed?)
}

/// The decrypted content of a file.
enum Content {
    Documents(ManifestFile),
    /// The content of a file that was encrypted as a whole.
    Bytes(Zeroizing<Vec<u8>>),
}

/// Returns a Secret with the values in a file that is not a manifest.
fn named_secret(name: &str, path: &Path, trusted: &TrustedAddresses<'_>) -> Result<Secret> {
    names::check_object(name)?;
    let file = &path.shown();
    let items = match decrypt(path, trusted)? {
        Content::Bytes(mut bytes) => {
            let mut items = Items::default();
            items.add(WHOLE_FILE, Plain::from(std::mem::take(&mut *bytes)))?;
            items
        }
        Content::Documents(manifest) if !secrets_in(&manifest, file)?.secrets.is_empty() => {
            let message = format!("{file} contains a Secret manifest, which already has a name");
            bail!(Failure::new(message).hint("omit the name: seal import sops FILE"));
        }
        Content::Documents(manifest) => flat_items(&manifest, file)?,
    };
    create::secret(name, &SecretProperties::default(), items)
}

/// Returns the Secrets in a file of manifests.
fn secrets(path: &Path, trusted: &TrustedAddresses<'_>) -> Result<Vec<Secret>> {
    let file = &path.shown();
    let needs_name = || {
        Failure::new(format!("{file} contains no Secret manifest"))
            .hint("pass a name for the Secret: seal import sops NAME FILE")
    };
    let manifest = match decrypt(path, trusted)? {
        Content::Documents(manifest) => manifest,
        Content::Bytes(bytes) => ManifestFile::parse(path, bytes).map_err(|_| needs_name())?,
    };
    let ManifestContents { secrets, skipped } = secrets_in(&manifest, file)?;
    if secrets.is_empty() {
        bail!(needs_name());
    }
    report_each(&skipped);
    let read = |node| Ok(without_generate_name(sealing::read_secret(node, file)?));
    let secrets: Vec<Secret> = secrets.into_iter().map(read).collect::<Result<_>>()?;
    refuse_duplicates(&secrets, file)?;
    Ok(secrets)
}

fn decrypt(path: &Path, trusted: &TrustedAddresses<'_>) -> Result<Content> {
    let file = &path.shown();
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        let message = format!("{file} is not a regular file");
        bail!(Failure::new(message).hint("write its content to a file first"));
    }
    let encrypted = files::read(path)?;
    let documents = manifest::read(&encrypted);
    let store = Store::of(path, &encrypted, documents.as_deref().unwrap_or_default());
    let documents = match store {
        // `sops` may be able to parse a file that cannot be parsed here, and find an address in it.
        Store::Yaml | Store::Json => documents.with_context(|| path.shown())?,
        _ => documents.unwrap_or_default(),
    };
    let services = match store {
        Store::Dotenv => key_services::services_in_lines(&encrypted, "sops_"),
        Store::Ini => key_services::services_in_lines(&encrypted, ""),
        Store::Yaml | Store::Json | Store::Binary => {
            key_services::services_in_documents(&documents)
        }
    };
    trusted.check(&services, file)?;
    key_services::check_keys(&documents, file)?;
    let output = match store {
        Store::Binary => "binary",
        Store::Yaml if documents.len() > 1 => "yaml",
        _ => "json",
    };
    let decrypted = run_sops(path, &encrypted, store, output)?;
    if output == "binary" {
        return Ok(Content::Bytes(decrypted));
    }
    let manifest = ManifestFile::parse(path, decrypted).with_context(|| {
        format!("cannot parse the {output} that sops printed; nothing was imported")
    })?;
    match store {
        Store::Yaml | Store::Json => check_complete(&documents, &manifest.documents, file)?,
        _ => check_text(&manifest.documents, file)?,
    }
    Ok(Content::Documents(manifest))
}

/// How `sops` reads an encrypted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    Yaml,
    Json,
    Dotenv,
    Ini,
    Binary,
}

impl Store {
    /// Determines the format by the file's extension, as `sops` does, or else by its content. A file that was encrypted
    /// as a whole keeps its name, so its extension is ignored unless it is `json`.
    fn of(path: &Path, bytes: &[u8], documents: &[Document]) -> Self {
        let name = path.to_string_lossy();
        let begins_like_json = manifest::begins_like_json(bytes);
        let is_whole =
            begins_like_json && matches!(documents, [one] if is_encrypted_as_whole(&one.root));
        match name.rsplit('.').next().unwrap_or_default() {
            "json" => Self::Json,
            _ if is_whole => Self::Binary,
            "yaml" | "yml" => Self::Yaml,
            "env" => Self::Dotenv,
            "ini" => Self::Ini,
            _ => Self::by_content(bytes, begins_like_json, documents),
        }
    }

    fn by_content(bytes: &[u8], begins_like_json: bool, documents: &[Document]) -> Self {
        let has_line = |start: &[u8]| bytes.split(|b| *b == b'\n').any(|l| l.starts_with(start));
        let has_metadata = |document: &Document| document.root.field("sops").is_some();
        if begins_like_json {
            Self::Json
        } else if documents.iter().any(has_metadata) {
            Self::Yaml
        } else if has_line(b"sops_mac=") || has_line(b"sops_version=") {
            Self::Dotenv
        } else if has_line(b"[sops]") {
            Self::Ini
        } else {
            // `sops` reports why it cannot read such a file.
            Self::Binary
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Dotenv => "dotenv",
            Self::Ini => "ini",
            Self::Binary => "binary",
        }
    }
}

/// Returns whether a JSON object has the form in which `sops` stores a file that was encrypted as a whole.
fn is_encrypted_as_whole(root: &Node) -> bool {
    let Value::Map(entries) = &root.value else {
        return false;
    };
    entries.len() == 2
        && root.field("sops").is_some()
        && root.text(WHOLE_FILE).and_then(ciphertext_len).is_some()
}

/// Runs `sops` on a private copy of the content that was checked, since the file itself may change. The output goes
/// through a pipe only. `sops` searches for a `.sops.yaml` from its current directory upward, so it runs in the root
/// directory, where the file's author cannot put one.
fn run_sops(
    path: &Path,
    encrypted: &[u8],
    input: Store,
    output: &str,
) -> Result<Zeroizing<Vec<u8>>> {
    let sops = programs::find("sops").context(
        Failure::new("`sops` not found in PATH")
            .hint("install sops, which this command runs to decrypt the file"),
    )?;
    let copy = private_copy(encrypted).context("cannot write a temporary file")?;
    let root = sops.ancestors().last().unwrap_or(Path::new("/"));
    let output = Command::new(&sops)
        .args(["-d", "--input-type", input.name(), "--output-type", output])
        .arg(copy.path())
        .current_dir(root)
        .env("PATH", programs::search_path())
        .envs(absolute(PATHS, |name| std::env::var_os(name))?)
        .stdin(Stdio::null())
        .output()
        .context("cannot start sops")?;
    if output.status.success() {
        return Ok(Zeroizing::new(output.stdout));
    }
    let copy = copy.path().to_string_lossy().into_owned();
    let stderr = match programs::first_lines(&output.stderr) {
        stderr if stderr.is_empty() => "it printed no error".to_owned(),
        stderr => report::lines_shown(&stderr.replace(&copy, &path.shown())).into_owned(),
    };
    // The messages of `sops` name files and keys, never values.
    bail!("sops cannot decrypt {}: {stderr}", path.shown())
}

/// Writes content to a temporary file that only this user can read or change.
fn private_copy(content: &[u8]) -> std::io::Result<NamedTempFile> {
    let mut copy = NamedTempFile::with_prefix("seal-sops-")?;
    copy.write_all(content)?;
    copy.flush()?;
    Ok(copy)
}

/// Environment variables with paths for `sops` and its libraries. A relative path starts at the current directory of
/// `seal`.
const PATHS: &[&str] = &[
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GNUPGHOME",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "SOPS_AGE_KEY_FILE",
    "SOPS_AGE_SSH_PRIVATE_KEY_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "VAULT_CACERT",
];

/// Returns the variables that are set and not empty, with absolute paths.
fn absolute<'a>(
    names: &'a [&'a str],
    variable: impl Fn(&str) -> Option<OsString>,
) -> std::io::Result<Vec<(&'a str, PathBuf)>> {
    names
        .iter()
        .filter_map(|name| Some((*name, variable(name).filter(|path| !path.is_empty())?)))
        .map(|(name, path)| Ok((name, std::path::absolute(path)?)))
        .collect()
}

/// The hint for a file with several documents, which may use the same names.
const SEPARATE_FILES_HINT: &str = "write each document to a separate file";

/// Returns the error for a value that `sops` changed.
fn changed_value(file: &str, document: usize, path: &str) -> Failure {
    let message = format!(
        "{file}, document {document}: sops does not print the value of {path} unchanged; nothing was imported"
    );
    Failure::new(message).hint(
        "decrypt this value separately (`sops -d --extract`) and add it with `seal set`, or encrypt it as a separate \
         file",
    )
}

/// Checks that every document, field and value of the encrypted file was decrypted, and each string in full.
fn check_complete(
    encrypted: &[Document],
    decrypted: &[Document],
    file: &str,
) -> Result<(), Failure> {
    if encrypted.len() != decrypted.len() {
        let message = format!(
            "{file} contains {} documents, but sops decrypted {}; nothing was imported",
            encrypted.len(),
            decrypted.len()
        );
        return Err(Failure::new(message).hint(SEPARATE_FILES_HINT));
    }
    for (encrypted, decrypted) in encrypted.iter().zip(decrypted) {
        let mut path = Vec::new();
        if !is_same_length(&encrypted.root, &decrypted.root, &mut path) {
            return Err(changed_value(file, encrypted.number, &path.join(".")));
        }
    }
    Ok(())
}

/// Compares lengths, and leaves the path of the first differing value in `path`. AES-GCM preserves
/// lengths, and `sops` replaces a byte that is not UTF-8 with three bytes.
fn is_same_length(encrypted: &Node, decrypted: &Node, path: &mut Vec<String>) -> bool {
    match (&encrypted.value, &decrypted.value) {
        (Value::Map(fields), Value::Map(decrypted_fields)) => fields.iter().all(|(name, node)| {
            if path.is_empty() && name == "sops" {
                return true;
            }
            path.push(name.clone());
            let field = decrypted_fields.iter().rev().find(|(key, _)| key == name);
            let is_same = field.is_some_and(|(_, field)| is_same_length(node, field, path));
            if is_same {
                path.pop();
            }
            is_same
        }),
        (Value::List(items), Value::List(decrypted_items))
            if items.len() == decrypted_items.len() =>
        {
            items
                .iter()
                .zip(decrypted_items)
                .enumerate()
                .all(|(i, (item, decrypted_item))| {
                    path.push(i.to_string());
                    let is_same = is_same_length(item, decrypted_item, path);
                    if is_same {
                        path.pop();
                    }
                    is_same
                })
        }
        (Value::Map(_) | Value::List(_), _) => false,
        (Value::Text(text), decrypted) => match (ciphertext_len(text), decrypted) {
            (None, _) => true,
            (Some(len), Value::Text(decrypted)) => decrypted.len() == len,
            (Some(_), _) => false,
        },
        _ => true,
    }
}

/// Returns the length of the plaintext of an encrypted string, in bytes: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:str]`.
fn ciphertext_len(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("ENC[AES256_GCM,data:")?;
    let data = inner.strip_suffix(",type:str]")?.split(',').next()?;
    Some(base64::decode(data.as_bytes()).ok()?.len())
}

/// Checks that no value at the top level contains a replacement character (U+FFFD), which most likely replaces a lost
/// byte. This check is for formats whose values cannot be compared with their ciphertexts.
fn check_text(documents: &[Document], file: &str) -> Result<(), Failure> {
    for document in documents {
        let Value::Map(fields) = &document.root.value else {
            continue;
        };
        let is_replaced =
            |node: &Node| matches!(&node.value, Value::Text(text) if text.contains('\u{fffd}'));
        if let Some((name, _)) = fields.iter().find(|(_, node)| is_replaced(node)) {
            return Err(changed_value(file, document.number, name));
        }
    }
    Ok(())
}

/// Returns the items of a mapping from names to values, one level deep.
fn flat_items(manifest: &ManifestFile, file: &str) -> Result<Items> {
    // `sops` outputs an empty document as an empty mapping.
    let is_filled = |document: &&Document| !matches!(&document.root.value, Value::Map(fields) if fields.is_empty());
    let filled: Vec<&Document> = manifest.documents.iter().filter(is_filled).collect();
    if filled.len() > 1 {
        let message = format!("{file} contains {} documents, expected one", filled.len());
        bail!(Failure::new(message).hint(SEPARATE_FILES_HINT));
    }
    let Some(Value::Map(entries)) = filled.first().map(|one| &one.root.value) else {
        bail!("{file} is not a mapping of names to values");
    };
    let mut items = Items::default();
    for (key, node) in entries {
        warn_of_rounding(key, node);
        items.add(key, scalar(key, node)?)?;
    }
    Ok(items)
}

/// Warns about a number that `sops` may have rounded when it encrypted the file: from 2^53, a floating-point number
/// does not represent every integer.
fn warn_of_rounding(key: &str, node: &Node) {
    const FIRST_ROUNDED: f64 = 9_007_199_254_740_992.0;
    if matches!(node.value, Value::Float(value) if value.abs() >= FIRST_ROUNDED) {
        report::warn(&format!(
            "the value of {key} is a number whose last digits `sops` may have rounded when it encrypted the file; quote it \
             in the original file if it is text"
        ));
    }
}

/// Returns the text of a scalar. Fails for a list or mapping.
fn scalar(key: &str, node: &Node) -> Result<Plain> {
    let text = match &node.value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Null | Value::Text(_) => Reading::default().text(node)?,
        Value::List(_) | Value::Map(_) => bail!(
            "the value of {key:?} is {}, expected a string, a number or a boolean",
            node.kind()
        ),
    };
    Ok(Plain::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_relative_paths_in_variables_from_the_current_directory() {
        let current_dir = std::env::current_dir().unwrap();
        let variable = |name: &str| match name {
            "SOPS_AGE_KEY_FILE" => Some("keys/age.txt".into()),
            "GNUPGHOME" => Some(OsString::new()),
            _ => None,
        };
        let variables = absolute(PATHS, variable).unwrap();
        assert_eq!(
            variables,
            [("SOPS_AGE_KEY_FILE", current_dir.join("keys/age.txt"))]
        );
    }

    #[test]
    fn finds_the_format_of_a_file_by_its_content_and_name() {
        const WHOLE_FILE: &str =
            r#"{"data": "ENC[AES256_GCM,data:AAAA,iv:,tag:,type:str]", "sops": {}}"#;
        for (name, text, want) in [
            ("a.yaml", "a: b\nsops: {}\n", Store::Yaml),
            ("a.yaml.enc", "a: b\nsops: {}\n", Store::Yaml),
            ("a.YAML", "a: b\nsops: {}\n", Store::Yaml),
            ("secrets", "a: b\n---\nb: c\nsops: {}\n", Store::Yaml),
            ("a.json", r#"{"a": "b", "sops": {}}"#, Store::Json),
            ("a.json.enc", r#"{"a": "b", "sops": {}}"#, Store::Json),
            ("a.enc", WHOLE_FILE, Store::Binary),
            ("keystore.jks", WHOLE_FILE, Store::Binary),
            ("a.yaml", WHOLE_FILE, Store::Binary),
            ("a.json", WHOLE_FILE, Store::Json),
            (".env", "A=b\nsops_version=3\n", Store::Dotenv),
            (".env.enc", "A=b\nsops_mac=x\n", Store::Dotenv),
            ("a.ini", "[a]\nb = c\n[sops]\n", Store::Ini),
            ("a.ini.sops", "[a]\nb = c\n[sops]\n", Store::Ini),
            ("a.txt", "plain\n", Store::Binary),
        ] {
            let documents = manifest::read(text.as_bytes()).unwrap_or_default();
            let store = Store::of(Path::new(name), text.as_bytes(), &documents);
            assert_eq!(store, want, "{name}: {text}");
        }
    }

    #[test]
    fn reports_a_value_that_lost_bytes_or_changed_its_type() {
        const ENCRYPTED: &str =
            "a: {b: ['ENC[AES256_GCM,data:AAAA,iv:,tag:,type:str]']}\nc: 1\nsops: {}\n";
        for (decrypted, want) in [
            ("{a: {b: [xyz]}, c: 1}", None),
            ("{a: {b: [\u{e9}z]}, c: 1}", None),
            ("{a: {b: [\u{fffd}yz]}, c: 1}", Some("a.b.0")),
            ("{a: {b: [xy]}, c: 1}", Some("a.b.0")),
            ("{a: {b: [~]}, c: 1}", Some("a.b.0")),
            ("{a: {b: []}, c: 1}", Some("a.b")),
            ("{a: {}, c: 1}", Some("a.b")),
            ("{a: x, c: 1}", Some("a")),
            ("{c: 1}", Some("a")),
        ] {
            let read = |text: &str| manifest::read(text.as_bytes()).unwrap();
            let failure = check_complete(&read(ENCRYPTED), &read(decrypted), "f").err();
            let want = want.map(|path| changed_value("f", 1, path));
            assert_eq!(failure, want, "{decrypted}");
        }
    }

    #[test]
    fn reports_a_missing_document() {
        let read = |text: &str| manifest::read(text.as_bytes()).unwrap();
        let error = check_complete(&read("a: b\n---\nb: c\n"), &read("a: b\n"), "f");
        assert!(error.unwrap_err().to_string().contains("2 documents"));
    }
}
