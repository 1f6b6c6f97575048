//! What the controller was told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use shared::key::KeySpec;
use shared::key_secret::OrderPriority;
use shared::renewal;

use super::Address;
use crate::log;
use crate::reconcile::Policy;

/// Everything that the controller was told.
#[derive(Debug)]
pub struct Config {
    /// Where to work.
    pub place: Place,
    /// About keys.
    pub keys: KeyConfig,
    /// About SealedSecrets and Secrets.
    pub policy: Policy,
    /// Address of the HTTP server.
    pub listen: Address,
    /// Address of the metrics.
    pub listen_metrics: Address,
    /// Address for authorised callers, if they are served.
    pub listen_authorised: Option<Address>,
    /// Does the plain port serve neither verify nor rotate?
    pub plain_certificate_only: bool,
    /// Are names of objects left out of the metrics?
    pub omits_names: bool,
    /// Objects with a series of their own in the metrics.
    pub most_named: usize,
    /// Requests a second of one caller, and how many more at once.
    pub rate: (u32, u32),
    /// Bounds the reading of a request.
    pub read_timeout: Duration,
    /// Bounds the writing of an answer.
    pub write_timeout: Duration,
    /// What to log, how and where.
    pub log: log::Config,
    /// Sentences to log once at start.
    pub warnings: Vec<String>,
}

/// Where SealedSecrets, keys and Secrets are.
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In this folder.
    Directory(PathBuf),
    /// In a cluster.
    Cluster(ClusterConfig),
}

/// About the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// How to reach it; as a Pod does if absent.
    pub kubeconfig: Option<PathBuf>,
    /// Where this process runs, as far as its environment says so.
    pub pod: Pod,
    /// All namespaces?
    pub all_namespaces: bool,
    /// Namespaces beside the own one.
    pub additional_namespaces: Vec<String>,
    /// Which SealedSecrets.
    pub label_selector: Option<String>,
    /// Are Secrets deleted with their SealedSecret instead of by the garbage collector?
    pub deletes_secrets: bool,
    /// What events are written about SealedSecrets.
    pub announced: Announced,
    /// Are Secrets watched?
    pub watches_secrets: bool,
    /// The `ConfigMap` in the own namespace that holds the certificate, if there is to be one.
    pub certificate_config_map: Option<String>,
    /// Requests a second to the API server and how many at once after a rest, if that is bounded.
    pub rate: Option<(f64, u32)>,
    /// About several replicas.
    pub election: Election,
}

/// What the environment says about the Pod of this process: `POD_NAMESPACE`, `POD_NAME` and `POD_UID`, which the
/// manifests set by the downward API. What is not set or empty is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its uid.
    pub uid: Option<String>,
}

impl Pod {
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let filled = |name: &str| variable(name).filter(|text| !text.is_empty());
        Self {
            namespace: filled("POD_NAMESPACE"),
            name: filled("POD_NAME"),
            uid: filled("POD_UID"),
        }
    }
}

/// What events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Every one.
    Everything,
    /// Warnings alone.
    Warnings,
}

/// Which of several replicas writes, and how soon another one does if it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// Are there several at all?
    pub elects: bool,
    /// Name of the Lease, in the controller's own namespace.
    pub lease_name: String,
    /// So long after the last word of the leader another replica takes over.
    pub lease_duration: Duration,
    /// So long after its last word the leader writes nothing any more.
    pub renew_deadline: Duration,
    /// Between two looks at the Lease.
    pub retry_period: Duration,
}

impl ClusterConfig {
    /// The namespaces to watch; `None` stands for all.
    pub fn namespaces(&self, own: &str) -> Vec<Option<String>> {
        if self.all_namespaces && self.additional_namespaces.is_empty() {
            return vec![None];
        }
        let mut names = vec![own.to_owned()];
        for name in &self.additional_namespaces {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names.into_iter().map(Some).collect()
    }
}

/// About keys.
#[derive(Debug, Clone)]
pub struct KeyConfig {
    /// What names of new keys begin with, and the name of the key that needs no label.
    pub prefix: String,
    /// Namespace in the manifests of new keys.
    pub namespace: String,
    /// Labels of new keys.
    pub labels: BTreeMap<String, String>,
    /// Annotations of new keys.
    pub annotations: BTreeMap<String, String>,
    /// Size, validity and common name of new keys.
    pub spec: KeySpec,
    /// When keys are made.
    pub policy: renewal::Policy,
    /// By what keys are ordered.
    pub priority: OrderPriority,
    /// Does a key seal only once it is marked as backed up?
    pub requires_backup: bool,
}
