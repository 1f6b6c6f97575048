//! Parses the flags that select and configure the cluster or directory.

use std::path::PathBuf;
use std::time::Duration;

use shared::names;

use crate::leader::LONGEST_LEASE;

use super::{Backend, Checks, ClusterConfig, Election, EventLevel, Pod};

impl Checks<'_> {
    pub(super) fn backend(&mut self, pod: Pod) -> Backend {
        let path = |name| self.flags.text_if_any(name).map(PathBuf::from);
        match (path("directory"), path("kubeconfig")) {
            (Some(_), Some(_)) => {
                self.add_error(
                    "kubeconfig",
                    "cannot be used with --directory, which uses no cluster",
                );
                Backend::Directory(PathBuf::new())
            }
            (Some(directory), None) => Backend::Directory(directory),
            (None, kubeconfig) => Backend::Cluster(self.cluster(kubeconfig, pod)),
        }
    }

    fn cluster(&mut self, kubeconfig: Option<PathBuf>, pod: Pod) -> ClusterConfig {
        let additional_namespaces = self.additional_namespaces();
        ClusterConfig {
            rate: self.rate(),
            election: self.election(),
            kubeconfig,
            pod,
            all_namespaces: self.flags.switch("all-namespaces"),
            additional_namespaces,
            label_selector: self.flags.text_if_any("label-selector").map(str::to_owned),
            deletes_secrets: self.flags.switch("old-gc-behavior"),
            event_level: if self.flags.switch("unsealed-events") {
                EventLevel::All
            } else {
                EventLevel::Warnings
            },
            watches_secrets: !self.flags.switch("skip-recreate"),
            certificate_config_map: self.certificate_config_map(),
        }
    }

    /// Returns the additional namespaces. Reports the first name that no namespace can have, since the names become
    /// part of request paths.
    fn additional_namespaces(&mut self) -> Vec<String> {
        let names = self.flags.text("additional-namespaces").split(',');
        let names: Vec<String> = names
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        let error = names
            .iter()
            .find_map(|name| names::check_namespace(name).err());
        if let Some(error) = error {
            self.add_error("additional-namespaces", &error.to_string());
        }
        names
    }

    fn certificate_config_map(&mut self) -> Option<String> {
        let name = self.flags.text_if_any("certificate-configmap")?.to_owned();
        self.check_object_name("certificate-configmap", &name);
        Some(name)
    }

    fn check_object_name(&mut self, flag: &str, name: &str) {
        if names::check_object(name).is_err() {
            let text = format!(
                "invalid name {name:?}: use at most 253 lowercase letters, digits, `-` and `.`, with a letter or \
                 digit at both ends of each part between dots"
            );
            self.add_error(flag, &text);
        }
    }

    /// Returns the rate limit; `None` if the rate is negative or not finite. As in upstream's client library, 0 means
    /// the default: a rate of 5 requests per second, or a burst of 10.
    fn rate(&self) -> Option<(f64, u32)> {
        let non_zero_or = |value: f64, default| if value == 0.0 { default } else { value };
        let rate = non_zero_or(self.flags.float("kubeclient-qps"), 5.0);
        let burst = self.count("kubeclient-burst");
        let burst = if burst == 0 { 10 } else { burst };
        (rate > 0.0 && rate.is_finite()).then_some((rate, burst))
    }

    fn election(&mut self) -> Election {
        let election = Election {
            enabled: self.flags.switch("leader-elect"),
            lease_name: self.flags.text("leader-elect-lease-name").to_owned(),
            lease_duration: self.timeout("leader-elect-lease-duration"),
            renew_deadline: self.timeout("leader-elect-renew-deadline"),
            retry_period: self.timeout("leader-elect-retry-period"),
        };
        if election.lease_name.is_empty() {
            self.add_error("leader-elect-lease-name", "must not be empty");
        } else {
            self.check_object_name("leader-elect-lease-name", &election.lease_name);
        }
        if election.lease_duration < Duration::from_secs(1) {
            self.add_error(
                "leader-elect-lease-duration",
                "must be at least 1s: a Lease stores whole seconds",
            );
        }
        if election.lease_duration > LONGEST_LEASE {
            self.add_error(
                "leader-elect-lease-duration",
                "must be at most 1h: no replica waits longer for a leader that does not renew the Lease",
            );
        }
        if election.lease_duration <= election.renew_deadline {
            self.add_error(
                "leader-elect-renew-deadline",
                "must be shorter than --leader-elect-lease-duration: the leader must stop writing before another replica starts",
            );
        }
        // The pause between two attempts is up to a fifth longer than the retry period.
        if election.renew_deadline <= election.retry_period.mul_f64(1.2) {
            self.add_error(
                "leader-elect-retry-period",
                "must be shorter than --leader-elect-renew-deadline divided by 1.2",
            );
        }
        election
    }
}
