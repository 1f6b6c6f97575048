//! The text form: values `seal2.KIND.BASE64URL`, and the names of entries in `spec.encryptedData`.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::Problem;
use super::id::{LockId, ShortKeyId};

/// The prefix of every v2 value. No v1 value begins with it, because base64 does not contain `.`.
pub(super) const PREFIX: &str = "seal2.";
/// The prefix of the names of lock entries. No item's name begins with it, because the keys of a Secret do not contain
/// `/`.
const LOCK_PREFIX: &str = "/lock/";

/// The content of a v2 value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The header of a shared lock.
    Header,
    /// The data key of a shared lock, wrapped for one recipient.
    Stanza,
    /// An item that a shared lock opens.
    Short,
    /// An item with its own lock.
    Inline,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Header, Self::Stanza, Self::Short, Self::Inline];

    fn letter(self) -> &'static str {
        match self {
            Self::Header => "h",
            Self::Stanza => "l",
            Self::Short => "s",
            Self::Inline => "i",
        }
    }
}

/// The name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// The header of a lock.
    Header(LockId),
    /// A stanza of a lock.
    Stanza(LockId, ShortKeyId),
    /// An item, by its key.
    Item(&'a str),
}

/// Returns canonical base64url without padding.
pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes canonical base64url: without padding, line breaks, or unused bits that are not zero.
pub(super) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes an identifier of 16 bytes.
pub(super) fn id(text: &str) -> Option<[u8; 16]> {
    from_base64url(text)?.try_into().ok()
}

/// Returns whether a value has the prefix of v2 values.
pub(super) fn is_v2(value: &str) -> bool {
    value.starts_with(PREFIX)
}

/// Returns whether a name has the prefix of lock entries.
pub(super) fn is_lock_name(name: &str) -> bool {
    name.starts_with(LOCK_PREFIX)
}

pub(super) fn encode(kind: Kind, bytes: &[u8]) -> String {
    format!("{PREFIX}{}.{}", kind.letter(), base64url(bytes))
}

pub(super) fn decode(value: &str) -> Result<(Kind, Vec<u8>), Problem> {
    let rest = value.strip_prefix(PREFIX).ok_or(Problem::Kind)?;
    let (letter, encoded) = rest.split_once('.').ok_or(Problem::Kind)?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == letter);
    let bytes = from_base64url(encoded).ok_or(Problem::Base64)?;
    Ok((kind.ok_or(Problem::Kind)?, bytes))
}

pub(super) fn header_name(lock: LockId) -> String {
    format!("{LOCK_PREFIX}{lock}")
}

pub(super) fn stanza_name(lock: LockId, key: ShortKeyId) -> String {
    format!("{LOCK_PREFIX}{lock}/{key}")
}

pub(super) fn parse_name(name: &str) -> Result<Name<'_>, Problem> {
    let Some(rest) = name.strip_prefix(LOCK_PREFIX) else {
        return if name.starts_with('/') {
            Err(Problem::Name)
        } else {
            Ok(Name::Item(name))
        };
    };
    let parsed = match rest.split_once('/') {
        None => id(rest).map(|lock| Name::Header(LockId(lock))),
        Some((lock, key)) => id(lock).zip(id(key)).map(stanza),
    };
    parsed.ok_or(Problem::Name)
}

fn stanza((lock, key): ([u8; 16], [u8; 16])) -> Name<'static> {
    Name::Stanza(LockId(lock), ShortKeyId(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn decodes_what_it_encodes() {
        for kind in Kind::ALL {
            let text = encode(kind, b"\xff\xfe\xfd");
            assert_eq!(decode(&text), Ok((kind, b"\xff\xfe\xfd".to_vec())));
        }
        assert_eq!(encode(Kind::Header, b"\xff\xff"), "seal2.h.__8");
    }

    #[test]
    fn refuses_text_that_is_not_canonical() {
        for (text, want) in [
            ("", Problem::Kind),
            ("seal2", Problem::Kind),
            ("seal2.h", Problem::Kind),
            ("seal2.x.AA", Problem::Kind),
            ("seal2..AA", Problem::Kind),
            ("Seal2.h.AA", Problem::Kind),
            ("seal2.h.AA==", Problem::Base64),
            ("seal2.h.A", Problem::Base64),
            ("seal2.h.AB", Problem::Base64),
            ("seal2.h.AA\n", Problem::Base64),
            ("seal2.h.A A", Problem::Base64),
            ("seal2.h.//8", Problem::Base64),
            ("seal2.h.AA.AA", Problem::Base64),
        ] {
            assert_eq!(decode(text), Err(want), "{text:?}");
        }
    }

    #[test]
    fn parses_entry_names_and_refuses_malformed_ones() {
        let (lock, key) = (LockId([0; 16]), ShortKeyId([0; 16]));
        for (name, want) in [
            ("password", Ok(Name::Item("password"))),
            ("lock/x", Ok(Name::Item("lock/x"))),
            (&format!("/lock/{ZEROS}"), Ok(Name::Header(lock))),
            (
                &format!("/lock/{ZEROS}/{ZEROS}"),
                Ok(Name::Stanza(lock, key)),
            ),
            ("/", Err(Problem::Name)),
            ("/other", Err(Problem::Name)),
            ("/lock/", Err(Problem::Name)),
            ("/lock/../x", Err(Problem::Name)),
            (&format!("/lock/{ZEROS}/"), Err(Problem::Name)),
            (&format!("/lock/{ZEROS}/{ZEROS}/"), Err(Problem::Name)),
            ("/lock/AAAAAAAAAAAAAAAAAAAAAB", Err(Problem::Name)),
        ] {
            assert_eq!(parse_name(name), want, "{name}");
        }
        assert_eq!(parse_name(&header_name(lock)), Ok(Name::Header(lock)));
        let name = stanza_name(lock, key);
        assert_eq!(parse_name(&name), Ok(Name::Stanza(lock, key)));
    }
}
