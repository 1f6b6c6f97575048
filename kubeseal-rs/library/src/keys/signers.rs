//! The allowed signers file, as `ssh-keygen -Y verify` reads it (ssh-keygen(1), "ALLOWED SIGNERS").
//!
//! A line that cannot be parsed is an error with its line number. Skipping an unknown restriction
//! would accept signers that the restriction excludes.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

/// The size limit for the file, in bytes.
const MAX_LEN: usize = 1024 * 1024;

/// A line of the file: the key of a signer, and its restrictions.
#[derive(Debug, Clone)]
struct Signer {
    principals: String,
    key: KeyData,
    /// Patterns of namespaces, separated by commas; `None` allows every namespace.
    namespaces: Option<String>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
    is_authority: bool,
}

/// The keys that may sign.
#[derive(Debug, Clone)]
pub struct Signers(Vec<Signer>);

/// Why an allowed signers file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignersError {
    /// The file is not UTF-8, or above the size limit.
    #[error(
        "not UTF-8 text, or larger than 1 MiB\nhint: pass an allowed signers file (see ssh-keygen(1))"
    )]
    NoText,
    /// A line cannot be parsed.
    #[error("line {line}: {problem}")]
    Line {
        /// The line number, counted from one.
        line: usize,
        /// Why the line cannot be parsed.
        problem: &'static str,
    },
    /// The file contains no signer.
    #[error("the file contains no signer")]
    Empty,
}

impl Signers {
    /// Parses an allowed signers file, as `ssh-keygen -Y verify` reads it.
    ///
    /// # Errors
    ///
    /// Returns a [`SignersError`] if a line cannot be parsed, or there is no signer.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignersError> {
        let text = std::str::from_utf8(bytes).ok();
        let text = text.filter(|text| text.len() <= MAX_LEN);
        let lines = text.ok_or(SignersError::NoText)?.lines().map(str::trim);
        let is_signer = |(_, line): &(usize, &str)| !line.is_empty() && !line.starts_with('#');
        let read = |(i, line): (usize, &str)| {
            Signer::read(line).map_err(|problem| SignersError::Line {
                line: i + 1,
                problem,
            })
        };
        let signers: Vec<Signer> = lines
            .enumerate()
            .filter(is_signer)
            .map(read)
            .collect::<Result<_, _>>()?;
        if signers.is_empty() {
            return Err(SignersError::Empty);
        }
        Ok(Self(signers))
    }

    /// Returns the principals of the first line that allows this key; `None` if the key may not sign in the namespace
    /// at the time `now`. A line for a certificate authority allows certificates only, not the key itself.
    pub fn principals(&self, key: &KeyData, namespace: &str, now: Timestamp) -> Option<&str> {
        let may_sign = |signer: &&Signer| {
            signer.key == *key
                && !signer.is_authority
                && signer.allows_a_principal()
                && signer
                    .namespaces
                    .as_ref()
                    .is_none_or(|list| matches(list, namespace))
                && signer.after.is_none_or(|after| after <= now)
                && signer.before.is_none_or(|before| now <= before)
        };
        let signer = self.0.iter().find(may_sign)?;
        Some(&signer.principals)
    }
}

