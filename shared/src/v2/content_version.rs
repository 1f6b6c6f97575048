//! The version of a file's content: equal only if all values and their identifiers are equal.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::encoder::{Encoder, Purpose};
use super::text;
use super::value::ValueId;
use crate::plain::Plain;

/// The message that a key authenticates to derive its identifier. It is shorter than every input of a version.
const KEY_ID_INFO: &[u8] = b"id";

/// The block length of SHA-256 in bytes.
const BLOCK_LEN: usize = 64;

/// The content-version key. The controller generates this key; it is never sealed, because anyone can seal.
pub struct VersionKey {
    key: hmac::Key,
    id: String,
}

impl VersionKey {
    /// Reads the 32 bytes of the key.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let id = hmac::sign(&key, KEY_ID_INFO);
        let id = id.as_ref()[..4].iter().map(|byte| format!("{byte:02x}"));
        let id = id.collect();
        Self { key, id }
    }

    /// Returns the public identifier of the key, eight hexadecimal digits. Versions of different content-version
    /// keys cannot be compared.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VersionKey(…)")
    }
}

/// The contribution of a value to a content version: the HMAC of the value under its identifier. The digest must not
/// be published, because equal digests mean equal values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ValueDigest([u8; 32]);

impl ValueDigest {
    /// Calculates the digest of a value with an identifier. The version cannot contain only the identifier, because an
    /// author can set a different value with the identifier of the current value.
    pub fn new(id: &ValueId, plain: &Plain) -> Self {
        Self::keyed(id.expose(), plain)
    }

    /// Calculates the digest of a rendering with values that a template may have generated from randomness or the time.
    /// `origin` identifies the version of the object, and the nonce the rendering. The values themselves must not
    /// contribute: for some sealed values, the template may render the same value each time.
    pub fn for_rendering(origin: &str, nonce: &str) -> Self {
        Self::keyed(origin.as_bytes(), &Plain::from(nonce.to_owned()))
    }

    /// Calculates HMAC-SHA256 (RFC 2104) from digests of whole messages. The context of [`hmac`] is not used: it is
    /// moved on the stack, and would leave the end of the value there.
    fn keyed(key: &[u8], plain: &Plain) -> Self {
        let mut block = Zeroizing::new([0; BLOCK_LEN]);
        if key.len() <= BLOCK_LEN {
            block[..key.len()].copy_from_slice(key);
        } else {
            block[..32].copy_from_slice(digest(&SHA256, key).as_ref());
        }
        let padded = |pad: u8, message: &[u8]| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(BLOCK_LEN + message.len()));
            bytes.extend(block.iter().map(|byte| byte ^ pad));
            bytes.extend_from_slice(message);
            digest(&SHA256, &bytes)
        };
        let inner = padded(0x36, plain.expose());
        let mut outer = [0; 32];
        outer.copy_from_slice(padded(0x5c, inner.as_ref()).as_ref());
        Self(outer)
    }
}

impl fmt::Debug for ValueDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValueDigest(…)")
    }
}

/// The digests of the values from which a file was generated, by the name of the SealedSecret and the item key.
pub type VersionInputs<'a> = BTreeMap<(&'a str, &'a str), ValueDigest>;

/// The version of the content of a file. A value that is set again gets a new version, even if the value is equal. The
/// version reveals nothing about a value: its only input that depends on the value is an HMAC under the value's
/// identifier, which is random and sealed with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentVersion([u8; 16]);

impl ContentVersion {
    /// Calculates the version of the file at a path, from its values and the text of its template, if any.
    pub fn new(
        key: &VersionKey,
        namespace: &str,
        path: &str,
        template: Option<&str>,
        inputs: &VersionInputs<'_>,
    ) -> Self {
        let bytes = Encoder::new(Purpose::Version)
            .prefixed(namespace.as_bytes())
            .prefixed(path.as_bytes())
            .optional(template)
            .count(inputs.len());
        let bytes = inputs.iter().fold(bytes, push_input).finish();
        let mut version = [0; 16];
        version.copy_from_slice(&hmac::sign(&key.key, &bytes).as_ref()[..16]);
        Self(version)
    }
}

fn push_input(bytes: Encoder, ((object, item), value): (&(&str, &str), &ValueDigest)) -> Encoder {
    bytes
        .prefixed(object.as_bytes())
        .prefixed(item.as_bytes())
        .fixed(&value.0)
}

impl fmt::Display for ContentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base64url(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(id: u8, plain: &str) -> ValueDigest {
        let plain = Plain::from(plain.as_bytes().to_vec());
        ValueDigest::new(&ValueId::from_bytes([id; 16]), &plain)
    }

    fn version(template: Option<&str>, inputs: &[(&str, &str, u8, &str)]) -> ContentVersion {
        let inputs = inputs.iter();
        let inputs = inputs.map(|input| ((input.0, input.1), digest(input.2, input.3)));
        let key = VersionKey::new(&[1; 32]);
        ContentVersion::new(&key, "ns", "path", template, &inputs.collect())
    }

    #[test]
    fn the_digest_of_a_value_is_hmac_sha256() {
        for key_len in [0, 16, 64, 65, 200] {
            let key = vec![7; key_len];
            for len in [0, 1, 55, 64, 1000] {
                let plain = Plain::from(vec![9; len]);
                let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
                let want = hmac::sign(&key, plain.expose());
                let got = ValueDigest::keyed(&vec![7; key_len], &plain);
                assert_eq!(got.0, want.as_ref(), "{key_len}, {len}");
            }
        }
    }

    #[test]
    fn depends_on_values_identifiers_names_and_template() {
        let base = version(None, &[("a", "x", 1, "v"), ("b", "y", 2, "w")]);
        for other in [
            version(Some(""), &[("a", "x", 1, "v"), ("b", "y", 2, "w")]),
            version(None, &[("a", "x", 1, "v"), ("b", "y", 3, "w")]),
            version(None, &[("a", "y", 1, "v"), ("b", "x", 2, "w")]),
            version(None, &[("a", "x", 1, "v")]),
        ] {
            assert_ne!(other, base);
        }
    }

    /// Attack: an author sets a different value with the identifier of the current value, so that no program restarts.
    #[test]
    fn another_value_with_the_same_identifier_has_another_version() {
        let of = |plain: &str| version(None, &[("a", "url", 1, plain)]);
        assert_ne!(of("https://good"), of("https://evil"));
        assert_eq!(of("https://good"), of("https://good"));
    }
}
