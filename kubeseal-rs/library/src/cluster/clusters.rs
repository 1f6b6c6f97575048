//! The API servers that a run talks to.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::{Access, Cluster, ClusterError, Overrides, Timeout};
use crate::environment::Environment;

/// What distinguishes two connections. The names of controllers do not: one connection reaches all
/// of them.
#[derive(PartialEq)]
struct Question {
    kubeconfig: Option<PathBuf>,
    overrides: Overrides,
    timeout: Timeout,
}

/// The connections of one run, each opened on first use. Everything that a run asks of an API
/// server goes through the same connection, so an exec plug-in runs once. Can be shared between
/// threads.
pub struct Clusters<'a> {
    /// The environment of the run.
    pub environment: &'a Environment,
    open: Mutex<Vec<(Question, Cluster)>>,
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
    /// A failure is not remembered.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the kubeconfig or the flags cannot be used.
    pub fn connect(&self, access: &Access) -> Result<Cluster, ClusterError> {
        let question = Question {
            kubeconfig: access.kubeconfig.clone(),
            overrides: access.overrides.clone(),
            timeout: access.timeout,
        };
        // Locked while it connects, so that two threads do not run the plug-in twice.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cluster)) = open.iter().find(|(known, _)| *known == question) {
            return Ok(cluster.clone());
        }
        let cluster = Cluster::new(access, self.environment)?;
        open.push((question, cluster.clone()));
        Ok(cluster)
    }
}
