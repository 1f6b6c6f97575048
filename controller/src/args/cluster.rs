//! Parses the flags that select and configure the cluster or directory.

use std::path::PathBuf;
use std::time::Duration;

use shared::names;

use crate::leader::LONGEST_LEASE;

use super::{Checks, ClusterConfig, Election, EventLevel, Place, Pod};

impl Checks<'_> {
    pub(super) fn place(&mut self, pod: Pod) -> Place {
        let path = |name| self.flags.text_if_any(name).map(PathBuf::from);
        match (path("directory"), path("kubeconfig")) {
            (Some(_), Some(_)) => {
                self.mistake(
                    "kubeconfig",
                    "cannot be used with --directory, which uses no cluster",
                );
                Place::Directory(PathBuf::new())
            }
            (Some(directory), None) => Place::Directory(directory),
            (None, kubeconfig) => Place::Cluster(self.cluster(kubeconfig, pod)),
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

    /// Returns the namespaces. A name that no namespace can have would be part of the path of a request.
    fn additional_namespaces(&mut self) -> Vec<String> {
        let names = self.flags.text("additional-namespaces").split(',');
        let names: Vec<String> = names
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        let wrong = names
            .iter()
            .find_map(|name| names::check_namespace(name).err());
        if let Some(wrong) = wrong {
            self.mistake("additional-namespaces", &wrong.to_string());
        }
        names
    }

    fn certificate_config_map(&mut self) -> Option<String> {
        let name = self.flags.text_if_any("certificate-configmap")?.to_owned();
        self.check_object("certificate-configmap", &name);
        Some(name)
    }

    fn check_object(&mut self, flag: &str, name: &str) {
        if names::check_object(name).is_err() {
            let text = format!(
                "{name:?} is not a valid name: lower-case letters, digits, `-` and `.`, at most 253, a letter or \
                 digit at both ends"
            );
            self.mistake(flag, &text);
        }
    }

    /// Returns the rate limit. As in upstream's client library, 0 means the default: 5 per second, burst 10.
    fn rate(&self) -> Option<(f64, u32)> {
        let or_default = |value: f64, default| if value == 0.0 { default } else { value };
        let rate = or_default(self.flags.float("kubeclient-qps"), 5.0);
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
            self.mistake("leader-elect-lease-name", "must not be empty");
        } else {
            self.check_object("leader-elect-lease-name", &election.lease_name);
        }
        if election.lease_duration < Duration::from_secs(1) {
            self.mistake(
                "leader-elect-lease-duration",
                "must be at least 1s: a Lease stores whole seconds",
            );
        }
        if election.lease_duration > LONGEST_LEASE {
            self.mistake(
                "leader-elect-lease-duration",
                "must be at most 1h: no replica waits longer for a leader that does not renew the Lease",
            );
        }
        if election.lease_duration <= election.renew_deadline {
            self.mistake(
                "leader-elect-renew-deadline",
                "must be shorter than --leader-elect-lease-duration: the leader must stop writing before another replica starts",
            );
        }
        // The pause between two attempts is up to a fifth longer than configured.
        if election.renew_deadline <= election.retry_period.mul_f64(1.2) {
            self.mistake(
                "leader-elect-retry-period",
                "must be shorter than --leader-elect-renew-deadline by more than a fifth",
            );
        }
        election
    }
}
