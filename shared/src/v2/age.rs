//! Keys of age's post-quantum type: public keys `age1pq1…`, which are X-Wing keys, and private keys
//! `AGE-SECRET-KEY-PQ-1…`. They open v2 values and the files of age, each under its own HPKE info.

use bech32::primitives::decode::CheckedHrpstring;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::suite::xwing::{SEED_LEN, XWingPrivateKey, XWingPublicKey};

/// The prefix of a public key, before the separator `1`.
const RECIPIENT: &str = "age1pq";
/// The prefix of a private key, before the separator `1`.
const IDENTITY: &str = "age-secret-key-pq-";

/// Bech32 without the limit on the length, as age uses it.
enum LongBech32 {}

impl bech32::Checksum for LongBech32 {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = bech32::Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
}

/// Returns whether a string has the prefix of a public key of this type.
pub(super) fn is_recipient(text: &str) -> bool {
    text.starts_with("age1pq1")
}

/// Returns whether a string has the prefix of a private key of this type.
pub(super) fn is_identity(text: &str) -> bool {
    text.starts_with("AGE-SECRET-KEY-PQ-1")
}

/// Decodes a public key.
pub(super) fn recipient(text: &str) -> Option<Vec<u8>> {
    let parsed = CheckedHrpstring::new::<LongBech32>(text).ok()?;
    let is_valid = parsed.hrp().as_str() == RECIPIENT;
    is_valid.then(|| parsed.byte_iter().collect())
}

/// Decodes a private key.
pub(super) fn identity(text: &str) -> Option<Zeroizing<[u8; SEED_LEN]>> {
    let parsed = CheckedHrpstring::new::<LongBech32>(text).ok()?;
    let mut seed = Zeroizing::new([0; SEED_LEN]);
    let bytes = parsed.byte_iter();
    let is_valid = parsed.hrp().as_str().eq_ignore_ascii_case(IDENTITY) && bytes.len() == SEED_LEN;
    is_valid.then(|| seed.iter_mut().zip(bytes).for_each(|(to, from)| *to = from))?;
    Some(seed)
}

/// The HPKE info of age, which separates age's use of a key from the use by this crate.
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
/// Length in bytes of age's file key, which encrypts one file.
const FILE_KEY_LEN: usize = 16;

/// A public key of age's post-quantum type (`age1pq1…`), for which file keys can be wrapped.
#[derive(Debug, Clone)]
pub struct AgeRecipient(XWingPublicKey);

impl AgeRecipient {
    /// Parses a public key. Returns `None` if the string has a different form, or the key is malformed or unsafe.
    pub fn parse(text: &str) -> Option<Self> {
        XWingPublicKey::from_bytes(&recipient(text)?).map(Self)
    }

    /// Wraps a file key. Returns the encapsulation and the wrapped key, which are the argument and the body of an
    /// `mlkem768x25519` stanza, or `None` if aws-lc fails.
    pub fn wrap_file_key(
        &self,
        key: &[u8; FILE_KEY_LEN],
        rng: &mut dyn CryptoRng,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        self.0.seal_for_age(INFO, key, rng)
    }
}

/// A private key of age's post-quantum type (`AGE-SECRET-KEY-PQ-1…`).
#[derive(Debug)]
pub struct AgeIdentity(XWingPrivateKey);

impl AgeIdentity {
    /// Parses a private key. Returns `None` if the string has a different form.
    pub fn parse(text: &str) -> Option<Self> {
        let is_upper = is_identity(text) && !text.contains(|c: char| c.is_ascii_lowercase());
        let seed = identity(text).filter(|_| is_upper)?;
        XWingPrivateKey::from_seed(&seed).map(Self)
    }

    /// Returns the public key.
    pub fn recipient(&self) -> AgeRecipient {
        AgeRecipient(self.0.public_key().clone())
    }

    /// Unwraps a file key. Returns `None` if the file key was wrapped for another key, or was changed.
    pub fn unwrap_file_key(
        &self,
        encapsulated: &[u8],
        wrapped: &[u8],
    ) -> Option<Zeroizing<[u8; FILE_KEY_LEN]>> {
        let key = self.0.open_for_age(INFO, encapsulated, wrapped)?;
        key.as_slice().try_into().ok().map(Zeroizing::new)
    }
}
