//! `seal import`: what exists elsewhere → SealedSecrets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use shared::manifest::{Node, Reading, Value};
use shared::plain::Plain;
use shared::resource::KEY_LABEL;
use shared::secret::Secret;
use zeroize::Zeroizing;

use super::create::{self, Items};
use super::destination::Exists;
use super::sealing::{self, Sealed};
use super::session::Session;
use super::values::Stdin;
use super::walk::{Kind, ManifestFile};
use super::{Outcome, names, write};
use crate::report::ShowPath as _;
use crate::seal_args::{
    Import, ImportDotenv, ImportFrom, ImportList, ImportSecret, ImportSops, Like,
};
use crate::surroundings::Surroundings;
use crate::{dotenv, files, programs, report};

/// Something cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No Secret.
    #[error("{0} holds no Secret (apiVersion v1, kind Secret)")]
    NoSecret(String),
    /// More than one.
    #[error("{0} holds {1} Secrets; `seal import list` takes many")]
    Several(String, usize),
    /// Nothing left.
    #[error("no Secret is left to import; see the remarks above")]
    NothingLeft,
    /// No `sops`.
    #[error("there is no `sops` in PATH; this command decrypts with your own")]
    NoSops,
    /// It cannot be started.
    #[error("sops cannot be started")]
    Start(#[source] std::io::Error),
    /// It says no. Its words name files and keys, never values.
    #[error("sops cannot decrypt {file}: {said}")]
    Sops {
        /// The file.
        file: String,
        /// What it said first.
        said: String,
    },
    /// Data without a name.
    #[error(
        "{0} holds no Secret manifest; name the Secret that its values shall be in: seal import sops NAME FILE"
    )]
    NameNeeded(String),
    /// A manifest with a name of its own.
    #[error("{0} holds a Secret manifest, which has a name already: seal import sops FILE")]
    NameUnused(String),
    /// Data that is no list of values.
    #[error("the value of {0:?} is {1}; an item is text, a number or a boolean")]
    Nested(String, &'static str),
    /// Data that is no mapping at all.
    #[error("{0} holds no mapping of names to values")]
    NoMapping(String),
}

/// Runs the command.
///
/// # Errors
///
/// What is there cannot be read or sealed.
pub fn run(words: &Import, surroundings: &Surroundings) -> Result<Outcome> {
    match &words.from {
        ImportFrom::Dotenv(words) => from_dotenv(words, surroundings),
        ImportFrom::Sops(words) => from_sops(words, surroundings),
        ImportFrom::Secret(words) => from_secret(words, surroundings),
        ImportFrom::List(words) => from_list(words, surroundings),
    }
}

/// The bytes of a file or of stdin, and its name for messages.
fn read(file: Option<&Path>, surroundings: &Surroundings) -> Result<(Plain, String)> {
    match file {
        Some(path) => Ok((Stdin::new(surroundings).read_file(path)?, path.shown())),
        None => Ok((Stdin::new(surroundings).read("stdin")?, "stdin".to_owned())),
    }
}

fn from_dotenv(words: &ImportDotenv, surroundings: &Surroundings) -> Result<Outcome> {
    names::check_object(&words.name)?;
    words.destination.check()?;
    let session = Session::new(&words.sealing, surroundings);
    let settings = session.settings(&words.destination.path(&words.name))?;
    let (text, shown) = read(words.file.as_deref(), surroundings)?;
    let mut items = Items::default();
    for variable in dotenv::parse(text.expose()).with_context(|| shown.clone())? {
        if variable.has_dollar {
            report::warn(&format!(
                "{shown}:{}: {} has a `$`, which is sealed as it is and not expanded",
                variable.line, variable.name
            ));
        }
        items
            .add(&variable.name, variable.value)
            .with_context(|| shown.clone())?;
    }
    let secret = create::secret(&words.name, &Like::default(), items)?;
    let sealed = sealing::seal_secret(&session, &settings, secret, false)?;
    words.destination.put(&[sealed])
}

