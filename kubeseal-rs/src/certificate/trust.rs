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

/// Fingerprints that were `given` decide alone. Without any, what was found unasked has to be among
/// the `pinned`.
///
/// # Errors
///
/// [`TrustError`].
pub fn judge(
    found: &Fingerprint,
    of: &str,
    way: Way,
    given: &[Fingerprint],
    pinned: &[Fingerprint],
) -> Result<(), TrustError> {
    let (found, of) = (found.clone(), of.to_owned());
    if given.contains(&found) {
        return Ok(());
    }
    if !given.is_empty() {
        return Err(TrustError::Other { of, found });
    }
    if way == Way::Found && !pinned.contains(&found) {
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
            ("named", Way::Named, vec![], vec![], true),
            ("named and changed", Way::Named, vec![], vec![&b], true),
            ("named, and given", Way::Named, vec![&b, &a], vec![], true),
            (
                "named, another given",
                Way::Named,
                vec![&b],
                vec![&a],
                false,
            ),
            ("found", Way::Found, vec![], vec![], false),
            ("found, another pinned", Way::Found, vec![], vec![&b], false),
            ("found and pinned", Way::Found, vec![], vec![&b, &a], true),
            ("found and given", Way::Found, vec![&a], vec![], true),
            (
                "found, another given",
                Way::Found,
                vec![&b],
                vec![&a],
                false,
            ),
        ] {
            let owned = |list: Vec<&Fingerprint>| list.into_iter().cloned().collect::<Vec<_>>();
            let judged = judge(&a, "x", way, &owned(given), &owned(pinned));
            assert_eq!(judged.is_ok(), want, "{why}");
        }
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
