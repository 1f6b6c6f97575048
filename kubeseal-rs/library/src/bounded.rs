//! Bounded reads: every file, stream and response has a size limit that depends on the kind of content.
//!
//! A path may be a link to `/dev/zero`, and a server may send endless data. The limits are far above
//! any legitimate size.

use std::fmt;
use std::io::{self, Read};

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

const MIB: u64 = 1024 * 1024;

/// The kind of content that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Manifests. One file may contain all manifests of a directory tree.
    Manifests,
    /// A value of a Secret, or a file of such values. An API server accepts 1 MiB for a whole
    /// Secret.
    Value,
    /// Certificates and other public keys.
    Certificate,
    /// Private keys, or a backup of them.
    Keys,
    /// A token, a passphrase or an age identity.
    Credential,
    /// A kubeconfig or a rules file.
    Settings,
    /// A web page that seals values.
    Page,
    /// A response of a controller, or of the API server except [`Self::List`].
    Response,
    /// An object, or a page of a list, from the API server.
    List,
    /// A page of a list of the metadata of objects, from the API server.
    MetadataList,
}

impl Kind {
    /// Returns the size limit in bytes.
    pub fn limit(self) -> u64 {
        MIB * match self {
            Self::Manifests => 128,
            Self::Value | Self::Settings | Self::Page => 16,
            Self::Certificate => 10,
            Self::Keys => 64,
            Self::Credential => 1,
            Self::Response => 32,
            Self::List | Self::MetadataList => 512,
        }
    }

    /// Returns whether content of this kind is converted from UTF-16 to UTF-8 when it is read. Values are bytes and
    /// stay as they are; the manifest parser reads UTF-8 and UTF-16 itself.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Certificate | Self::Keys | Self::Credential)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifests => "manifests",
            Self::Value => "a value",
            Self::Certificate => "a certificate",
            Self::Keys => "keys",
            Self::Credential => "a token, passphrase or identity",
            Self::Settings => "settings",
            Self::Page => "a page",
            Self::Response => "a response",
            Self::List => "a list",
            Self::MetadataList => "a list of metadata",
        })
    }
}

/// The content is larger than [`Kind::limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("larger than {} MiB, the limit for {kind}", kind.limit() / MIB)]
pub struct TooLarge {
    /// The kind of content.
    pub kind: Kind,
}

/// Reads to the end of the source. `expected` is the likely size in bytes; if it is above the limit, nothing is read.
///
/// # Errors
///
/// Fails if the source cannot be read, or if the content is above the limit; in the second case, the [`io::Error`]
/// contains [`TooLarge`].
pub fn read(source: impl Read, expected: u64, kind: Kind) -> io::Result<Zeroizing<Vec<u8>>> {
    let limit = kind.limit();
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, TooLarge { kind });
    if expected > limit {
        return Err(too_large());
    }
    let capacity = usize::try_from(expected).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity + 1));
    source.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes)
}

/// The maximum number of values in a JSON response. A parsed value can take many times the memory of its text.
const MAX_JSON_VALUES: usize = 1_000_000;

/// Returns whether a response may have too many values to be parsed as JSON. Commas and brackets in strings count too.
pub fn may_have_too_many_values(bytes: &[u8]) -> bool {
    memchr::memchr3_iter(b',', b'[', b'{', bytes).count() > MAX_JSON_VALUES
}

/// Parses a JSON response. Returns `None` if it is not JSON of this type, or has too many values.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if may_have_too_many_values(bytes) {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 6] = [
        Kind::Manifests,
        Kind::Value,
        Kind::Certificate,
        Kind::Keys,
        Kind::Credential,
        Kind::Settings,
    ];

    /// Attack: a committer makes a read endless, for example with a link to `/dev/zero`, to exhaust the memory.
    #[test]
    fn refuses_endless_content() {
        for kind in KINDS {
            let error = read(io::repeat(0), 0, kind).unwrap_err();
            assert!(error.to_string().contains("larger than"), "{kind}: {error}");
            // If the expected size is above the limit, nothing is read.
            let error = read(io::repeat(0), kind.limit() + 1, kind).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{kind}");
        }
    }

    /// Attack: a server that impersonates the controller sends a huge number of small values, which take many times
    /// their size in memory when parsed.
    #[test]
    fn parses_a_limited_number_of_values() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        for (count, is_read) in [(MAX_JSON_VALUES, true), (MAX_JSON_VALUES + 1, false)] {
            let read: Option<Vec<u8>> = parse_json(list(count).as_bytes());
            assert_eq!(read.is_some(), is_read, "{count}");
        }
    }

    #[test]
    fn reads_up_to_the_limit() {
        let kind = Kind::Credential;
        for (size, fits) in [(0, true), (kind.limit(), true), (kind.limit() + 1, false)] {
            let bytes = read(io::repeat(7).take(size), 0, kind);
            assert_eq!(bytes.is_ok_and(|bytes| bytes.len() as u64 == size), fits);
        }
    }
}
