//! May a certificate be sealed with? Decided from what is known of it alone.

use jiff::{SignedDuration, Timestamp};
use shared::key::{Certificate, Fingerprint};

use super::known::Seen;
use crate::cluster::Service;

/// How a certificate came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From where the user said, or where every controller is by default: taken at its word.
    Named,
    /// From a place that others than the controller can write to: a Service found by its labels, or a
    /// `ConfigMap`.
    Found,
}

/// Who names a controller, or vouches for a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// A flag, typed by the user.
    Flag,
    /// An environment variable of the user.
    Environment,
    /// A rule in `.seal.yaml`, whose author need not be the user.
    Rule,
    /// Nobody: it is where every controller is unless somebody says otherwise.
    #[default]
    Default,
}

/// A fingerprint that is accepted, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// Who vouches for it.
    pub by: By,
}

/// What a certificate that was used is remembered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// To trust it again where its own Service is found unasked, and to announce a change.
    Pin,
    /// To announce a change under rules, and for nothing else.
    Announcement,
}

/// A pin needs the user's own word: for the controller, or for a fingerprint of what was found. The word
/// of a rule counts for the files that the rule is about and pins nothing.
pub(super) fn memory(named_by: By, way: Way, vouched_by: Option<By>) -> Memory {
    let rests_on_rule = named_by == By::Rule || way == Way::Found && vouched_by == Some(By::Rule);
    if rests_on_rule {
        Memory::Announcement
    } else {
        Memory::Pin
    }
}

/// Who vouches for a fingerprint, the user before a rule.
pub(super) fn vouched_by(found: &Fingerprint, given: &[Vouched]) -> Option<By> {
    let voices = given.iter().filter(|given| given.fingerprint == *found);
    voices
        .map(|given| given.by)
        .min_by_key(|by| *by == By::Rule)
}

/// It must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Another one was asked for.
    #[error(
        "the certificate of {of} is {found}, and not one that was asked for, by --cert-fingerprint or a rule. Was the key \
         renewed? Then ask who answers for the controller for the new fingerprint; if it was not, do not seal with it"
    )]
    Other {
        /// Whose certificate it is.
        of: String,
        /// Its fingerprint.
        found: Fingerprint,
    },
    /// Nobody vouches for it.
    #[error(
        "the certificate of {of} is not known here, so it is not used. Its fingerprint is {found}; if the one who \
         answers for the controller says the same, pass --cert-fingerprint {found} once"
    )]
    Unknown {
        /// Whose certificate it is.
        of: String,
        /// Its fingerprint.
        found: Fingerprint,
    },
}

/// Fingerprints that were `given` decide alone. Without any, what was found unasked has to be `pinned`
/// for the Service that it was found at.
///
/// # Errors
///
/// [`TrustError`].
pub fn judge(
    found: &Fingerprint,
    of: &str,
    way: Way,
    given: &[Vouched],
    pinned: Option<&Fingerprint>,
) -> Result<(), TrustError> {
    if vouched_by(found, given).is_some() {
        return Ok(());
    }
    let is_pinned = pinned == Some(found);
    let (found, of) = (found.clone(), of.to_owned());
    if !given.is_empty() {
        return Err(TrustError::Other { of, found });
    }
    if way == Way::Found && !is_pinned {
        return Err(TrustError::Unknown { of, found });
    }
    Ok(())
}

/// What to say when a controller shows another certificate than last time.
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
    let made = age(new.not_before(), now);
    let seen = age(last.since, now);
    Some(format!(
        "the certificate of {of} has changed to {found}, made {made}; the last one was {old}, first seen {seen}. \
         Controllers make a new key every 30 days; if yours did not, find out who answers there before you go on"
    ))
}

/// In the largest unit that fits.
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
    fn what_was_named_is_taken_and_what_was_found_needs_a_pin() {
        let (a, b) = (fingerprint('a'), fingerprint('b'));
        for (why, way, given, pinned, want) in [
            ("named", Way::Named, vec![], None, true),
            ("named and changed", Way::Named, vec![], Some(&b), true),
            ("named, and given", Way::Named, vec![&b, &a], None, true),
            (
                "named, another given",
                Way::Named,
                vec![&b],
                Some(&a),
                false,
            ),
            ("found", Way::Found, vec![], None, false),
            ("found, another pinned", Way::Found, vec![], Some(&b), false),
            ("found and pinned", Way::Found, vec![], Some(&a), true),
            ("found and given", Way::Found, vec![&a], None, true),
            (
                "found, another given",
                Way::Found,
                vec![&b],
                Some(&a),
                false,
            ),
        ] {
            let given: Vec<Vouched> = given
                .into_iter()
                .map(|one| vouched(one, By::Flag))
                .collect();
            let judged = judge(&a, "x", way, &given, pinned);
            assert_eq!(judged.is_ok(), want, "{why}");
        }
    }

    fn vouched(fingerprint: &Fingerprint, by: By) -> Vouched {
        let fingerprint = fingerprint.clone();
        Vouched { fingerprint, by }
    }

    /// Attack: a rule in a repository names a controller or a fingerprint, so that its certificate is
    /// trusted later where neither the rule nor the user says so.
    #[test]
    fn a_rule_pins_nothing_whatever_it_names() {
        use Memory::{Announcement, Pin};
        let everyone = [By::Flag, By::Environment, By::Rule, By::Default];
        // Who names the controller, what a certificate that is served there is remembered for, and what one
        // that is found there is: with nobody's fingerprint (so it was pinned), the user's, or a rule's.
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
    fn the_user_vouches_before_a_rule() {
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
    fn ages_are_rounded_down_to_one_unit() {
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
