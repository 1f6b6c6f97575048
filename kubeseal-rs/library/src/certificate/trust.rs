//! Decides whether a certificate may be used for sealing, from its source and fingerprint.

use jiff::{SignedDuration, Timestamp};
use shared::key::{Certificate, Fingerprint};

use super::cache::Seen;
use crate::cluster::Service;

/// How a certificate was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// At the address that the user named, or at the controller's default address. Trusted without
    /// a pin.
    Named,
    /// Where other accounts than the controller's can write: a Service found by its labels, or a
    /// `ConfigMap`.
    Found,
}

/// The source of a controller's name or of a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// A flag of the user.
    Flag,
    /// An environment variable of the user.
    Environment,
    /// A rule in `.seal.yaml`, which another person may have written.
    Rule,
    /// The default name, since neither flag, environment nor rule names a controller.
    #[default]
    Default,
}

/// An accepted fingerprint and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// The source of the fingerprint.
    pub by: By,
}

/// How to cache a certificate that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// As a pin: trust it when its Service is found without the user naming it, and report a
    /// change.
    Pin,
    /// Only to report a change under rules.
    Announcement,
}

/// Decides how to cache a certificate. Only the user's own choice creates a pin: of the controller,
/// or of the fingerprint of a found certificate. A rule's choice applies to the rule's files only.
pub(super) fn memory(named_by: By, way: Way, vouched_by: Option<By>) -> Memory {
    let rests_on_rule = named_by == By::Rule || way == Way::Found && vouched_by == Some(By::Rule);
    if rests_on_rule {
        Memory::Announcement
    } else {
        Memory::Pin
    }
}

/// Returns the source that vouches for a fingerprint. The user takes precedence over a rule.
pub(super) fn vouched_by(found: &Fingerprint, accepted: &[Vouched]) -> Option<By> {
    let voices = accepted
        .iter()
        .filter(|accepted| accepted.fingerprint == *found);
    voices
        .map(|accepted| accepted.by)
        .min_by_key(|by| *by == By::Rule)
}

/// The certificate must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The certificate has none of the required fingerprints.
    #[error(
        "the certificate of {of} has the fingerprint {found}, which neither --cert-fingerprint nor a rule accepts\n\
         hint: if the key was renewed, confirm the new fingerprint with the administrator of the controller; \
         otherwise do not seal with this certificate"
    )]
    Other {
        /// The controller that the certificate belongs to.
        of: String,
        /// The certificate's fingerprint.
        found: Fingerprint,
    },
    /// No fingerprint or pin vouches for the certificate.
    #[error(
        "the certificate of {of}, with the fingerprint {found}, is not trusted\n\
         hint: confirm the fingerprint with the administrator of the controller, then pass --cert-fingerprint {found} once"
    )]
    Unknown {
        /// The controller that the certificate belongs to.
        of: String,
        /// The certificate's fingerprint.
        found: Fingerprint,
    },
}

/// Decides whether a certificate may be used. If fingerprints are `accepted`, only they count.
/// Otherwise, a certificate that the user did not name has to be `pinned` for the Service where it
/// was found.
///
/// # Errors
///
/// Returns a [`TrustError`] if the certificate must not be used.
pub fn judge(
    found: &Fingerprint,
    of: &str,
    way: Way,
    accepted: &[Vouched],
    pinned: Option<&Fingerprint>,
) -> Result<(), TrustError> {
    if vouched_by(found, accepted).is_some() {
        return Ok(());
    }
    let is_pinned = pinned == Some(found);
    let (found, of) = (found.clone(), of.to_owned());
    if !accepted.is_empty() {
        return Err(TrustError::Other { of, found });
    }
    if way == Way::Found && !is_pinned {
        return Err(TrustError::Unknown { of, found });
    }
    Ok(())
}

/// Returns the warning for a controller whose certificate differs from the last one seen.
pub(super) fn change(
    last: &Seen,
    new: &Certificate,
    of: &Service,
    now: Timestamp,
) -> Option<String> {
    let (old, found) = (&last.fingerprint, new.fingerprint());
    if old == found {
        return None;
    }
    let created = age(new.not_before(), now);
    let seen = age(last.since, now);
    Some(format!(
        "the certificate of {of} has changed to {found}, created {created}; the previous one was {old}, first seen {seen}. \
         Controllers generate a new key every 30 days; if yours did not, check which server answers at this address"
    ))
}