impl Signer {
    fn read(line: &str) -> Result<Self, &'static str> {
        let fields = split(line, char::is_whitespace)?;
        let (principals, rest) = fields.split_first().ok_or("the line is empty")?;
        let key = |fields: &[&str]| match fields {
            [algorithm, key, ..] => PublicKey::from_openssh(&format!("{algorithm} {key}")).ok(),
            _ => None,
        };
        let (options, key) = match (key(rest), rest) {
            (Some(key), _) => ("", key),
            (None, [options, rest @ ..]) => (*options, key(rest).ok_or("no public key")?),
            (None, []) => return Err("no public key"),
        };
        let mut signer = Self {
            principals: without_quotes(principals).to_owned(),
            key: key.key_data().clone(),
            namespaces: None,
            after: None,
            before: None,
            is_authority: false,
        };
        for option in split(options, |c| c == ',')? {
            signer.restrict(option)?;
        }
        Ok(signer)
    }

    /// Returns whether the line allows a principal that no pattern with `!` excludes. If there is no such principal,
    /// `ssh-keygen` does not accept the key either.
    fn allows_a_principal(&self) -> bool {
        let mut principals = self.principals.split(',');
        principals.any(|principal| !principal.is_empty() && matches(&self.principals, principal))
    }

    fn restrict(&mut self, option: &str) -> Result<(), &'static str> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(require_quotes(value)?)),
            None => (option, None),
        };
        let is_new = match (name.to_ascii_lowercase().as_str(), value) {
            ("cert-authority", None) => !std::mem::replace(&mut self.is_authority, true),
            ("namespaces", Some(value)) => self.namespaces.replace(value.to_owned()).is_none(),
            ("valid-after", Some(value)) => self.after.replace(parse_time(value)?).is_none(),
            ("valid-before", Some(value)) => self.before.replace(parse_time(value)?).is_none(),
            _ => return Err("unknown option"),
        };
        if is_new {
            Ok(())
        } else {
            Err("duplicate option")
        }
    }
}

/// Splits text at separators outside quotes, without empty parts. Like `ssh-keygen`, supports no escapes inside quotes.
fn split(text: &str, is_separator: impl Fn(char) -> bool) -> Result<Vec<&str>, &'static str> {
    let mut is_quoted = false;
    let parts = text.split(|c: char| {
        is_quoted ^= c == '"';
        !is_quoted && is_separator(c)
    });
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    if is_quoted {
        Err("unclosed quotes")
    } else {
        Ok(parts)
    }
}

fn require_quotes(value: &str) -> Result<&str, &'static str> {
    let inside = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    inside.ok_or("the value of an option must be in quotes")
}

fn without_quotes(text: &str) -> &str {
    let inside = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inside.unwrap_or(text)
}

/// Parses `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, followed by `Z`. Without `Z`, `ssh-keygen` uses the machine's
/// time zone, so the same file would have a different meaning on another machine.
fn parse_time(text: &str) -> Result<Timestamp, &'static str> {
    const INVALID: &str = "invalid time: expected YYYYMMDD or YYYYMMDDHHMM[SS], followed by Z";
    let digits = text.strip_suffix(['Z', 'z']).ok_or(INVALID)?;
    if ![8, 12, 14].contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(INVALID);
    }
    let padded = format!("{digits:0<14}");
    let part = |from: usize, to: usize| padded[from..to].parse::<i8>().map_err(|_| INVALID);
    let year = padded[..4].parse::<i16>().map_err(|_| INVALID)?;
    let time = DateTime::new(
        year,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?,
        0,
    );
    let time = time.and_then(|time| TimeZone::UTC.to_timestamp(time));
    time.map_err(|_| INVALID)
}

/// Returns whether a pattern of the comma-separated list matches the text and none that begins with `!` does.
fn matches(list: &str, text: &str) -> bool {
    let mut is_match = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches_pattern(pattern.as_bytes(), text.as_bytes()) => {
                return false;
            }
            Some(_) => {}
            None => is_match |= matches_pattern(pattern.as_bytes(), text.as_bytes()),
        }
    }
    is_match
}

