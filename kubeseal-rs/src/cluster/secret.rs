//! The unsealed Secret, for one who may read it.

use http::Method;
use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::{Access, ClusterError, Controller};

/// A Secret as the API server has it. **It holds plain values** in base64.
///
/// # Errors
///
/// [`ClusterError`]: among others, it is not there, or the caller may not read it.
pub fn secret(access: &Access, namespace: &str, name: &str) -> Result<Json, ClusterError> {
    let what = "cannot read the Secret";
    let api = Controller::connect(access)?;
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    let answer = api.ask(Method::GET, &path, None)?;
    if answer.code.is_success() {
        let body = Zeroizing::new(answer.body);
        return serde_json::from_slice(&body).map_err(|_| ClusterError::Nonsense { what });
    }
    let status: Json = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = status["message"].as_str().unwrap_or_default().to_owned();
    let code = answer.code;
    Err(ClusterError::Secret { code, text })
}
