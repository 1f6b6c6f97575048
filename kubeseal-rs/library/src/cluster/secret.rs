//! Reads the unsealed Secret, for callers who may read it.

use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::{ApiPath, Cluster, ClusterError};

impl Cluster {
    /// Returns a Secret. **The result contains plain values**, in base64.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails, for example because the Secret does not
    /// exist or RBAC does not allow the caller to read it.
    pub fn secret(&self, namespace: &str, name: &str) -> Result<Json, ClusterError> {
        let failure = "cannot read the Secret";
        let path = ApiPath::namespaced("/api/v1", namespace, "secrets")?.object(name)?;
        let body = Zeroizing::new(self.api.get(&path)?.success(failure)?);
        let expected = "an object";
        super::parse(&body).map_err(|_| ClusterError::Unexpected { failure, expected })
    }
}
