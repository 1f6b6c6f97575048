//! Checks the recipients of v2 values against a rule.

use shared::v2::Recipient as _;

use super::{Rule, Violation, contains_key};
use crate::recipients::RecipientKey;

impl Rule {
    /// Checks whether v2 values may be sealed for a key. A key whose line is in the rule itself needs no fingerprint.
    ///
    /// # Errors
    ///
    /// Fails if the rule does not accept the key, or if the key is retired or too small.
    pub fn check_recipient(&self, key: &RecipientKey, is_in_rule: bool) -> Result<(), Violation> {
        let found = key.key_id();
        if contains_key(&self.retired_ids, &found) {
            let rule = self.describe();
            return Err(Violation::RetiredKey { rule, found });
        }
        let is_accepted = contains_key(&self.key_ids, &found);
        match key {
            RecipientKey::Certificate(certificate) if is_accepted => {
                self.check_certificate_unpinned(certificate)
            }
            RecipientKey::Certificate(certificate) => self.check_certificate(certificate),
            RecipientKey::Line(_) if is_in_rule || is_accepted || !self.has_pins() => Ok(()),
            RecipientKey::Line(_) => Err(Violation::KeyId {
                rule: self.describe(),
                required: self.pin_texts().join(" or "),
                found,
            }),
        }
    }

    fn has_pins(&self) -> bool {
        !self.fingerprints.is_empty() || !self.key_ids.is_empty()
    }

    /// Returns the accepted fingerprints and key identifiers, for messages.
    pub fn pin_texts(&self) -> Vec<String> {
        let fingerprints = self.fingerprints.iter().map(ToString::to_string);
        let ids = self.key_ids.iter().map(ToString::to_string);
        fingerprints.chain(ids).collect()
    }

    /// Returns the retired fingerprints and key identifiers, for messages.
    pub fn retired_texts(&self) -> Vec<String> {
        let fingerprints = self.retired.iter().map(ToString::to_string);
        let ids = self.retired_ids.iter().map(ToString::to_string);
        fingerprints.chain(ids).collect()
    }
}
