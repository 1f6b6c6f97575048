//! Reads the public keys of recipients.

use std::sync::Arc;

use jiff::Timestamp;
use shared::key::{Certificate, contains_private_key};
use shared::v2::{
    KeyTextError, ListedRecipient, PublicRecipient, Recipient as _, RecipientList, Suite,
};

use super::RecipientKey;
use crate::bounded;
use crate::certificate::{self, Origin, UseError};

/// A file, a URL or a controller provides no usable recipient.
#[derive(Debug, thiserror::Error)]
pub enum RecipientsError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] UseError),
    /// A line is not a recipient.
    #[error("line {line}: {source}")]
    Line {
        /// The line number, counted from one.
        line: usize,
        /// Why the line is not a recipient.
        source: KeyTextError,
    },
    /// The content includes a private key.
    #[error(
        "line {0} is a private key, which must be kept secret\nhint: pass a file that contains only public keys"
    )]
    PrivateKey(usize),
    /// There is no key.
    #[error("it contains neither a certificate nor a `seal2-recipient …` or `age1pq1…` line")]
    None,
    /// The content is JSON, but not a controller's list.
    #[error(
        "it is JSON, but not the list of a controller\nhint: pass the list that a controller serves at `/v2/recipients`"
    )]
    NotList,
    /// The content is not UTF-8.
    #[error("it is neither a certificate nor text")]
    NotText,
    /// The controller's list has no key of a suite that this program knows.
    #[error(
        "the controller lists no key that this version can seal for\nhint: update this program"
    )]
    NoneListed,
    /// No key of the controller's list is valid now.
    #[error(
        "the key {key} of the controller seals from {from} until {until}, and no other key is valid now\nhint: generate \
         a new one with `seal keys rotate`, or check the clock of this machine"
    )]
    NotValid {
        /// The identifier of the preferred key.
        key: String,
        /// The beginning of its validity.
        from: Timestamp,
        /// The end of its validity.
        until: Timestamp,
    },
    /// An entry of the list contradicts itself: the suite or the identifier does not match the key, or the entry
    /// contains no key or two keys.
    #[error("the controller's list is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// Returns the recipients in the content of a file: one certificate in PEM, lines of keys, or the list of a controller
/// (`/v2/recipients`), of which the preferred key is used. Empty lines and lines that begin with `#` are skipped. The
/// second value contains warnings about the certificate.
///
/// # Errors
///
/// Returns a [`RecipientsError`] if there is no recipient, or if a recipient is unusable.
pub fn in_text(
    bytes: &[u8],
    now: Timestamp,
) -> Result<(Vec<RecipientKey>, Vec<String>), RecipientsError> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        let list: RecipientList = bounded::parse_json(bytes).ok_or(RecipientsError::NotList)?;
        return Ok((vec![from_list(&list, now)?], Vec::new()));
    }
    if bytes.windows(5).any(|window| window == b"-----") || contains_private_key(bytes) {
        let (certificate, remarks) = certificate::parse_from(Origin::Local, bytes, now)?;
        return Ok((vec![RecipientKey::Certificate(certificate.into())], remarks));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| RecipientsError::NotText)?;
    let lines = text.lines().map(str::trim_ascii).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<_> = lines
        .map(|(at, line)| recipient(at + 1, line))
        .collect::<Result<_, _>>()?;
    match keys.as_slice() {
        [] => Err(RecipientsError::None),
        _ => Ok((keys, Vec::new())),
    }
}

fn recipient(number: usize, line: &str) -> Result<RecipientKey, RecipientsError> {
    if line.starts_with("seal2-key") || line.starts_with("AGE-SECRET-KEY-") {
        return Err(RecipientsError::PrivateKey(number));
    }
    let key = PublicRecipient::parse(line).map_err(|source| RecipientsError::Line {
        line: number,
        source,
    })?;
    Ok(RecipientKey::Line(key.into()))
}

/// Returns the key of a controller's list to seal for: the first one of a known suite that is valid now. Nothing in the
/// list is trusted: the key is parsed, and compared with its identifier.
///
/// # Errors
///
/// Returns a [`RecipientsError`] if no key can be used, or a key does not have the identifier in the list.
pub fn from_list(list: &RecipientList, now: Timestamp) -> Result<RecipientKey, RecipientsError> {
    let is_known = |listed: &&ListedRecipient| listed.suite.parse::<Suite>().is_ok();
    let is_valid =
        |listed: &&ListedRecipient| (listed.not_before..=listed.not_after).contains(&now);
    let with_known_suite = || list.recipients.iter().filter(is_known);
    let preferred = with_known_suite()
        .next()
        .ok_or(RecipientsError::NoneListed)?;
    let listed = with_known_suite()
        .find(is_valid)
        .ok_or_else(|| RecipientsError::NotValid {
            key: preferred.key_id.clone(),
            from: preferred.not_before,
            until: preferred.not_after,
        })?;
    let key = listed_key(listed, now)?;
    if key.suite().to_string() != listed.suite {
        return Err(RecipientsError::Inconsistent(
            "the suite of an entry does not match its key",
        ));
    }
    if key.key_id().to_string() != listed.key_id {
        return Err(RecipientsError::Inconsistent(
            "the identifier of an entry does not match its key",
        ));
    }
    Ok(key)
}

