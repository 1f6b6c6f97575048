//! Paths of requests to the API server.
//!
//! Names in files and rules are untrusted, and a name such as `a/../b` or `a?b` would turn a request into another one,
//! which the API server would execute with the user's permissions. So a path is built from segments that are checked.

use super::ClusterError;

/// A path of the API server, each of whose names is checked to be a single segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiPath(String);

impl ApiPath {
    /// Creates a path from a constant, which contains no names.
    pub fn fixed(path: &'static str) -> Self {
        Self(path.to_owned())
    }

    /// Returns the path of all objects of a kind in a namespace. `group` is the prefix of the API group, such as
    /// `/api/v1`.
    ///
    /// # Errors
    ///
    /// Returns [`ClusterError::Malformed`] if no namespace can have this name.
    pub fn namespaced(
        group: &'static str,
        namespace: &str,
        resource: &'static str,
    ) -> Result<Self, ClusterError> {
        let namespace = segment(namespace)?;
        Ok(Self(format!("{group}/namespaces/{namespace}/{resource}")))
    }

    /// Returns the path of the object with this name. `self` is the path of all objects of the kind.
    ///
    /// # Errors
    ///
    /// Returns [`ClusterError::Malformed`] if no object can have this name.
    pub fn object(&self, name: &str) -> Result<Self, ClusterError> {
        let name = segment(name)?;
        Ok(Self(format!("{}/{name}", self.0)))
    }

    /// Returns the path that proxies a request for `endpoint`, such as `v1/cert.pem`, through the API server to a port
    /// of a Service. `self` is the path of all Services of the namespace. `port` may be empty if the Service has only
    /// one port.
    ///
    /// # Errors
    ///
    /// Returns [`ClusterError::Malformed`] if no Service or no port can have this name.
    pub fn proxied(&self, service: &str, port: &str, endpoint: &str) -> Result<Self, ClusterError> {
        let service = segment(service)?;
        let port = if port.is_empty() { "" } else { segment(port)? };
        let services = &self.0;
        Ok(Self(format!(
            "{services}/http:{service}:{port}/proxy/{endpoint}"
        )))
    }

    /// Returns the path of the log of a container. `self` is the path of a Pod.
    ///
    /// # Errors
    ///
    /// Returns [`ClusterError::Malformed`] if no container can have this name.
    pub fn log_of(&self, container: &str) -> Result<Self, ClusterError> {
        let container = segment(container)?;
        Ok(self.subresource("log").parameter("container", container))
    }

    /// Appends a subresource, such as `status`.
    #[must_use]
    pub fn subresource(&self, name: &'static str) -> Self {
        Self(format!("{}/{name}", self.0))
    }

    /// Appends a parameter of the query. The value is inserted as it is, so it must already be escaped, and must not
    /// contain unchecked names.
    #[must_use]
    pub fn parameter(&self, name: &'static str, value: &str) -> Self {
        let separator = if self.0.contains('?') { '&' } else { '?' };
        Self(format!("{}{separator}{name}={value}", self.0))
    }

    /// Returns the path with its query.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the name if it is safe as one segment of a path: API servers accept no other names for the kinds of objects
/// that these programs use.
fn segment(name: &str) -> Result<&str, ClusterError> {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_allowed) {
        return Ok(name);
    }
    Err(ClusterError::Malformed {
        expected: "name of an object in a cluster",
        text: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: the author of a file or a rule chooses a name that leads a user's request to another path of the API
    /// server, with the permissions of the user.
    #[test]
    fn refuses_names_that_change_the_request_path() {
        let services = |namespace| ApiPath::namespaced("/api/v1", namespace, "services");
        for (name, want) in [
            ("default", true),
            ("ci-1.x", true),
            ("", false),
            ("..", false),
            (".a", false),
            ("a/../b", false),
            ("kube-system/secrets/x?", false),
            ("a?b", false),
            ("a#b", false),
            ("a%2fb", false),
            ("a\\b", false),
            ("a b", false),
            ("a\nb", false),
            ("A", false),
        ] {
            let all = services("ns").unwrap();
            assert_eq!(services(name).is_ok(), want, "namespace {name:?}");
            assert_eq!(all.object(name).is_ok(), want, "object {name:?}");
            assert_eq!(all.log_of(name).is_ok(), want, "container {name:?}");
            let port = if name.is_empty() { "/" } else { name };
            assert_eq!(all.proxied(name, "http", "v1").is_ok(), want, "{name:?}");
            assert_eq!(all.proxied("a", port, "v1").is_ok(), want, "port {name:?}");
        }
    }

    #[test]
    fn builds_paths() {
        let services = ApiPath::namespaced("/api/v1", "ns", "services").unwrap();
        for (path, want) in [
            (services.clone(), "/api/v1/namespaces/ns/services"),
            (
                services.object("a").unwrap().subresource("status"),
                "/api/v1/namespaces/ns/services/a/status",
            ),
            (
                services.proxied("a", "", "v1/cert.pem").unwrap(),
                "/api/v1/namespaces/ns/services/http:a:/proxy/v1/cert.pem",
            ),
            (
                services.parameter("limit", "5").parameter("continue", "x"),
                "/api/v1/namespaces/ns/services?limit=5&continue=x",
            ),
        ] {
            assert_eq!(path.as_str(), want);
        }
    }
}
