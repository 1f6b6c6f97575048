//! Tokens that are bound to Pods, and tokens that no API server issues.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::{ControlPlane, Namespace};

/// Creates a Pod with this service account. No node runs it.
pub async fn create_pod(namespace: &Namespace<'_>, name: &str, account: &str) -> Pod {
    let container = json!({ "name": "c", "image": "none" });
    let spec = json!({ "serviceAccountName": account, "containers": [container] });
    let pod = json!({ "metadata": { "name": name }, "spec": spec });
    namespace.create_object(pod).await
}

impl ControlPlane {
    /// Returns a token of the Pod's account that is bound to the Pod, like the one that the kubelet projects.
    ///
    /// # Panics
    /// Panics if the API server issues no token.
    pub async fn token_of_pod(&self, pod: &Pod, audiences: &[&str]) -> String {
        let namespace = pod.namespace().expect("a Pod has a namespace");
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin(), &namespace);
        let mut request = TokenRequest::default();
        request.spec.audiences = audiences.iter().map(|name| (*name).to_owned()).collect();
        request.spec.bound_object_ref = Some(BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(pod.name_any()),
            uid: pod.uid(),
        });
        let account = account.expect("a Pod has an account");
        let params = PostParams::default();
        let response = accounts.create_token_request(&account, &params, &request);
        let response = response.await.expect("the API server issues tokens");
        response
            .status
            .expect("the API server sets the status")
            .token
    }

    /// Returns the token with changed claims, signed with the API server's key.
    ///
    /// # Panics
    /// Panics in a cluster from `TEST_KUBECONFIG`, whose key is not accessible, or if the token is not a JSON Web
    /// Token.
    pub fn with_claims(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        let own = self.own.as_ref().expect("this process started the plane");
        let pem = fs::read_to_string(own.account_key()).expect("the plane has the key");
        let key = KeyPair::from_pem(&pem).expect("a key");
        let [head, claims, _] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!("not a JSON Web Token");
        };
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
        let mut claims: Value = serde_json::from_slice(&claims).expect("JSON");
        change(&mut claims);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = key.sign(signed.as_bytes()).expect("the key signs");
        format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(fixed_size(&signature))
        )
    }
}

/// Returns both numbers of an ECDSA signature in DER with 32 bytes each, as JSON Web Tokens have them.
fn fixed_size(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(rest[1].into());
        let start = number.len().saturating_sub(32);
        let number = &number[start..];
        fixed.resize(fixed.len() + 32 - number.len(), 0);
        fixed.extend_from_slice(number);
        rest = after;
    }
    fixed
}
