//! The report about an object whose values do not form a valid Secret. The report does not depend on the values.
//!
//! Statuses, events, logs and metrics are public, and authors of SealedSecrets choose the templates. Any fact that
//! depends on a value (which templates fail, where and why, which check of the API server fails) would let an author
//! learn something about the value with each edit. Therefore all such failures share one report, derived from public
//! data: the failures that occur with a placeholder for every value. Each edit still reveals one bit: whether the
//! values form a valid Secret.

use std::fmt;

use jiff::Timestamp;
use shared::meter::Meter;
use shared::resource::SealedSecret;
use shared::unseal::{RenderError, UnsealError, failures_without_values};

use crate::author_limits::Violation;
use crate::decide::Refusal;

const HINT: &str = "hint: with a key, `seal doctor FILE --backup BACKUP` shows the failure, and `kubeseal \
                    --recovery-unseal` with `kubectl apply --dry-run=server` shows what the API server rejects; with a \
                    token, the controller's /v1/unseal returns the exact error";

/// The values do not form a valid Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSecret {
    is_legacy: bool,
    failures: Vec<RenderError>,
}

impl NoSecret {
    /// Builds the report about an object, independent of its values.
    pub fn new(sealed: &SealedSecret, now: Timestamp, meter: &mut dyn Meter) -> Self {
        Self {
            is_legacy: is_legacy(sealed),
            failures: failures_without_values(sealed, now, meter),
        }
    }

    /// Returns the failures that occur with placeholders. They can differ from the actual failures.
    pub fn failures(&self) -> &[RenderError] {
        &self.failures
    }
}

impl fmt::Display for NoSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_legacy {
            return write!(
                f,
                "the content of the deprecated field 'data' is not a Secret that this controller accepts; the reason is not \
                 reported, since all of the content is sealed\n{HINT}"
            );
        }
        write!(
            f,
            "the values do not form a valid Secret: a template fails, the API server rejects the result, or the Secret is \
             immutable and has other values; the exact reason is not reported, since it depends on the values"
        )?;
        if !self.failures.is_empty() {
            write!(
                f,
                "\nwith a placeholder for every value, these failures occur:"
            )?;
        }
        for failure in &self.failures {
            write!(f, "\n{failure}")?;
        }
        write!(f, "\n{HINT}")
    }
}

/// Returns whether the object uses the deprecated field `spec.data`, which contains the complete Secret in encrypted
/// form, including its type, labels and item names.
pub fn is_legacy(sealed: &SealedSecret) -> bool {
    sealed.spec.data.is_some()
}

/// Returns whether the refusal would reveal something about the sealed content of the object.
pub fn refusal_depends_on_values(refusal: &Refusal, sealed: &SealedSecret) -> bool {
    match refusal {
        Refusal::Unseal(UnsealError::Render(_) | UnsealError::LegacyContent) => true,
        Refusal::Violation(
            Violation::Key { .. }
            | Violation::Type(_)
            | Violation::RiskyType(_)
            | Violation::Metadata(_),
        )
        | Refusal::TypeChange { .. }
        | Refusal::Missing(_) => is_legacy(sealed),
        // For an object with templates, changed values of an immutable Secret are reported like a failed
        // template. Otherwise, an edit would have three distinguishable outcomes.
        Refusal::Immutable(_) => sealed.spec.template.data.is_some(),
        Refusal::Malformed(_)
        | Refusal::Values(_)
        | Refusal::Unseal(
            UnsealError::Items(_)
            | UnsealError::Refused(_)
            | UnsealError::KeyUnavailable { .. }
            | UnsealError::Template(_)
            | UnsealError::BothForms
            | UnsealError::LegacyRefused
            | UnsealError::LegacyNotSealed(_)
            | UnsealError::LegacyNoKey(_)
            | UnsealError::BudgetUsedUp { .. },
        )
        | Refusal::Violation(
            Violation::Scope { .. } | Violation::OldKey { .. } | Violation::Templates(_),
        )
        | Refusal::TooLarge(_)
        | Refusal::Unreadable(_)
        | Refusal::NotManaged(_)
        | Refusal::DriftFight(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use shared::meter::Unmetered;
    use shared::resource::SealedSecretSpec;

    use super::*;

    fn sealed_object(template: &str) -> SealedSecret {
        let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
        sealed.spec.encrypted_data.insert("a".into(), "AAAA".into());
        sealed.spec.template.data = Some([("t".into(), Some(template.into()))].into());
        sealed
    }

    #[test]
    fn reports_only_failures_that_occur_with_placeholders() {
        let report = |template| {
            NoSecret::new(
                &sealed_object(template),
                Timestamp::UNIX_EPOCH,
                &mut Unmetered,
            )
            .to_string()
        };
        let always_fails = report("x\n{{ fail .a }}");
        assert!(
            always_fails.contains("\nwith a placeholder for every value, these failures occur:\ntemplate \"t\", line 2, column 4, function fail: "),
            "{always_fails}"
        );
        let never_fails = report("{{ .a }}");
        assert!(
            !never_fails.contains("placeholder") && !never_fails.contains('"'),
            "{never_fails}"
        );
        assert!(never_fails.ends_with(HINT), "{never_fails}");
        let mut legacy = sealed_object("{{ fail .a }}");
        legacy.spec.data = Some("AAAA".into());
        let legacy = NoSecret::new(&legacy, Timestamp::UNIX_EPOCH, &mut Unmetered).to_string();
        assert!(
            legacy.contains("deprecated") && !legacy.contains("template"),
            "{legacy}"
        );
    }
}
