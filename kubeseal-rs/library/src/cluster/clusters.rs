//! The connections of a run to API servers.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::{Access, Cluster, ClusterError, Overrides, Timeout};
use crate::environment::Environment;

/// The settings that identify a connection. They do not include the controller's name, since one connection reaches all
/// controllers.
#[derive(PartialEq)]
struct ConnectionKey {
    kubeconfig: Option<PathBuf>,
    overrides: Overrides,
    timeout: Timeout,
}

/// The connections of one run, each opened on first use. Requests with the same settings use the same connection, so an
/// exec plug-in runs once. Can be shared between threads.
pub struct Clusters<'a> {
    /// The environment of the run.
    pub environment: &'a Environment,
    open: Mutex<Vec<(ConnectionKey, Cluster)>>,
}

impl<'a> Clusters<'a> {
    /// Creates an empty set. Opens no connection yet.
    pub fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            open: Mutex::default(),
        }
    }

    /// Returns the connection for these settings. Sends no request yet, but may run an exec plug-in.
    /// A failure is not cached.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the kubeconfig, the flags or the credentials cannot be used.
    pub fn connect(&self, access: &Access) -> Result<Cluster, ClusterError> {
        let key = ConnectionKey {
            kubeconfig: access.kubeconfig.clone(),
            overrides: access.overrides.clone(),
            timeout: access.timeout,
        };
        // Keep the lock while connecting, so that two threads do not run the plug-in twice.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cluster)) = open.iter().find(|(existing, _)| *existing == key) {
            return Ok(cluster.clone());
        }
        let cluster = Cluster::new(access, self.environment)?;
        open.push((key, cluster.clone()));
        Ok(cluster)
    }
}