/// Returns whether one pattern matches: `*` is any string, `?` any character. Backtracks only to the
/// last star, which is enough and avoids exponential time.
fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else {
                    return false;
                };
                (p, t) = (at + 1, from + 1);
                star = Some((at, t));
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn key() -> KeyData {
        PublicKey::from_openssh(KEY).unwrap().key_data().clone()
    }

    fn principals(line: &str) -> Result<Option<String>, SignersError> {
        let now = "2026-06-15T12:00:00Z".parse().unwrap();
        let signers = Signers::parse(line.as_bytes())?;
        let principals = signers.principals(&key(), "sealed-secrets-backup", now);
        Ok(principals.map(str::to_owned))
    }

    #[test]
    fn a_key_may_sign_only_within_its_restrictions() {
        for (options, want) in [
            ("", true),
            ("namespaces=\"sealed-secrets-backup\"", true),
            ("namespaces=\"git,sealed-*\"", true),
            ("NAMESPACES=\"*\"", true),
            ("namespaces=\"git\"", false),
            ("namespaces=\"*,!sealed-secrets-backup\"", false),
            ("namespaces=\"\"", false),
            ("cert-authority", false),
            ("valid-after=\"20260101Z\"", true),
            ("valid-after=\"20260615120000Z\"", true),
            ("valid-after=\"20260615120001Z\"", false),
            ("valid-before=\"202606151200Z\"", true),
            ("valid-before=\"20260615Z\"", false),
            (
                "valid-after=\"20260101Z\",valid-before=\"20260201Z\",namespaces=\"*\"",
                false,
            ),
        ] {
            let line = format!("# the team\n\n  jane@example.com,joe {options} {KEY} a comment\n");
            let want = want.then(|| "jane@example.com,joe".to_owned());
            assert_eq!(principals(&line), Ok(want), "{options}");
        }
        let quoted = format!("\"jane doe\" {KEY}");
        assert_eq!(principals(&quoted), Ok(Some("jane doe".to_owned())));
        let other_key = KEY.replace("FSqti", "FSqtj");
        assert_eq!(principals(&format!("jane {other_key}")), Ok(None));
    }

    #[test]
    fn a_key_without_an_allowed_principal_may_not_sign() {
        for (list, want) in [
            ("!jane@example.com", false),
            ("jane@example.com,!jane@example.com", false),
            ("jane@example.com,!*", false),
            (",", false),
            ("*,!jane@example.com", true),
            ("jane@example.com,!joe@example.com", true),
        ] {
            let permitted = principals(&format!("{list} {KEY}")).unwrap();
            assert_eq!(permitted.is_some(), want, "{list}");
        }
    }

    /// Attack: a signer relies on a restriction being ignored because of its unsupported spelling.
    #[test]
    fn an_unsupported_line_permits_no_signer() {
        for (line, want) in [
            ("jane KEY\njane", "line 2: no public key"),
            ("jane ssh-ed25519 AAAA", "line 1: no public key"),
            ("jane a b c", "line 1: no public key"),
            ("jane no-such-option KEY", "line 1: unknown option"),
            ("jane cert-authority=\"no\" KEY", "line 1: unknown option"),
            (
                "jane namespaces=\"a\",namespaces=\"*\" KEY",
                "line 1: duplicate option",
            ),
            (
                "jane namespaces=sealed-secrets-backup KEY",
                "line 1: the value of an option must be in quotes",
            ),
            ("jane namespaces=\"git KEY", "line 1: unclosed quotes"),
            ("jane valid-after=\"20260101\" KEY", "line 1: invalid time"),
            ("jane valid-after=\"20261301Z\" KEY", "line 1: invalid time"),
            ("jane valid-before=\"soon\" KEY", "line 1: invalid time"),
            ("# nobody", "the file contains no signer"),
        ] {
            let error = principals(&line.replace("KEY", KEY)).unwrap_err();
            assert!(error.to_string().starts_with(want), "{line}: {error}");
        }
        assert!(Signers::parse(&[0xff]).is_err());
        assert!(Signers::parse(&vec![b' '; MAX_LEN + 1]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_any_text(text: String) {
            let _ = Signers::parse(text.as_bytes());
            let _ = Signers::parse(format!("{text} {KEY}").as_bytes());
            let _ = Signers::parse(format!("jane {text} {KEY}").as_bytes());
            let _ = (parse_time(&text), matches(&text, &text), split(&text, |c| c == ','));
        }

        #[test]
        fn matches_like_an_exhaustive_search(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn matches_exhaustively(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.first(), text.first()) {
                    (None, end) => end.is_none(),
                    (Some(b'*'), end) => matches_exhaustively(&pattern[1..], text) || end.is_some() && matches_exhaustively(pattern, &text[1..]),
                    (Some(_), None) => false,
                    (Some(p), Some(t)) => (*p == b'?' || p == t) && matches_exhaustively(&pattern[1..], &text[1..]),
                }
            }
            proptest::prop_assert_eq!(matches_pattern(pattern.as_bytes(), text.as_bytes()), matches_exhaustively(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
