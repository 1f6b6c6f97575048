//! Parses the flags about keys.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use shared::key::{KeySize, KeySpec};
use shared::key_secret::OrderPriority;
use shared::renewal;
use shared::v2::{PublicRecipient, Recipient as _, Suite, UnknownSuite};

use super::{Checks, KeyConfig};

/// The namespace of new keys in a directory if `POD_NAMESPACE` is not set or empty: the default namespace in which
/// `kubeseal` searches for the controller.
const KEY_NAMESPACE: &str = "kube-system";

impl Checks<'_> {
    pub(super) fn keys(&mut self, pod_namespace: Option<String>) -> KeyConfig {
        let size = KeySize::try_from(self.flags.int("key-size"));
        let suite = self.flags.text("sealing-suite").parse();
        let suite = suite.unwrap_or_else(|error: UnknownSuite| {
            self.add_error("sealing-suite", &error.to_string());
            Suite::Rsa
        });
        let ttl = self.flags.duration("key-ttl");
        if ttl <= SignedDuration::ZERO {
            self.add_error("key-ttl", "must be longer than 0");
        }
        KeyConfig {
            prefix: self.prefix(),
            namespace: pod_namespace
                .filter(|namespace| !namespace.is_empty())
                .unwrap_or_else(|| KEY_NAMESPACE.into()),
            labels: self.parse_pairs("privatekey-labels"),
            annotations: self.parse_pairs("privatekey-annotations"),
            spec: KeySpec {
                size: self.or_default("key-size", size),
                ttl,
                common_name: self.flags.text("my-cn").to_owned(),
            },
            sealing_suite: suite,
            additional_recipients: self.recipients(suite).into(),
            policy: renewal::Policy {
                period: self.period(),
                cutoff: self.cutoff(),
            },
            priority: self.priority(),
            requires_backup: self.flags.switch("require-backup"),
        }
    }

    /// Returns the additional recipients. Reports invalid recipients, and those that are not post-quantum although the
    /// sealing suite is, or vice versa.
    fn recipients(&mut self, suite: Suite) -> Vec<PublicRecipient> {
        const NAME: &str = "additional-recipients";
        let mut recipients = Vec::new();
        for line in self.flags.text(NAME).split(',').map(str::trim) {
            match PublicRecipient::parse(line) {
                _ if line.is_empty() => {}
                Ok(key) if key.suite().is_post_quantum() == suite.is_post_quantum() => {
                    recipients.push(key);
                }
                Ok(key) => {
                    let (other, id) = (key.suite(), key.key_id().short());
                    let problem = format!(
                        "the key {id} has the suite {other}, but --sealing-suite is {suite}: use post-quantum suites for all keys or for none"
                    );
                    self.add_error(NAME, &problem);
                }
                Err(error) => self.add_error(NAME, &error.to_string()),
            }
        }
        recipients
    }

    fn prefix(&mut self) -> String {
        let prefix = self.flags.text("key-prefix");
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if prefix.is_empty() || prefix.len() > 245 {
            self.add_error("key-prefix", "must have 1 to 245 characters");
        } else if prefix.starts_with('-') || !prefix.chars().all(is_allowed) {
            self.add_error(
                "key-prefix",
                "may contain only lowercase letters, digits and `-`, and must not begin with `-`",
            );
        }
        prefix.to_owned()
    }

    /// Returns the renewal period; `None` if renewal is disabled. The deprecated flag `--rotate-period` applies only if
    /// `--key-renew-period` is not set.
    fn period(&mut self) -> Option<SignedDuration> {
        let is_deprecated =
            self.flags.is_set("rotate-period") && !self.flags.is_set("key-renew-period");
        let name = if is_deprecated {
            self.warnings
                .push("--rotate-period is deprecated; use --key-renew-period".into());
            "rotate-period"
        } else {
            "key-renew-period"
        };
        let period = self.flags.duration(name);
        if period.is_negative() {
            self.add_error(name, "must not be negative; 0 disables renewal");
        }
        Some(period).filter(|period| !period.is_zero())
    }

    fn cutoff(&mut self) -> Option<Timestamp> {
        let text = self.flags.text_if_any("key-cutoff-time")?;
        let parsed = jiff::fmt::rfc2822::parse(text).map(|zoned| zoned.timestamp());
        if parsed.is_err() {
            self.add_error(
                "key-cutoff-time",
                "invalid time; use a form like 'Mon, 02 Jan 2006 15:04:05 -0700'",
            );
        }
        parsed.ok()
    }

    /// Returns the order of keys. An unknown value causes a warning and not an error, since upstream accepts such a
    /// value too.
    fn priority(&mut self) -> OrderPriority {
        match self.flags.text("key-order-priority") {
            "CertNotBefore" => OrderPriority::CertNotBefore,
            "SecretCreationTimestamp" => OrderPriority::SecretCreationTimestamp,
            _ => {
                self.warnings.push(
                    "--key-order-priority: unknown value, using CertNotBefore; valid values are CertNotBefore and \
                     SecretCreationTimestamp"
                        .into(),
                );
                OrderPriority::default()
            }
        }
    }

    fn parse_pairs(&mut self, name: &str) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::new();
        for entry in self.flags.text(name).split(',').map(str::trim) {
            match entry.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    pairs.insert(key.to_owned(), value.to_owned());
                }
                _ if entry.is_empty() => {}
                _ => self.add_error(name, "invalid pair; use a form like key=value,key2=value2"),
            }
        }
        pairs
    }
}
