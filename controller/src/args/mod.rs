//! Parses command-line arguments and environment variables into a [`Config`]. Validates everything before any file or
//! port is opened.

mod address;
mod cluster;
mod config;
mod keys;
mod table;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use controller_core::added_metadata::AddedMetadata;
use controller_core::author_limits::{AuthorLimits, FormatRules, SuiteRules, TypeRules};
use flags::Flags;
use shared::unseal::Rules;

use crate::log;
use crate::reconcile::Policy;
pub use address::{Address, AddressError};
pub use config::{Backend, ClusterConfig, Config, EventLevel, KeyConfig};
pub use lease::{Election, Pod};
use table::CLUSTER_ONLY;
pub use table::PROGRAM;

/// Why the controller does not start.
#[derive(Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// Print the text to stdout and exit with 0.
    Print(String),
    /// The command line is invalid: print the text to stderr and exit with 2.
    Usage(String),
    /// Values are invalid, one message each: print the messages to stderr and exit with 1.
    Invalid(Vec<String>),
}

impl Config {
    /// Parses the arguments (without the program name) and the environment variables.
    ///
    /// # Errors
    ///
    /// Returns [`EarlyExit`] if help or the version is requested, or if arguments or values are invalid.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, EarlyExit> {
        let flags = PROGRAM.parse(args, &variable).map_err(|stop| match stop {
            flags::Stop::Help(text) => EarlyExit::Print(text),
            flags::Stop::Usage(text) => EarlyExit::Usage(text),
            flags::Stop::Refused(text) => EarlyExit::Invalid(vec![text]),
        })?;
        if flags.switch("version") {
            let version = env!("CARGO_PKG_VERSION");
            return Err(EarlyExit::Print(format!("controller version: {version}\n")));
        }
        let mut checks = Checks::new(&flags);
        let config = checks.config(Pod::from_variables(variable));
        if checks.errors.is_empty() {
            Ok(config)
        } else {
            Err(EarlyExit::Invalid(checks.errors))
        }
    }
}

/// Collects errors and warnings while values are parsed.
struct Checks<'a> {
    flags: &'a Flags,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Checks<'a> {
    fn new(flags: &'a Flags) -> Self {
        Self {
            flags,
            errors: Vec::new(),
            warnings: flags.warnings().to_vec(),
        }
    }

    fn config(&mut self, pod: Pod) -> Config {
        let keys = self.keys(pod.namespace.clone());
        let backend = self.backend(pod);
        self.warn_about_flags_without_effect(&backend);
        let listen_metrics = self.listen_metrics(&backend);
        Config {
            backend,
            keys,
            policy: self.policy(),
            listen: self.address("listen-addr"),
            listen_metrics,
            listen_authorized: self
                .flags
                .text_if_any("listen-authorized-addr")
                .is_some()
                .then(|| self.address("listen-authorized-addr")),
            plain_certificate_only: self.flags.switch("plain-certificate-only"),
            max_named_objects: self.count("metrics-max-objects") as usize,
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
            added: Arc::new(self.added_metadata()),
            rules: Rules {
                accept_legacy: self.flags.switch("accept-deprecated-v1-data"),
                refuse_random: self.flags.switch("refuse-random-templates"),
            },
            update_status: self.flags.switch("update-status"),
            tolerates_drift: !self.flags.switch("correct-drift"),
            retries: self.count("max-unseal-retries"),
        }
    }

    fn added_metadata(&mut self) -> AddedMetadata {
        let labels = AddedMetadata::default().with_labels(self.flags.text("secret-labels"));
        let labels = self.or_default("secret-labels", labels);
        let added_metadata = labels.with_annotations(self.flags.text("secret-annotations"));
        self.or_default("secret-annotations", added_metadata)
    }

    fn author_limits(&mut self) -> AuthorLimits {
        let age = self.flags.duration("max-sealing-key-age");
        if age.is_negative() {
            self.add_error(
                "max-sealing-key-age",
                "must not be negative; 0 means no limit",
            );
        }
        let types = TypeRules::read(
            self.flags.text("forbid-secret-types"),
            self.flags.text("allow-secret-types"),
        );
        let types = self.or_default("allow-secret-types", types);
        let scopes = self.flags.text("allowed-scopes").parse();
        let scopes = self.or_default("allowed-scopes", scopes);
        AuthorLimits::new(types, scopes, Some(age).filter(|age| !age.is_zero()))
            .requiring_formats(self.formats())
            .forbidding_templates(self.flags.text("forbid-templates"))
            .forbidding_metadata(self.flags.text("forbid-secret-metadata"))
    }

    fn formats(&mut self) -> FormatRules {
        let suites = self.flags.text("minimum-suite").parse();
        let suites: SuiteRules = self.or_default("minimum-suite", suites);
        let max_locks = self.count("max-locks") as usize;
        if max_locks == 0 {
            self.add_error("max-locks", "must be at least 1");
        }
        FormatRules::new(
            self.flags.text("require-v2"),
            self.flags.text("require-bound"),
            suites,
            max_locks,
        )
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
            self.add_error(name, &error.to_string());
            Address {
                host: None,
                port: 0,
            }
        })
    }

    /// Returns the metrics address. With a directory, the default host is the host of `--listen-addr`, or 127.0.0.1 if
    /// neither flag is set.
    fn listen_metrics(&mut self, backend: &Backend) -> Address {
        let metrics = self.address("listen-metrics-addr");
        if matches!(backend, Backend::Cluster(_)) || self.flags.is_set("listen-metrics-addr") {
            return metrics;
        }
        let host = if self.flags.is_set("listen-addr") {
            self.flags
                .text("listen-addr")
                .parse()
                .ok()
                .and_then(|main: Address| main.host)
        } else {
            Some("127.0.0.1".to_owned())
        };
        Address { host, ..metrics }
    }

    /// Returns the value of an integer flag, limited to the range of `u32`. A negative value counts as 0.
    fn count(&self, name: &str) -> u32 {
        u32::try_from(self.flags.int(name).max(0)).unwrap_or(u32::MAX)
    }

    fn timeout(&mut self, name: &str) -> Duration {
        let timeout = Duration::try_from(self.flags.duration(name)).unwrap_or_default();
        if timeout.is_zero() {
            self.add_error(name, "must be longer than 0");
        }
        timeout
    }

    fn warn_about_flags_without_effect(&mut self, backend: &Backend) {
        let only_set = |names: &'static [&str]| names.iter().filter(|name| self.flags.is_set(name));
        let without_effect = match backend {
            Backend::Directory(_) => CLUSTER_ONLY,
            Backend::Cluster(_) => &[],
        };
        let warnings =
            only_set(without_effect).map(|name| format!("--{name} has no effect with --directory"));
        self.warnings.extend(warnings.collect::<Vec<_>>());
    }

    fn add_error(&mut self, name: &str, problem: &str) {
        self.errors.push(format!("--{name}: {problem}"));
    }

    fn or_default<T: Default, E: std::fmt::Display>(
        &mut self,
        name: &str,
        value: Result<T, E>,
    ) -> T {
        value.unwrap_or_else(|error| {
            self.add_error(name, &error.to_string());
            T::default()
        })
    }

    fn or_warn<T: Default, E: std::fmt::Display>(&mut self, name: &str, value: Result<T, E>) -> T {
        value.unwrap_or_else(|error| {
            self.warnings
                .push(format!("--{name}: {error}; the default is used"));
            T::default()
        })
    }
}

#[cfg(test)]
mod tests;
