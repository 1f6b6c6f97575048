use std::time::Duration;

/// The configuration of the leader election, which decides which of several replicas may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// Whether leader election is enabled.
    pub enabled: bool,
    /// The name of the Lease.
    pub lease_name: String,
    /// How long after the leader's last renewal another replica may acquire the Lease.
    pub lease_duration: Duration,
    /// How long after its last renewal the leader stops writing.
    pub renew_deadline: Duration,
    /// The usual pause between two attempts to acquire or renew the Lease.
    pub retry_period: Duration,
}

/// The Pod of this process, from environment variables that the manifests set through the downward API. `None` for
/// unset and empty variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// From `POD_NAMESPACE`: where the Lease is by default.
    pub namespace: Option<String>,
    /// From `POD_NAME`: the readable part of the identity in the Lease.
    pub name: Option<String>,
    /// From `POD_UID`: makes the identity in the Lease unique.
    pub uid: Option<String>,
}

impl Pod {
    /// Reads the environment variables.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let non_empty = |name: &str| variable(name).filter(|text| !text.is_empty());
        Self {
            namespace: non_empty("POD_NAMESPACE"),
            name: non_empty("POD_NAME"),
            uid: non_empty("POD_UID"),
        }
    }
}
