//! Words and variables → [`Config`], validated as a whole: every mistake is named at once, before
//! anything is opened or written.

mod address;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flags::Flags;
use jiff::{SignedDuration, Timestamp};
use shared::key::{KeySize, KeySpec};
use shared::key_secret::OrderPriority;
use shared::renewal;
use shared::unseal::Rules;

use crate::author_limits::AuthorLimits;
use crate::log;
use crate::reconcile::Policy;
pub use address::{Address, AddressError};
use table::CLUSTER_ONLY;
pub use table::PROGRAM;

/// Namespace in the manifests of new keys when `POD_NAMESPACE` says nothing: where `kubeseal`
/// looks for a controller, so that a key carried into a cluster lands where it is found.
const KEY_NAMESPACE: &str = "kube-system";

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
    /// `POD_NAMESPACE`.
    pub own_namespace: Option<String>,
    /// All namespaces?
    pub all_namespaces: bool,
    /// Namespaces beside the own one.
    pub additional_namespaces: Vec<String>,
    /// Which SealedSecrets.
    pub label_selector: Option<String>,
    /// Are Secrets deleted with their SealedSecret instead of by the garbage collector?
    pub deletes_secrets: bool,
    /// Are Secrets watched?
    pub watches_secrets: bool,
    /// The `ConfigMap` in the own namespace that holds the certificate, if there is to be one.
    pub certificate_config_map: Option<String>,
    /// Requests a second to the API server and how many at once after a rest, if that is bounded.
    pub rate: Option<(f64, u32)>,
    /// About several replicas.
    pub election: Election,
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

/// There is nothing to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Print to stdout, exit 0.
    Print(String),
    /// The words are wrong: print to stderr, exit 2.
    Usage(String),
    /// Values are wrong, a sentence each: print to stderr, exit 1.
    Invalid(Vec<String>),
}

impl Config {
    /// Reads words (without the program's name) and variables.
    ///
    /// # Errors
    ///
    /// [`Stop`] if help or version was asked for, or with everything that is wrong.
    pub fn read(
        words: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Stop> {
        let flags = PROGRAM.parse(words, &variable).map_err(|stop| match stop {
            flags::Stop::Help(text) => Stop::Print(text),
            flags::Stop::Usage(text) => Stop::Usage(text),
            flags::Stop::Refused(text) => Stop::Invalid(vec![text]),
        })?;
        if flags.switch("version") {
            let version = env!("CARGO_PKG_VERSION");
            return Err(Stop::Print(format!("controller version: {version}\n")));
        }
        let mut checks = Checks::new(&flags);
        let config = checks.config(variable("POD_NAMESPACE"));
        if checks.mistakes.is_empty() {
            Ok(config)
        } else {
            Err(Stop::Invalid(checks.mistakes))
        }
    }
}

/// Collects what is wrong while values are read.
struct Checks<'a> {
    flags: &'a Flags,
    mistakes: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Checks<'a> {
    fn new(flags: &'a Flags) -> Self {
        Self {
            flags,
            mistakes: Vec::new(),
            warnings: flags.warnings().to_vec(),
        }
    }

