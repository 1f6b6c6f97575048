//! The JSON of an error response.

use serde::{Deserialize, Serialize};

/// Why a request is refused. Never contains a value, or anything that depends on a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The error message.
    pub error: String,
    /// What the user can do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The name of the SealedSecret that caused the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_secret: Option<String>,
    /// The key of the item that caused the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
}

impl Failure {
    /// Parses the JSON of a failure; returns `None` for other bodies, such as the error page of a proxy.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_object_and_item_if_there_are_any() {
        let failure = Failure {
            error: "e".into(),
            hint: "h".into(),
            sealed_secret: Some("db".into()),
            item: None,
        };
        let json = serde_json::to_string(&failure).unwrap();
        assert_eq!(json, r#"{"error":"e","hint":"h","sealedSecret":"db"}"#);
        assert_eq!(Failure::from_json(json.as_bytes()), Some(failure));
        assert_eq!(Failure::from_json(b"<html>"), None);
    }
}