fn listed_key(listed: &ListedRecipient, now: Timestamp) -> Result<RecipientKey, RecipientsError> {
    match (&listed.recipient, &listed.certificate) {
        (Some(line), None) => {
            let key = PublicRecipient::parse(line);
            let key = key.map_err(|source| RecipientsError::Line { line: 1, source })?;
            Ok(RecipientKey::Line(key.into()))
        }
        (None, Some(pem)) => {
            let parsed = certificate::parse_from(Origin::Controller, pem.as_bytes(), now)?;
            let certificate: Arc<Certificate> = parsed.0.into();
            Ok(RecipientKey::Certificate(certificate))
        }
        _ => Err(RecipientsError::Inconsistent(
            "an entry needs either a recipient line or a certificate",
        )),
    }
}

#[cfg(test)]
mod tests {
    use shared::v2::SecretKey;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn key(suite: Suite, byte: u8) -> PublicRecipient {
        SecretKey::from_bytes(suite, &[byte; 32])
            .unwrap()
            .recipient()
    }

    fn list_entry(key: &PublicRecipient) -> ListedRecipient {
        ListedRecipient {
            suite: key.suite().to_string(),
            key_id: key.key_id().to_string(),
            recipient: Some(key.to_string()),
            certificate: None,
            not_before: NOW,
            not_after: NOW,
        }
    }

    #[test]
    fn reads_lines_and_skips_comments() {
        let (a, b) = (key(Suite::XWing, 1), key(Suite::P256, 2));
        let text = format!("# the team\n\n{a} main\n  {b}\n");
        let (keys, remarks) = in_text(text.as_bytes(), NOW).unwrap();
        let ids: Vec<_> = keys
            .iter()
            .map(|key| (key.key_id(), key.comment()))
            .collect();
        assert_eq!(ids, [(a.key_id(), "main"), (b.key_id(), "")]);
        assert_eq!(remarks, [""; 0]);
    }

    /// Attack: an author puts a private key into the repository, and messages repeat it.
    #[test]
    fn names_the_line_of_a_problem_without_quoting_it() {
        let secret = SecretKey::from_bytes(Suite::XWing, &[1; 32]).unwrap();
        let secret = String::from_utf8(secret.to_text().expose().to_vec()).unwrap();
        for (text, want) in [
            (format!("\n{secret}"), "line 2 is a private key"),
            ("#\n\nabc".to_owned(), "line 3: expected `seal2-recipient"),
            ("# nothing\n".to_owned(), "it contains neither"),
        ] {
            let error = in_text(text.as_bytes(), NOW).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
            assert!(
                !error.contains(secret.rsplit(' ').next().unwrap()),
                "{error}"
            );
        }
        assert!(matches!(
            in_text(b"\xff", NOW),
            Err(RecipientsError::NotText)
        ));
    }

    #[test]
    fn reads_the_list_of_a_controller() {
        let key = key(Suite::XWing, 1);
        let recipients = vec![list_entry(&key)];
        let json = serde_json::to_vec(&RecipientList { recipients }).unwrap();
        let (keys, _) = in_text(&json, NOW).unwrap();
        assert_eq!(keys[0].key_id(), key.key_id());
        assert!(matches!(
            in_text(b" {}", NOW),
            Err(RecipientsError::NotList)
        ));
    }

    /// Attack: a server between the client and the controller sends a list with the server's own key under a known
    /// identifier, or with a key that no longer seals.
    #[test]
    fn takes_the_first_known_and_valid_key_and_compares_its_identifier() {
        let (a, b) = (key(Suite::XWing, 1), key(Suite::P256, 2));
        let unknown = ListedRecipient {
            suite: "later".to_owned(),
            ..list_entry(&a)
        };
        let expired = ListedRecipient {
            not_before: NOW - jiff::SignedDuration::from_hours(2),
            not_after: NOW - jiff::SignedDuration::from_hours(1),
            ..list_entry(&a)
        };
        let pick = |recipients: &[&ListedRecipient]| {
            let recipients = recipients.iter().map(|listed| (*listed).clone()).collect();
            let picked = from_list(&RecipientList { recipients }, NOW);
            picked
                .map(|key| key.key_id())
                .map_err(|error| error.to_string())
        };
        assert_eq!(pick(&[&list_entry(&a), &list_entry(&b)]), Ok(a.key_id()));
        assert_eq!(pick(&[&unknown, &expired, &list_entry(&b)]), Ok(b.key_id()));
        for (why, wrong) in [
            (
                "identifier",
                ListedRecipient {
                    key_id: b.key_id().to_string(),
                    ..list_entry(&a)
                },
            ),
            (
                "suite",
                ListedRecipient {
                    suite: "p256".to_owned(),
                    ..list_entry(&a)
                },
            ),
            (
                "either",
                ListedRecipient {
                    recipient: None,
                    ..list_entry(&a)
                },
            ),
        ] {
            let error = pick(&[&wrong, &list_entry(&b)]).unwrap_err();
            assert!(
                error.contains("inconsistent") && error.contains(why),
                "{error}"
            );
        }
        assert!(pick(&[]).unwrap_err().contains("lists no key"));
        let error = pick(&[&unknown, &expired]).unwrap_err();
        assert!(error.contains("until 1969-12-31T23:00:00Z"), "{error}");
    }
}