    fn config(&mut self, pod_namespace: Option<String>) -> Config {
        let keys = self.keys(pod_namespace.clone());
        let place = self.place(pod_namespace);
        self.warn_of_flags_without_effect(&place);
        Config {
            place,
            keys,
            policy: self.policy(),
            listen: self.address("listen-addr"),
            listen_metrics: self.address("listen-metrics-addr"),
            listen_authorised: self
                .flags
                .text_if_any("listen-authorized-addr")
                .is_some()
                .then(|| self.address("listen-authorized-addr")),
            plain_certificate_only: self.flags.switch("plain-certificate-only"),
            omits_names: self.flags.switch("metrics-omit-secret-labels"),
            rate: (self.count("rate-limit"), self.count("rate-limit-burst")),
            read_timeout: self.timeout("read-timeout"),
            write_timeout: self.timeout("write-timeout"),
            log: self.log(),
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    fn policy(&mut self) -> Policy {
        Policy {
            author_limits: Arc::new(self.author_limits()),
            rules: Rules {
                accept_legacy: self.flags.switch("accept-deprecated-v1-data"),
                refuse_chance: self.flags.switch("refuse-random-templates"),
            },
            update_status: self.flags.switch("update-status"),
            tolerates_drift: !self.flags.switch("correct-drift"),
            retries: self.count("max-unseal-retries"),
        }
    }

    fn author_limits(&mut self) -> AuthorLimits {
        let age = self.flags.duration("max-sealing-key-age");
        if age.is_negative() {
            self.mistake("max-sealing-key-age", "must not be negative; 0 is no limit");
        }
        let limits = AuthorLimits::read(
            self.flags.text("forbid-secret-types"),
            self.flags.text("allowed-scopes"),
            Some(age).filter(|age| !age.is_zero()),
        );
        self.or_default("allowed-scopes", limits)
    }

    fn place(&mut self, own_namespace: Option<String>) -> Place {
        let path = |name| self.flags.text_if_any(name).map(PathBuf::from);
        match (path("directory"), path("kubeconfig")) {
            (Some(_), Some(_)) => {
                self.mistake(
                    "kubeconfig",
                    "cannot be used with --directory: there is no cluster then",
                );
                Place::Directory(PathBuf::new())
            }
            (Some(directory), None) => Place::Directory(directory),
            (None, kubeconfig) => Place::Cluster(self.cluster(kubeconfig, own_namespace)),
        }
    }

    fn cluster(
        &mut self,
        kubeconfig: Option<PathBuf>,
        own_namespace: Option<String>,
    ) -> ClusterConfig {
        let names = self.flags.text("additional-namespaces").split(',');
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let additional_namespaces = names.map(str::to_owned).collect();
        ClusterConfig {
            rate: self.rate(),
            election: self.election(),
            kubeconfig,
            own_namespace,
            all_namespaces: self.flags.switch("all-namespaces"),
            additional_namespaces,
            label_selector: self.flags.text_if_any("label-selector").map(str::to_owned),
            deletes_secrets: self.flags.switch("old-gc-behavior"),
            watches_secrets: !self.flags.switch("skip-recreate"),
            certificate_config_map: self
                .flags
                .text_if_any("certificate-configmap")
                .map(str::to_owned),
        }
    }

    /// What is 0 is the default of the peer's client: 5 and 10.
    fn rate(&self) -> Option<(f64, u32)> {
        let or = |value: f64, default| if value == 0.0 { default } else { value };
        let rate = or(self.flags.float("kubeclient-qps"), 5.0);
        let burst = self.count("kubeclient-burst");
        let burst = if burst == 0 { 10 } else { burst };
        (rate > 0.0 && rate.is_finite()).then_some((rate, burst))
    }

    fn election(&mut self) -> Election {
        let election = Election {
            elects: self.flags.switch("leader-elect"),
            lease_name: self.flags.text("leader-elect-lease-name").to_owned(),
            lease_duration: self.timeout("leader-elect-lease-duration"),
            renew_deadline: self.timeout("leader-elect-renew-deadline"),
            retry_period: self.timeout("leader-elect-retry-period"),
        };
        if election.lease_name.is_empty() {
            self.mistake("leader-elect-lease-name", "must not be empty");
        }
        if election.lease_duration < Duration::from_secs(1) {
            self.mistake(
                "leader-elect-lease-duration",
                "must be at least 1s: a Lease counts whole seconds",
            );
        }
        if election.lease_duration <= election.renew_deadline {
            self.mistake(
                "leader-elect-renew-deadline",
                "must be shorter than --leader-elect-lease-duration: the leader has to stop before another replica begins",
            );
        }
        // A pause may be a fifth longer.
        if election.renew_deadline <= election.retry_period.mul_f64(1.2) {
            self.mistake(
                "leader-elect-retry-period",
                "must be shorter than --leader-elect-renew-deadline by more than a fifth",
            );
        }
        election
    }

    fn keys(&mut self, pod_namespace: Option<String>) -> KeyConfig {
        let size = KeySize::try_from(self.flags.int("key-size"));
        let ttl = self.flags.duration("key-ttl");
        if ttl <= SignedDuration::ZERO {
            self.mistake("key-ttl", "must be longer than 0");
        }
        KeyConfig {
            prefix: self.prefix(),
            namespace: pod_namespace
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or_else(|| KEY_NAMESPACE.into()),
            labels: self.pairs("privatekey-labels"),
            annotations: self.pairs("privatekey-annotations"),
            spec: KeySpec {
                size: self.or_default("key-size", size),
                ttl,
                common_name: self.flags.text("my-cn").to_owned(),
            },
            policy: renewal::Policy {
                period: self.period(),
                cutoff: self.cutoff(),
            },
            priority: self.priority(),
            requires_backup: self.flags.switch("require-backup"),
        }
    }

    fn prefix(&mut self) -> String {
        let prefix = self.flags.text("key-prefix");
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if prefix.is_empty() || prefix.len() > 245 {
            self.mistake("key-prefix", "must have 1 to 245 characters");
        } else if prefix.starts_with('-') || !prefix.chars().all(allowed) {
            self.mistake(
                "key-prefix",
                "takes a-z, 0-9 and -, and does not begin with -",
            );
        }
        prefix.to_owned()
    }

    /// The deprecated name counts only if the new one was not given.
    fn period(&mut self) -> Option<SignedDuration> {
        let deprecated = self.flags.given("rotate-period") && !self.flags.given("key-renew-period");
        let name = if deprecated {
            self.warnings
                .push("--rotate-period is deprecated; say --key-renew-period".into());
            "rotate-period"
        } else {
            "key-renew-period"
        };
        let period = self.flags.duration(name);
        if period.is_negative() {
            self.mistake(name, "must not be negative; 0 turns renewal off");
        }
        Some(period).filter(|period| !period.is_zero())
    }

    fn cutoff(&mut self) -> Option<Timestamp> {
        let text = self.flags.text_if_any("key-cutoff-time")?;
        let parsed = jiff::fmt::rfc2822::parse(text).map(|zoned| zoned.timestamp());
        if parsed.is_err() {
            self.mistake(
                "key-cutoff-time",
                "takes a time like 'Mon, 02 Jan 2006 15:04:05 -0700'",
            );
        }
        parsed.ok()
    }

    /// The peer runs with a word that it does not know, so we do too.
    fn priority(&mut self) -> OrderPriority {
        match self.flags.text("key-order-priority") {
            "CertNotBefore" => OrderPriority::CertNotBefore,
            "SecretCreationTimestamp" => OrderPriority::SecretCreationTimestamp,
            _ => {
                self.warnings.push(
                    "--key-order-priority takes CertNotBefore or SecretCreationTimestamp; \
                     CertNotBefore holds"
                        .into(),
                );
                OrderPriority::default()
            }
        }
    }

    fn pairs(&mut self, name: &str) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::new();
        for entry in self.flags.text(name).split(',').map(str::trim) {
            match entry.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    pairs.insert(key.to_owned(), value.to_owned());
                }
                _ if entry.is_empty() => {}
                _ => self.mistake(name, "takes pairs like key=value,key2=value2"),
            }
        }
        pairs
    }

    fn log(&mut self) -> log::Config {
        let level = self.flags.text("log-level").parse();
        let format = self.flags.text("log-format").parse();
        log::Config {
            level: self.or_warn("log-level", level),
            format: self.or_warn("log-format", format),
            info_to_stdout: self.flags.switch("log-info-stdout"),
        }
    }

    fn address(&mut self, name: &str) -> Address {
        let address = self.flags.text(name).parse();
        address.unwrap_or_else(|error: AddressError| {
            self.mistake(name, &error.to_string());
            Address {
                host: None,
                port: 0,
            }
        })
    }

    /// Less than nothing is nothing, as in the peer.
    fn count(&self, name: &str) -> u32 {
        u32::try_from(self.flags.int(name).max(0)).unwrap_or(u32::MAX)
    }

    fn timeout(&mut self, name: &str) -> Duration {
        let timeout = Duration::try_from(self.flags.duration(name)).unwrap_or_default();
        if timeout.is_zero() {
            self.mistake(name, "must be longer than 0");
        }
        timeout
    }

    fn warn_of_flags_without_effect(&mut self, place: &Place) {
        let given = |names: &'static [&str]| names.iter().filter(|name| self.flags.given(name));
        let out_of_place = match place {
            Place::Directory(_) => CLUSTER_ONLY,
            Place::Cluster(_) => &[],
        };
        let cluster =
            given(out_of_place).map(|name| format!("--{name} has no effect with --directory"));
        let said: Vec<String> = cluster.collect();
        self.warnings.extend(said);
    }

    fn mistake(&mut self, name: &str, what: &str) {
        self.mistakes.push(format!("--{name}: {what}"));
    }

    fn or_default<T: Default, E: std::fmt::Display>(
        &mut self,
        name: &str,
        value: Result<T, E>,
    ) -> T {
        value.unwrap_or_else(|error| {
            self.mistake(name, &error.to_string());
            T::default()
        })
    }

    fn or_warn<T: Default, E: std::fmt::Display>(&mut self, name: &str, value: Result<T, E>) -> T {
        value.unwrap_or_else(|error| {
            self.warnings.push(format!("--{name}: {error}"));
            T::default()
        })
    }
}

#[cfg(test)]
mod tests;
