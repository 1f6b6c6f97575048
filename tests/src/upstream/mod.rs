//! Bitnami's implementation of Sealed Secrets (*upstream*), as a library in a separate process and as programs.
//!
//! Go builds the library and the programs from `tests/peer`, whose `go.sum` pins the sources.

mod process;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use shared::manifest::{self, Reading, Shape};

pub use process::UpstreamError;
pub use wire::{KeyPair, KeyRequest};

use crate::go_build;
use process::Process;

/// The release that the programs report; `tests/peer/go.mod` requires the same release.
const VERSION: (&str, &str) = ("main.VERSION", "0.36.6");

/// Returns the path of Bitnami's `kubeseal`.
pub fn upstream_kubeseal() -> PathBuf {
    build_released("kubeseal")
}

/// Returns the path of Bitnami's controller.
pub fn upstream_controller() -> PathBuf {
    build_released("controller")
}

/// Returns the directory of Bitnami's chart.
///
/// # Panics
/// Panics if Go cannot find the sources.
pub fn chart() -> PathBuf {
    let module = "github.com/bitnami-labs/sealed-secrets";
    // Download the sources if no program was built from them yet.
    let download = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(source())
        .output()
        .expect("Go is installed");
    let module: Value = serde_json::from_slice(&download.stdout).expect("Go prints JSON");
    let directory = module["Dir"]
        .as_str()
        .expect("Go has downloaded the module");
    Path::new(directory).join("helm/sealed-secrets")
}

/// Returns Bitnami's CRD of SealedSecrets, as its chart installs it.
///
/// # Panics
/// Panics like [`chart`].
pub fn definition() -> CustomResourceDefinition {
    let path = chart().join("crds/bitnami.com_sealedsecrets.yaml");
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = manifest::read(&text).expect("YAML");
    let json = Reading::default().json(&documents[0].root, Shape::Any);
    serde_json::from_value(json.expect("JSON")).expect("a definition")
}

/// Text format of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Indented by two spaces, keys in the order of the Go types.
    Json,
    /// Keys in alphabetical order.
    Yaml,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }
}

/// The Go type that a manifest is converted through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `v1.Secret` of the Kubernetes API.
    Secret,
    /// Bitnami's `SealedSecret`.
    SealedSecret,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::SealedSecret => "SealedSecret",
        }
    }
}

/// Upstream as a library: one running process, shared between threads.
///
/// Keys and certificates are PEM strings. A method returns [`UpstreamError::Refused`] with upstream's own message
/// if upstream refuses, and another variant only if the process is gone or its response is malformed.
#[derive(Debug)]
pub struct Upstream(Process);

impl Upstream {
    /// Starts upstream; builds it first if necessary.
    ///
    /// # Errors
    /// Returns an error if the process cannot be started.
    pub fn start() -> Result<Self, UpstreamError> {
        Process::start(&go_build::build(&source(), ".", "peer")).map(Self)
    }

