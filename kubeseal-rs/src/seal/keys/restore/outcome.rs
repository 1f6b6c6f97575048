//! The outcome for one Secret of a backup, of either kind of key, as both reports show it.

use shared::key::Fingerprint;
use shared::key_marks::KeyState;
use shared::v2::{KeyId, Suite};

use super::plan::{Action, Step};

/// The outcome for a Secret of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    /// The Secret is stored.
    Restored,
    /// The key existed as opening-only, and the user selected it for sealing.
    SealingAllowed,
    /// The key already exists, or this restore stores it from another Secret of the backup.
    Exists,
    /// The Secret contains no usable key, for this reason.
    Broken(&'a str),
}

impl<'a> Outcome<'a> {
    /// Returns the name of the outcome in the JSON report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::SealingAllowed => "sealingAllowed",
            Self::Exists => "exists",
            Self::Broken(_) => "broken",
        }
    }

    /// Returns why the key cannot be used.
    pub(super) fn problem(self) -> Option<&'a str> {
        match self {
            Self::Broken(problem) => Some(problem),
            _ => None,
        }
    }
}

/// A Secret of a backup, and its outcome. `name` and `left_out` come from the backup, which is untrusted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// The name in the backup.
    pub(super) name: &'a str,
    /// The fingerprint of an RSA key.
    pub(super) fingerprint: Option<&'a Fingerprint>,
    /// The suite and the identifier of a key that is only for v2.
    pub(super) v2: Option<(Suite, KeyId)>,
    /// What the restore does, or would do, with the Secret.
    pub(super) outcome: Outcome<'a>,
    /// The state of the key after the restore.
    pub(super) state: KeyState,
    /// The name of the Secret that contains the key after the restore.
    pub(super) stored_as: Option<&'a str>,
    /// Properties that are not restored.
    pub(super) left_out: &'a [String],
}

impl<'a> Row<'a> {
    /// Returns the row for a step of the plan for RSA keys.
    pub(super) fn from_rsa_step(step: &'a Step<'_>) -> Self {
        let outcome = match &step.action {
            Action::Put(_) => Outcome::Restored,
            Action::AllowSealing(_) => Outcome::SealingAllowed,
            Action::Exists(_) => Outcome::Exists,
            Action::Broken(problem) => Outcome::Broken(problem),
        };
        Self {
            name: &step.name,
            fingerprint: step.fingerprint.as_ref(),
            v2: None,
            outcome,
            state: step.state,
            stored_as: step.stored_name(),
            left_out: &step.left_out,
        }
    }

    /// Returns the fingerprint of an RSA key, or the suite and identifier of a key that is only for v2; empty if the
    /// key cannot be used.
    pub(super) fn id(&self) -> String {
        match (self.fingerprint, self.v2) {
            (Some(fingerprint), _) => fingerprint.to_string(),
            (None, Some((suite, id))) => format!("{suite} {id}"),
            (None, None) => String::new(),
        }
    }

    /// Returns whether the Secret contains no usable key.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.outcome, Outcome::Broken(_))
    }
}
