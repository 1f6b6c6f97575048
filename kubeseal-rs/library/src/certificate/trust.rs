//! Decides whether a certificate may be used for sealing, from its source and fingerprint.

use jiff::{SignedDuration, Timestamp};
use shared::key::{Certificate, Fingerprint};

use super::cache::CachedCertificate;
use crate::cluster::Service;

/// How a certificate was discovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// At the address that the user or a rule named, or at the controller's default address. Trusted without a pin.
    Named,
    /// Where accounts other than the controller's can write: at a Service discovered by its labels, or in a
    /// `ConfigMap`.
    Found,
}

/// The source of a controller's name or of a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SettingSource {
    /// A command-line flag.
    Flag,
    /// An environment variable.
    Environment,
    /// A rule in `.seal.yaml`, which is untrusted: any committer can write it.
    Rule,
    /// The default name, because no flag, environment variable or rule names a controller.
    #[default]
    Default,
}

/// An accepted fingerprint and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedFingerprint {
    /// The fingerprint of the public key.
    pub fingerprint: Fingerprint,
    /// The source of the fingerprint.
    pub by: SettingSource,
}

/// How to cache a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheKind {
    /// As a pin: trust the certificate where it is discovered ([`Discovery::Found`]), and report a change.
    Pin,
    /// As the certificate of a rule: only to report a change.
    SeenByRule,
}

/// Decides how to cache a certificate. A certificate becomes a pin unless a rule named the controller or, for a
/// discovered certificate, a rule accepted its fingerprint: a rule applies to its own files only.
pub(super) fn cache_kind(
    named_by: SettingSource,
    discovery: Discovery,
    accepted_by: Option<SettingSource>,
) -> CacheKind {
    let depends_on_rule = named_by == SettingSource::Rule
        || discovery == Discovery::Found && accepted_by == Some(SettingSource::Rule);
    if depends_on_rule {
        CacheKind::SeenByRule
    } else {
        CacheKind::Pin
    }
}

/// Returns the source of the accepted fingerprint that equals `found`, or `None`. The user takes precedence over a
/// rule.
pub(super) fn accepted_by(
    found: &Fingerprint,
    accepted: &[AcceptedFingerprint],
) -> Option<SettingSource> {
    let matching = accepted
        .iter()
        .filter(|accepted| accepted.fingerprint == *found);
    matching
        .map(|accepted| accepted.by)
        .min_by_key(|by| *by == SettingSource::Rule)
}

/// Why a certificate must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The fingerprint of the certificate is not among the accepted ones.
    #[error(
        "the certificate of {location} has the fingerprint {found}, which neither --cert-fingerprint nor a rule accepts\n\
         hint: if the key was renewed, confirm the new fingerprint with the administrator of the controller; \
         otherwise do not seal with this certificate"
    )]
    NotAccepted {
        /// Where the certificate was found.
        location: String,
        /// The certificate's fingerprint.
        found: Fingerprint,
    },
    /// The certificate needs an accepted fingerprint or a pin, and has neither.
    #[error(
        "the certificate of {location}, with the fingerprint {found}, is not trusted\n\
         hint: confirm the fingerprint with the administrator of the controller, then pass --cert-fingerprint {found} once"
    )]
    NotTrusted {
        /// Where the certificate was found.
        location: String,
        /// The certificate's fingerprint.
        found: Fingerprint,
    },
}

/// Decides whether a certificate may be used. If `accepted` contains fingerprints, only they count. Otherwise, a
/// discovered certificate has to be `pinned` for the Service where it was found.
///
/// # Errors
///
/// Returns a [`TrustError`] if the certificate must not be used.
pub fn judge(
    found: &Fingerprint,
    location: &str,
    discovery: Discovery,
    accepted: &[AcceptedFingerprint],
    pinned: Option<&Fingerprint>,
) -> Result<(), TrustError> {
    if accepted_by(found, accepted).is_some() {
        return Ok(());
    }
    let is_pinned = pinned == Some(found);
    let (found, location) = (found.clone(), location.to_owned());
    if !accepted.is_empty() {
        return Err(TrustError::NotAccepted { location, found });
    }
    if discovery == Discovery::Found && !is_pinned {
        return Err(TrustError::NotTrusted { location, found });
    }
    Ok(())
}

/// Returns a warning if the key of the controller's certificate differs from the cached one.
pub(super) fn change_warning(
    last: &CachedCertificate,
    new: &Certificate,
    service: &Service,
    now: Timestamp,
) -> Option<String> {
    let (old_fingerprint, new_fingerprint) = (&last.fingerprint, new.fingerprint());
    if old_fingerprint == new_fingerprint {
        return None;
    }
    let created = age(new.not_before(), now);
    let first_seen = age(last.since, now);
    Some(format!(
        "the certificate of {service} has changed to {new_fingerprint}, created {created}; the previous one was {old_fingerprint}, first seen {first_seen}\n\
         hint: by default, controllers generate a new key every 30 days; if yours did not, check which server responds at \
         this address"
    ))
}