/// Formats an age in the largest unit that fits.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).max(SignedDuration::ZERO).as_secs();
    let (count, unit) = match seconds {
        0..60 => return "just now".into(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(letter: char) -> Fingerprint {
        let text = format!("SHA256:{}A", letter.to_string().repeat(42));
        text.parse().unwrap()
    }

    #[test]
    fn accepts_named_certificates_and_found_ones_only_with_a_pin() {
        let (a, b) = (fingerprint('a'), fingerprint('b'));
        for (why, way, accepted, pinned, want) in [
            ("named", Way::Named, vec![], None, true),
            ("named and changed", Way::Named, vec![], Some(&b), true),
            ("named, and accepted", Way::Named, vec![&b, &a], None, true),
            (
                "named, another accepted",
                Way::Named,
                vec![&b],
                Some(&a),
                false,
            ),
            ("found", Way::Found, vec![], None, false),
            ("found, another pinned", Way::Found, vec![], Some(&b), false),
            ("found and pinned", Way::Found, vec![], Some(&a), true),
            ("found and accepted", Way::Found, vec![&a], None, true),
            (
                "found, another accepted",
                Way::Found,
                vec![&b],
                Some(&a),
                false,
            ),
        ] {
            let accepted: Vec<Vouched> = accepted
                .into_iter()
                .map(|one| vouched(one, By::Flag))
                .collect();
            let judged = judge(&a, "x", way, &accepted, pinned);
            assert_eq!(judged.is_ok(), want, "{why}");
        }
    }

    fn vouched(fingerprint: &Fingerprint, by: By) -> Vouched {
        let fingerprint = fingerprint.clone();
        Vouched { fingerprint, by }
    }

    /// Attack: a rule in a repository names a controller or a fingerprint, so that its certificate
    /// is trusted later where neither the rule nor the user names it.
    #[test]
    fn a_rule_never_creates_a_pin() {
        use Memory::{Announcement, Pin};
        let everyone = [By::Flag, By::Environment, By::Rule, By::Default];
        // Columns: the source of the controller's name; how a served certificate is cached; how a
        // found certificate is cached without a fingerprint (it was pinned), with one from the
        // user, and with one from a rule.
        for (named_by, served, found, vouched_by_user, vouched_by_rule) in [
            (By::Flag, Pin, Pin, Pin, Announcement),
            (By::Environment, Pin, Pin, Pin, Announcement),
            (By::Default, Pin, Pin, Pin, Announcement),
            (
                By::Rule,
                Announcement,
                Announcement,
                Announcement,
                Announcement,
            ),
        ] {
            for voice in everyone.map(Some).into_iter().chain([None]) {
                assert_eq!(
                    memory(named_by, Way::Named, voice),
                    served,
                    "{named_by:?} {voice:?}"
                );
            }
            let of = |voice| memory(named_by, Way::Found, voice);
            assert_eq!(of(None), found, "{named_by:?}");
            assert_eq!(of(Some(By::Flag)), vouched_by_user, "{named_by:?}");
            assert_eq!(of(Some(By::Environment)), vouched_by_user, "{named_by:?}");
            assert_eq!(of(Some(By::Rule)), vouched_by_rule, "{named_by:?}");
        }
    }

    #[test]
    fn the_user_takes_precedence_over_a_rule() {
        let (a, b) = (fingerprint('a'), fingerprint('b'));
        let both = [
            vouched(&a, By::Rule),
            vouched(&a, By::Environment),
            vouched(&b, By::Rule),
        ];
        assert_eq!(vouched_by(&a, &both), Some(By::Environment));
        assert_eq!(vouched_by(&b, &both), Some(By::Rule));
        assert_eq!(vouched_by(&fingerprint('c'), &both), None);
    }

    #[test]
    fn formats_an_age_rounded_down_to_one_unit() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (seconds, want) in [
            (-5, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7199, "1 hour ago"),
            (7200, "2 hours ago"),
            (86_400 * 31, "31 days ago"),
        ] {
            assert_eq!(age(at(0), at(seconds)), want);
        }
    }
}