    /// Returns the ciphertext of one value, without base64.
    ///
    /// # Errors
    /// Returns an error if upstream refuses the certificate (expired, not RSA, unreadable).
    pub fn seal_value(
        &self,
        certificate: &str,
        label: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, UpstreamError> {
        let response = self.0.call(&json!({
            "op": "seal_value",
            "certificate": STANDARD.encode(certificate),
            "label": STANDARD.encode(label),
            "value": STANDARD.encode(plain),
        }))?;
        wire::bytes(&response, "value")
    }

    /// Returns the plaintext of one ciphertext, decrypted with the first of the keys that succeeds.
    ///
    /// # Errors
    /// Returns an error if none of the keys decrypts the ciphertext.
    pub fn open_value(
        &self,
        keys: &[&str],
        label: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, UpstreamError> {
        let response = self.0.call(&json!({
            "op": "open_value",
            "keys": keys,
            "label": STANDARD.encode(label),
            "value": STANDARD.encode(sealed),
        }))?;
        wire::bytes(&response, "value")
    }

    /// Returns upstream's `SealedSecret` for a Secret manifest (JSON or YAML).
    ///
    /// # Errors
    /// Returns an error if upstream refuses the manifest or the certificate.
    pub fn seal_secret(
        &self,
        certificate: &str,
        secret: &[u8],
        format: Format,
    ) -> Result<Vec<u8>, UpstreamError> {
        let response = self.0.call(&json!({
            "op": "seal_secret",
            "certificate": STANDARD.encode(certificate),
            "text": STANDARD.encode(secret),
            "format": format.name(),
        }))?;
        wire::bytes(&response, "text")
    }

    /// Returns upstream's Secret for a `SealedSecret` manifest (JSON or YAML).
    ///
    /// # Errors
    /// Returns an error if an item cannot be unsealed, or upstream refuses the manifest.
    pub fn unseal(
        &self,
        keys: &[&str],
        sealed: &[u8],
        format: Format,
    ) -> Result<Vec<u8>, UpstreamError> {
        let response = self.0.call(&json!({
            "op": "unseal",
            "keys": keys,
            "text": STANDARD.encode(sealed),
            "format": format.name(),
        }))?;
        wire::bytes(&response, "text")
    }

    /// Generates a key pair with a self-signed certificate.
    ///
    /// # Errors
    /// Returns an error if Go rejects the key size.
    pub fn generate(&self, request: &KeyRequest) -> Result<KeyPair, UpstreamError> {
        let response = self
            .0
            .call(&json!({ "op": "generate", "generate": request }))?;
        wire::from_json(response)
    }

    /// Returns `SHA256:…` of the certificate's public key, as `ssh-keygen -l` prints it.
    ///
    /// # Errors
    /// Returns an error if upstream refuses the certificate.
    pub fn fingerprint(&self, certificate: &str) -> Result<String, UpstreamError> {
        let response = self.0.call(&json!({
            "op": "fingerprint",
            "certificate": STANDARD.encode(certificate),
        }))?;
        wire::text(&response, "fingerprint")
    }

    /// Parses one JSON or YAML document with Go's `sigs.k8s.io/yaml`.
    ///
    /// # Errors
    /// Returns an error if the document cannot be parsed.
    pub fn parse(&self, document: &[u8]) -> Result<Value, UpstreamError> {
        self.parse_through(document, "")
    }

    /// Like [`Self::parse`], but converts through a Go type, which coerces values and drops unknown fields.
    ///
    /// # Errors
    /// Returns an error if the document cannot be parsed or does not fit the type.
    pub fn parse_as(&self, kind: Kind, document: &[u8]) -> Result<Value, UpstreamError> {
        self.parse_through(document, kind.name())
    }

    /// Returns an object in upstream's text format, without the text that `kubeseal` prints around it (a final newline
    /// for JSON, a leading `---` for YAML).
    ///
    /// # Errors
    /// Returns an error if the object does not fit the kind.
    pub fn encode(
        &self,
        kind: Kind,
        object: &Value,
        format: Format,
    ) -> Result<Vec<u8>, UpstreamError> {
        let response = self.0.call(&json!({
            "op": "encode",
            "kind": kind.name(),
            "text": STANDARD.encode(object.to_string()),
            "format": format.name(),
        }))?;
        wire::bytes(&response, "text")
    }

    fn parse_through(&self, document: &[u8], kind: &str) -> Result<Value, UpstreamError> {
        let response = self.0.call(&json!({
            "op": "parse",
            "kind": kind,
            "text": STANDARD.encode(document),
        }))?;
        wire::json_text(&response, "text")
    }
}

fn build_released(name: &str) -> PathBuf {
    let package = format!("github.com/bitnami-labs/sealed-secrets/cmd/{name}");
    go_build::build_stamped(&source(), &package, &format!("peer-{name}"), &[VERSION])
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peer")
}
