//! The response of `/v2/recipients`: the public keys of a controller.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The public keys of a controller that clients may seal for. All except the first are valid at the time of the
/// response.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecipientList {
    /// The keys, in the controller's order of preference: it seals with the first.
    pub recipients: Vec<ListedRecipient>,
}

/// A public key. Exactly one of `recipient` and `certificate` is present. The fields are not verified: a client must
/// parse the key and compare its identifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRecipient {
    /// The name of the suite. A client skips suites that it does not know.
    pub suite: String,
    /// The identifier of the key: 32 bytes in base64url without padding.
    pub key_id: String,
    /// The public key as a `seal2-recipient SUITE ID KEY` line, unless the suite is `rsa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The certificate of the public key in PEM, if the suite is `rsa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The time from which the key may seal.
    pub not_before: Timestamp,
    /// The time until which the key may seal.
    pub not_after: Timestamp,
}
