//! Fields of the JSON lines of `tests/peer`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::UpstreamError;

/// The parameters of a key pair to generate.
#[derive(Debug, Clone, Serialize)]
pub struct KeyRequest {
    /// RSA modulus size in bits; 0 requests a P-256 key, which Sealed Secrets has to refuse.
    pub bits: u32,
    /// Start of the certificate's validity, in seconds since 1970.
    pub not_before: i64,
    /// Length of the certificate's validity, in seconds.
    pub valid_for: i64,
    /// Common name of issuer and subject; empty for an empty distinguished name.
    pub common_name: String,
}

impl KeyRequest {
    /// Requests an RSA key whose certificate is valid from 2020 to 2120.
    #[must_use]
    pub fn rsa(bits: u32) -> Self {
        Self {
            bits,
            not_before: 1_577_836_800,
            valid_for: 3_155_760_000,
            common_name: String::new(),
        }
    }
}

/// A key pair in each format that Sealed Secrets has to read, all in PEM.
#[derive(Clone, Deserialize)]
pub struct KeyPair {
    /// The private key in its traditional format: PKCS#1, or SEC 1 for elliptic curves.
    pub pkcs1: String,
    /// The private key as PKCS#8.
    pub pkcs8: String,
    /// The self-signed certificate.
    pub certificate: String,
    /// The public key without a certificate.
    pub public_key: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Decodes the bytes of a field. Returns no bytes if the field is missing, because Go omits empty fields.
pub(super) fn bytes(response: &Value, field: &str) -> Result<Vec<u8>, UpstreamError> {
    let Some(text) = response.get(field) else {
        return Ok(Vec::new());
    };
    let text = text
        .as_str()
        .ok_or(UpstreamError::Response("a base64 string"))?;
    STANDARD
        .decode(text)
        .map_err(|_| UpstreamError::Response("a base64 string"))
}

pub(super) fn text(response: &Value, field: &str) -> Result<String, UpstreamError> {
    response
        .get(field)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or(UpstreamError::Response("a string"))
}

pub(super) fn json_text(response: &Value, field: &str) -> Result<Value, UpstreamError> {
    serde_json::from_slice(&bytes(response, field)?)
        .map_err(|_| UpstreamError::Response("a JSON text"))
}

pub(super) fn from_json<T: DeserializeOwned>(response: Value) -> Result<T, UpstreamError> {
    serde_json::from_value(response).map_err(|_| UpstreamError::Response("a key pair"))
}
