//! The Go implementation of Sealed Secrets, as a library in a process of its own and as its
//! binaries.
//!
//! Everything is built by Go itself from `tests/peer`, whose `go.sum` pins the peer's sources.

mod process;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use shared::manifest::{self, Reading, Shape};

pub use process::PeerError;
pub use wire::{KeyPair, KeyRequest};

use crate::go_build;
use process::Process;

/// The release that the programs report; `tests/peer/go.mod` requires the same.
const VERSION: (&str, &str) = ("main.VERSION", "0.36.6");

/// The peer's command line tool.
pub fn peer_kubeseal() -> PathBuf {
    released("kubeseal")
}

/// The peer's controller.
pub fn peer_controller() -> PathBuf {
    released("controller")
}

/// The folder of the peer's own chart.
///
/// # Panics
/// If Go cannot say where the peer's sources are.
pub fn chart() -> PathBuf {
    let module = "github.com/bitnami-labs/sealed-secrets";
    // Downloads it where nothing of the peer was built yet.
    let listed = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(source())
        .output()
        .expect("Go is installed");
    let module: Value = serde_json::from_slice(&listed.stdout).expect("JSON of Go");
    let folder = module["Dir"].as_str().expect("Go has downloaded it");
    Path::new(folder).join("helm/sealed-secrets")
}

/// The peer's own definition of a SealedSecret, as its chart installs it.
///
/// # Panics
/// As [`chart`].
pub fn definition() -> CustomResourceDefinition {
    let path = chart().join("crds/bitnami.com_sealedsecrets.yaml");
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = manifest::read(&text).expect("YAML");
    let json = Reading::default().json(&documents[0].root, Shape::Any);
    serde_json::from_value(json.expect("JSON")).expect("a definition")
}

/// Text form of a manifest.
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

/// The Go type that a manifest goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `v1.Secret` of the Kubernetes API.
    Secret,
    /// The peer's own `SealedSecret`.
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

/// The peer as a library: one running process, shared freely between threads.
///
/// Keys and certificates are PEM texts. Every method fails with [`PeerError::Refused`] and the
/// peer's own words when the peer refuses, and with another variant only when the process is gone.
#[derive(Debug)]
pub struct Peer(Process);

impl Peer {
    /// Builds the peer if it is not built yet, and starts it.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start() -> Result<Self, PeerError> {
        Process::start(&go_build::build(&source(), ".", "peer")).map(Self)
    }

    /// One value's ciphertext, without base64.
    ///
    /// # Errors
    /// When the certificate is refused (expired, not RSA, unreadable).
    pub fn seal_value(
        &self,
        certificate: &str,
        label: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, PeerError> {
        let answer = self.0.call(&json!({
            "op": "seal_value",
            "certificate": STANDARD.encode(certificate),
            "label": STANDARD.encode(label),
            "value": STANDARD.encode(plain),
        }))?;
        wire::bytes(&answer, "value")
    }

    /// The plain value behind one ciphertext, by whichever key opens it.
    ///
    /// # Errors
    /// When no key opens it.
    pub fn open_value(
        &self,
        keys: &[&str],
        label: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, PeerError> {
        let answer = self.0.call(&json!({
            "op": "open_value",
            "keys": keys,
            "label": STANDARD.encode(label),
            "value": STANDARD.encode(sealed),
        }))?;
        wire::bytes(&answer, "value")
    }

    /// The `SealedSecret` that the peer makes of a Secret manifest (JSON or YAML).
    ///
    /// # Errors
    /// When the manifest or the certificate is refused.
    pub fn seal_secret(
        &self,
        certificate: &str,
        secret: &[u8],
        format: Format,
    ) -> Result<Vec<u8>, PeerError> {
        let answer = self.0.call(&json!({
            "op": "seal_secret",
            "certificate": STANDARD.encode(certificate),
            "text": STANDARD.encode(secret),
            "format": format.name(),
        }))?;
        wire::bytes(&answer, "text")
    }

    /// The Secret that the peer makes of a `SealedSecret` manifest (JSON or YAML).
    ///
    /// # Errors
    /// When an item does not open, or the manifest is refused.
    pub fn unseal(
        &self,
        keys: &[&str],
        sealed: &[u8],
        format: Format,
    ) -> Result<Vec<u8>, PeerError> {
        let answer = self.0.call(&json!({
            "op": "unseal",
            "keys": keys,
            "text": STANDARD.encode(sealed),
            "format": format.name(),
        }))?;
        wire::bytes(&answer, "text")
    }

    /// A new key pair with its self-signed certificate.
    ///
    /// # Errors
    /// When Go refuses the size.
    pub fn generate(&self, wanted: &KeyRequest) -> Result<KeyPair, PeerError> {
        let answer = self
            .0
            .call(&json!({ "op": "generate", "generate": wanted }))?;
        wire::parsed(answer)
    }

    /// `SHA256:…` of the certificate's public key, as `ssh-keygen -l` prints it.
    ///
    /// # Errors
    /// When the certificate is refused.
    pub fn fingerprint(&self, certificate: &str) -> Result<String, PeerError> {
        let answer = self.0.call(&json!({
            "op": "fingerprint",
            "certificate": STANDARD.encode(certificate),
        }))?;
        wire::text(&answer, "fingerprint")
    }

    /// One JSON or YAML document as Go's `sigs.k8s.io/yaml` reads it.
    ///
    /// # Errors
    /// When the document does not parse.
    pub fn parse(&self, document: &[u8]) -> Result<Value, PeerError> {
        self.parsed(document, "")
    }

    /// As [`Self::parse`], but through a Go type, which coerces and drops what does not fit.
    ///
    /// # Errors
    /// When the document does not parse or does not fit the type.
    pub fn parse_as(&self, kind: Kind, document: &[u8]) -> Result<Value, PeerError> {
        self.parsed(document, kind.name())
    }

    /// An object in the peer's text form, without the frame that `kubeseal` prints around it (a
    /// final line end for JSON, a leading `---` for YAML).
    ///
    /// # Errors
    /// When the object does not fit the kind.
    pub fn encode(&self, kind: Kind, object: &Value, format: Format) -> Result<Vec<u8>, PeerError> {
        let answer = self.0.call(&json!({
            "op": "encode",
            "kind": kind.name(),
            "text": STANDARD.encode(object.to_string()),
            "format": format.name(),
        }))?;
        wire::bytes(&answer, "text")
    }

    fn parsed(&self, document: &[u8], kind: &str) -> Result<Value, PeerError> {
        let answer = self.0.call(&json!({
            "op": "parse",
            "kind": kind,
            "text": STANDARD.encode(document),
        }))?;
        wire::json_text(&answer, "text")
    }
}

fn released(name: &str) -> PathBuf {
    let package = format!("github.com/bitnami-labs/sealed-secrets/cmd/{name}");
    go_build::build_stamped(&source(), &package, &format!("peer-{name}"), &[VERSION])
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peer")
}