fn from_sops(words: &ImportSops, surroundings: &Surroundings) -> Result<Outcome> {
    let (name, file) = match words.words.as_slice() {
        [name, file] => (Some(name.as_str()), file),
        words => (None, &words[0]),
    };
    words.destination.check()?;
    let decrypted = decrypt(file)?;
    let manifest = ManifestFile::parse(Path::new(file), decrypted)?;
    let secret = match (name, manifest.of_kind(Kind::Secret).next()) {
        (None, Some(node)) => from_server(sealing::read_secret(node, file)?),
        (Some(_), Some(_)) => return Err(ImportError::NameUnused(file.clone()).into()),
        (None, None) => return Err(ImportError::NameNeeded(file.clone()).into()),
        (Some(name), None) => {
            names::check_object(name)?;
            create::secret(name, &Like::default(), flat_items(&manifest, file)?)?
        }
    };
    let session = Session::new(&words.sealing, surroundings);
    let name = secret.metadata.name.clone().unwrap_or_default();
    let settings = session.settings(&words.destination.path(&name))?;
    let sealed = sealing::seal_secret(&session, &settings, secret, false)?;
    words.destination.put(&[sealed])
}

/// What `sops` prints goes through a pipe and nowhere else. It looks for a `.sops.yaml` from its current
/// folder upward, so it runs in the root folder, where none of the file's author can lie.
fn decrypt(file: &str) -> Result<Zeroizing<Vec<u8>>> {
    let sops = programs::find("sops").ok_or(ImportError::NoSops)?;
    files::check(Path::new(file))?;
    let root = sops.ancestors().last().unwrap_or(Path::new("/"));
    let output = Command::new(&sops)
        .args(["-d", "--output-type", "json"])
        .arg(std::path::absolute(file)?)
        .current_dir(root)
        .env("PATH", programs::search_path())
        .envs(absolute(PATHS, |name| std::env::var_os(name))?)
        .stdin(Stdio::null())
        .output()
        .map_err(ImportError::Start)?;
    if output.status.success() {
        return Ok(Zeroizing::new(output.stdout));
    }
    let said = match programs::first_line(&output.stderr) {
        said if said.is_empty() => "it says nothing".to_owned(),
        said => report::shown(&said).into_owned(),
    };
    Err(ImportError::Sops {
        file: file.to_owned(),
        said,
    }
    .into())
}

/// Variables by which the user gives `sops` and its libraries files. Relative ones count from the folder that
/// `seal` runs in.
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

/// Those of the variables that are set, with absolute paths.
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

/// A mapping from names to values, one level deep.
fn flat_items(manifest: &ManifestFile, file: &str) -> Result<Items> {
    let root = manifest.documents.first().map(|document| &document.root);
    let Some(Value::Map(entries)) = root.map(|root| &root.value) else {
        return Err(ImportError::NoMapping(file.to_owned()).into());
    };
    let mut items = Items::default();
    for (key, node) in entries {
        items.add(key, scalar(key, node)?)?;
    }
    Ok(items)
}

fn scalar(key: &str, node: &Node) -> Result<Plain> {
    match &node.value {
        Value::Bool(value) => Ok(Plain::from(value.to_string())),
        Value::Int(value) => Ok(Plain::from(value.to_string())),
        Value::Float(value) => Ok(Plain::from(value.to_string())),
        Value::Null | Value::Text(_) => Ok(Plain::from(Reading::default().text(node)?)),
        Value::List(_) | Value::Map(_) => {
            Err(ImportError::Nested(key.to_owned(), node.kind()).into())
        }
    }
}

fn from_secret(words: &ImportSecret, surroundings: &Surroundings) -> Result<Outcome> {
    words.destination.check()?;
    let (manifest, shown) = read_manifest(words.file.as_deref(), surroundings)?;
    let secrets: Vec<&Node> = manifest.of_kind(Kind::Secret).collect();
    let node = match secrets.as_slice() {
        [] => return Err(ImportError::NoSecret(shown).into()),
        [node] => node,
        several => return Err(ImportError::Several(shown, several.len()).into()),
    };
    let secret = from_server(sealing::read_secret(node, &shown)?);
    let session = Session::new(&words.sealing, surroundings);
    let name = secret.metadata.name.clone().unwrap_or_default();
    let settings = session.settings(&words.destination.path(&name))?;
    let sealed = sealing::seal_secret(&session, &settings, secret, false)?;
    words.destination.put(&[sealed])
}

