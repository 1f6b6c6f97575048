//! The attributes of a volume: the parameters of the SecretProviderClass, overridden by those of the Pod's volume, and
//! the attributes that the kubelet adds.
//!
//! The authors of the class and of the Pod choose these attributes freely. Only the token proves which Pod sends the
//! request, and the controller checks the token.

use std::collections::HashMap;

use deliver::AUDIENCE;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::failure::{Failure, FinalCode};

/// The attributes that this provider uses.
pub(crate) struct Attributes {
    /// What to deliver, in YAML.
    pub(crate) objects: String,
    /// The token of the Pod for the audience of the controller.
    pub(crate) token: Zeroizing<String>,
    /// The namespace of the Pod; empty if it is missing. With `podInfoOnMount` in the CSIDriver, the kubelet sets it in place
    /// of an attribute that an author sets. It only determines the share of the node's requests.
    pub(crate) namespace: String,
}

/// The maximum size of a token. Tokens have about 1 KiB.
const MAX_TOKEN: usize = 16 << 10;
/// The maximum length of the name of a namespace.
const MAX_NAMESPACE: usize = 63;

#[derive(Deserialize)]
struct Body {
    objects: Option<String>,
    #[serde(rename = "csi.storage.k8s.io/serviceAccount.tokens")]
    tokens: Option<String>,
    #[serde(rename = "csi.storage.k8s.io/pod.namespace")]
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Attributes {
    /// Reads the JSON that the driver sends.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Failure> {
        // Parser errors contain parts of the input, so they are not shown.
        let body: Body = serde_json::from_slice(json).map_err(|_| {
            Failure::invalid("the attributes of the volume are not a JSON object of strings")
        })?;
        let tokens = Zeroizing::new(body.tokens.unwrap_or_default());
        let token = token(&tokens).ok_or_else(no_token)?;
        let objects = body.objects.ok_or_else(|| {
            let hint =
                "hint: name SealedSecrets in spec.parameters.objects of the SecretProviderClass";
            Failure::invalid(&format!("the parameter `objects` is missing\n{hint}"))
        })?;
        let namespace = body.namespace.unwrap_or_default();
        Ok(Self {
            objects,
            token,
            namespace: namespace.chars().take(MAX_NAMESPACE).collect(),
        })
    }
}

/// Returns the token for the audience of the controller. `tokens` is a JSON object, which can also contain tokens for
/// other providers.
fn token(tokens: &str) -> Option<Zeroizing<String>> {
    let mut tokens: HashMap<String, Token> = serde_json::from_str(tokens).ok()?;
    let token = Zeroizing::new(tokens.remove(AUDIENCE)?.token);
    (1..=MAX_TOKEN).contains(&token.len()).then_some(token)
}

fn no_token() -> Failure {
    let text = format!(
        "the kubelet sent no token of the Pod for the audience {AUDIENCE}\n\
         hint: set tokenRequests: [{{audience: {AUDIENCE}}}] \
         in the values of the Secrets Store CSI driver's chart, or in the CSIDriver object secrets-store.csi.k8s.io"
    );
    Failure::new(FinalCode::FailedPrecondition, &text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

    fn read(json: &serde_json::Value) -> Result<Attributes, Failure> {
        Attributes::from_json(json.to_string().as_bytes())
    }

    #[test]
    fn uses_the_objects_and_the_token_for_the_controller() {
        let tokens = json!({ "vault": { "token": "other" }, AUDIENCE: { "token": "t", "expirationTimestamp": "x" } });
        let attributes = json!({
            "objects": "- sealedSecret: db",
            TOKENS: tokens.to_string(),
            "csi.storage.k8s.io/pod.name": "web",
            "csi.storage.k8s.io/pod.namespace": "shop",
            "vaultAddress": "https://vault:8200",
        });
        let attributes = read(&attributes).unwrap();
        assert_eq!(attributes.objects, "- sealedSecret: db");
        assert_eq!(
            (attributes.token.as_str(), attributes.namespace.as_str()),
            ("t", "shop")
        );
    }

    /// Fault: the CSIDriver has no `tokenRequests`, or the kubelet sends only tokens for other audiences, or malformed
    /// tokens.
    #[test]
    fn without_a_token_for_the_controller_nothing_is_sent() {
        let other = json!({ "vault": { "token": "t" } }).to_string();
        let empty = json!({ AUDIENCE: { "token": "" } }).to_string();
        for tokens in [
            None,
            Some(""),
            Some("{}"),
            Some("[]"),
            Some(&other),
            Some(&empty),
        ] {
            let failure = read(&json!({ "objects": "- sealedSecret: db", TOKENS: tokens }));
            let failure = failure.err().unwrap();
            assert_eq!(failure.code, FinalCode::FailedPrecondition);
            assert!(failure.to_string().contains("tokenRequests"), "{failure}");
        }
    }

    #[test]
    fn a_failure_contains_no_attribute() {
        let failure = Attributes::from_json(br#"{"objects": ["hunter2"]}"#)
            .err()
            .unwrap();
        assert_eq!(failure.code, FinalCode::InvalidArgument);
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
        let tokens = json!({ AUDIENCE: { "token": "hunter2" } }).to_string();
        let failure = read(&json!({ TOKENS: tokens })).err().unwrap();
        assert!(
            failure.to_string().contains("`objects` is missing"),
            "{failure}"
        );
        assert!(!failure.to_string().contains("hunter2"), "{failure}");
    }
}