/// Formats how long ago a time was: `just now`, or in whole minutes, hours or days.
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
    fn accepts_a_discovered_certificate_only_with_a_pin() {
        let (a, b) = (fingerprint('a'), fingerprint('b'));
        for (why, discovery, accepted, pinned, want) in [
            ("named", Discovery::Named, vec![], None, true),
            (
                "named, another certificate pinned",
                Discovery::Named,
                vec![],
                Some(&b),
                true,
            ),
            (
                "named, fingerprint accepted",
                Discovery::Named,
                vec![&b, &a],
                None,
                true,
            ),
            (
                "named, another fingerprint accepted",
                Discovery::Named,
                vec![&b],
                Some(&a),
                false,
            ),
            ("found", Discovery::Found, vec![], None, false),
            (
                "found, another certificate pinned",
                Discovery::Found,
                vec![],
                Some(&b),
                false,
            ),
            ("found and pinned", Discovery::Found, vec![], Some(&a), true),
            (
                "found, fingerprint accepted",
                Discovery::Found,
                vec![&a],
                None,
                true,
            ),
            (
                "found, another fingerprint accepted",
                Discovery::Found,
                vec![&b],
                Some(&a),
                false,
            ),
        ] {
            let accepted: Vec<AcceptedFingerprint> = accepted
                .into_iter()
                .map(|fingerprint| accepted_fingerprint(fingerprint, SettingSource::Flag))
                .collect();
            let verdict = judge(&a, "x", discovery, &accepted, pinned);
            assert_eq!(verdict.is_ok(), want, "{why}");
        }
    }

    fn accepted_fingerprint(fingerprint: &Fingerprint, by: SettingSource) -> AcceptedFingerprint {
        let fingerprint = fingerprint.clone();
        AcceptedFingerprint { fingerprint, by }
    }

    /// Attack: a rule in a repository names a controller or a fingerprint, so that its certificate
    /// is trusted later where neither the rule nor the user names it.
    #[test]
    fn a_rule_never_creates_a_pin() {
        use CacheKind::{Pin, SeenByRule};
        let sources = [
            SettingSource::Flag,
            SettingSource::Environment,
            SettingSource::Rule,
            SettingSource::Default,
        ];
        // Columns: the source of the controller's name; how a served certificate is cached; and how a discovered
        // certificate is cached without a fingerprint (it was pinned), with a fingerprint of the user, and with a
        // fingerprint of a rule.
        for (named_by, served, found, with_user_fingerprint, with_rule_fingerprint) in [
            (SettingSource::Flag, Pin, Pin, Pin, SeenByRule),
            (SettingSource::Environment, Pin, Pin, Pin, SeenByRule),
            (SettingSource::Default, Pin, Pin, Pin, SeenByRule),
            (
                SettingSource::Rule,
                SeenByRule,
                SeenByRule,
                SeenByRule,
                SeenByRule,
            ),
        ] {
            for source in sources.map(Some).into_iter().chain([None]) {
                assert_eq!(
                    cache_kind(named_by, Discovery::Named, source),
                    served,
                    "{named_by:?} {source:?}"
                );
            }
            let kind_if_found = |source| cache_kind(named_by, Discovery::Found, source);
            assert_eq!(kind_if_found(None), found, "{named_by:?}");
            assert_eq!(
                kind_if_found(Some(SettingSource::Flag)),
                with_user_fingerprint,
                "{named_by:?}"
            );
            assert_eq!(
                kind_if_found(Some(SettingSource::Environment)),
                with_user_fingerprint,
                "{named_by:?}"
            );
            assert_eq!(
                kind_if_found(Some(SettingSource::Rule)),
                with_rule_fingerprint,
                "{named_by:?}"
            );
        }
    }

    #[test]
    fn the_user_takes_precedence_over_a_rule() {
        let (a, b) = (fingerprint('a'), fingerprint('b'));
        let accepted = [
            accepted_fingerprint(&a, SettingSource::Rule),
            accepted_fingerprint(&a, SettingSource::Environment),
            accepted_fingerprint(&b, SettingSource::Rule),
        ];
        assert_eq!(accepted_by(&a, &accepted), Some(SettingSource::Environment));
        assert_eq!(accepted_by(&b, &accepted), Some(SettingSource::Rule));
        assert_eq!(accepted_by(&fingerprint('c'), &accepted), None);
    }

    #[test]
    fn formats_an_age_rounded_down_to_one_unit() {
        let timestamp = |second| Timestamp::from_second(second).unwrap();
        for (seconds, want) in [
            (-5, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7199, "1 hour ago"),
            (7200, "2 hours ago"),
            (86_400 * 31, "31 days ago"),
        ] {
            assert_eq!(age(timestamp(0), timestamp(seconds)), want);
        }
    }
}