fn read_manifest(
    file: Option<&Path>,
    surroundings: &Surroundings,
) -> Result<(ManifestFile, String)> {
    let (bytes, shown) = read(file, surroundings)?;
    let bytes = Zeroizing::new(bytes.expose().to_vec());
    Ok((ManifestFile::parse(Path::new(&shown), bytes)?, shown))
}

/// Sealing drops most of what a server adds; `generateName` would say nothing any more.
fn from_server(mut secret: Secret) -> Secret {
    secret.metadata.generate_name = None;
    secret
}

fn from_list(words: &ImportList, surroundings: &Surroundings) -> Result<Outcome> {
    words.destination.check()?;
    let (manifest, shown) = read_manifest(words.file.as_deref(), surroundings)?;
    let session = Session::new(&words.sealing, surroundings);
    let (mut sealed, mut paths) = (Vec::new(), Vec::new());
    for node in manifest.of_kind(Kind::Secret) {
        let secret = from_server(sealing::read_secret(node, &shown)?);
        let metadata = &secret.metadata;
        let name = metadata.name.clone().unwrap_or_default();
        let namespace = metadata.namespace.clone().unwrap_or_default();
        if let Some(why) = why_not(&secret, words.owned) {
            report::say(&format!(
                "{} is left out: {why}",
                shared::resource::place(&namespace, &name)
            ));
            continue;
        }
        let path = match &words.into {
            Some(folder) => path_in(folder, &namespace, &name)?,
            None => words.destination.path(&name),
        };
        let settings = session.settings(&path)?;
        sealed.push(sealing::seal_secret(&session, &settings, secret, false)?);
        paths.push(path);
    }
    if sealed.is_empty() {
        return Err(ImportError::NothingLeft.into());
    }
    match words.into {
        Some(_) => write_each(&sealed, &paths, words),
        None => words.destination.put(&sealed),
    }
}

/// Secrets that somebody else makes anew, or that must not leave the cluster.
fn why_not(secret: &Secret, take_owned: bool) -> Option<String> {
    let labels = secret.metadata.labels.as_ref();
    if labels.is_some_and(|labels| labels.contains_key(KEY_LABEL)) {
        return Some("it is a private key of the sealed-secrets controller".into());
    }
    match secret.type_.as_deref() {
        Some("kubernetes.io/service-account-token") => {
            return Some("it is the token of a service account".into());
        }
        Some("bootstrap.kubernetes.io/token") => return Some("it is a bootstrap token".into()),
        Some("helm.sh/release.v1") => return Some("it is a release of Helm".into()),
        _ => {}
    }
    let owners = secret.metadata.owner_references.as_ref();
    let owner = owners
        .and_then(|owners| owners.first())
        .filter(|_| !take_owned);
    if let Some(owner) = owner {
        return Some(format!(
            "{} {} makes it (--owned takes it)",
            owner.kind, owner.name
        ));
    }
    secret.data.is_empty().then(|| "it has no values".into())
}

/// Names come from foreign bytes: one that is none must not lead out of the folder.
fn path_in(folder: &Path, namespace: &str, name: &str) -> Result<PathBuf> {
    names::check_object(name)?;
    let folder = if namespace.is_empty() {
        folder.to_owned()
    } else {
        names::check_namespace(namespace)?;
        folder.join(namespace)
    };
    Ok(folder.join(format!("{name}.yaml")))
}

fn write_each(sealed: &[Sealed], paths: &[PathBuf], words: &ImportList) -> Result<Outcome> {
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        return Err(Exists(path.clone()).into());
    }
    for (one, path) in sealed.iter().zip(paths) {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.shown()))?;
        files::replace(
            path,
            &write(&[one.object.to_document()], words.destination.format()),
        )?;
        report::say(&format!("{}: {}", path.shown(), one.in_words()));
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_in_variables_count_from_the_current_folder() {
        let here = std::env::current_dir().unwrap();
        let variable = |name: &str| match name {
            "SOPS_AGE_KEY_FILE" => Some("keys/age.txt".into()),
            "GNUPGHOME" => Some(OsString::new()),
            _ => None,
        };
        let found = absolute(PATHS, variable).unwrap();
        assert_eq!(found, [("SOPS_AGE_KEY_FILE", here.join("keys/age.txt"))]);
    }
}
