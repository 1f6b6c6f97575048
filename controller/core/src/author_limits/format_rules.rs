//! The formats and suites that values may have, by namespace.

use std::str::FromStr;

use jiff::Timestamp;
use shared::v2::{DEFAULT_MAX_LOCKS, Policy};

use super::{matches_pattern, split_list};
use crate::reason::MAX_REVISION_AHEAD;

/// The requirements for the formats of values, by namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatRules {
    /// Patterns of namespaces in which every value must be v2.
    require_v2: Vec<String>,
    /// Patterns of namespaces in which every value must be bound to the template.
    require_bound: Vec<String>,
    suites: SuiteRules,
    max_locks: usize,
}

impl Default for FormatRules {
    fn default() -> Self {
        Self {
            require_v2: Vec::new(),
            require_bound: Vec::new(),
            suites: SuiteRules::default(),
            max_locks: DEFAULT_MAX_LOCKS,
        }
    }
}

impl FormatRules {
    /// Creates rules. The first two arguments are comma-separated patterns of namespaces; `max_locks` is the maximum
    /// number of locks of an object, each of which costs a private-key operation.
    pub fn new(
        require_v2: &str,
        require_bound: &str,
        suites: SuiteRules,
        max_locks: usize,
    ) -> Self {
        let patterns = |text| split_list(text).map(str::to_owned).collect();
        Self {
            require_v2: patterns(require_v2),
            require_bound: patterns(require_bound),
            suites,
            max_locks,
        }
    }

    pub(super) fn policy(&self, namespace: &str, now: Timestamp) -> Policy {
        let is_among = |patterns: &[String]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| matches_pattern(pattern, namespace))
        };
        Policy {
            require_v2: is_among(&self.require_v2),
            require_bound: is_among(&self.require_bound),
            require_post_quantum: self.suites.minimum(namespace) == MinimumSuite::PostQuantum,
            highest_revision: Some(highest_revision(now)),
            max_locks: self.max_locks,
        }
    }

    /// Returns a policy that satisfies the rules of all namespaces.
    pub(super) fn strictest_policy(&self, now: Timestamp) -> Policy {
        let mut suites = self.suites.0.iter();
        Policy {
            require_v2: !self.require_v2.is_empty(),
            require_bound: !self.require_bound.is_empty(),
            require_post_quantum: suites.any(|(_, minimum)| *minimum == MinimumSuite::PostQuantum),
            highest_revision: Some(highest_revision(now)),
            max_locks: self.max_locks,
        }
    }
}

fn highest_revision(now: Timestamp) -> u64 {
    let latest = now.saturating_add(MAX_REVISION_AHEAD);
    let latest = latest.map_or(i64::MAX, Timestamp::as_millisecond);
    latest.try_into().unwrap_or_default()
}

/// The weakest suite that recipients may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MinimumSuite {
    /// Any suite, and v1.
    Any,
    /// Suites that quantum computers do not break.
    PostQuantum,
}

/// The weakest suites by namespace. The first matching pattern decides; without a match every suite is allowed. Syntax:
/// `team-*=post-quantum,legacy=any`, where `*` matches any string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuiteRules(Vec<(String, MinimumSuite)>);

/// The string is not a valid suite rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid suite rule {0:?}; use a form like 'prod=post-quantum,legacy-*=any' with 'any' or 'post-quantum'"
)]
pub struct SuiteRulesError(String);

impl SuiteRules {
    fn minimum(&self, namespace: &str) -> MinimumSuite {
        let mut rules = self.0.iter();
        let rule = rules.find(|(pattern, _)| matches_pattern(pattern, namespace));
        rule.map_or(MinimumSuite::Any, |(_, minimum)| *minimum)
    }
}

impl FromStr for SuiteRules {
    type Err = SuiteRulesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rules = split_list(text).map(parse_rule);
        rules.collect::<Result<_, _>>().map(Self)
    }
}

fn parse_rule(text: &str) -> Result<(String, MinimumSuite), SuiteRulesError> {
    let invalid_rule = || SuiteRulesError(text.to_owned());
    let (pattern, minimum) = text.split_once('=').ok_or_else(invalid_rule)?;
    let minimum = match minimum.trim() {
        "any" => MinimumSuite::Any,
        "post-quantum" => MinimumSuite::PostQuantum,
        _ => return Err(invalid_rule()),
    };
    match pattern.trim() {
        "" => Err(invalid_rule()),
        pattern => Ok((pattern.to_owned(), minimum)),
    }
}
