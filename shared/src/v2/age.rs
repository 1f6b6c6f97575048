//! Keys of age's post-quantum type: public keys `age1pq1…`, which are X-Wing keys, and private keys
//! `AGE-SECRET-KEY-PQ-1…`.

use bech32::primitives::decode::CheckedHrpstring;
use zeroize::Zeroizing;

use super::suite::xwing::SEED_LEN;

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

/// Returns whether a text has the prefix of a public key of this type.
pub(super) fn is_recipient(text: &str) -> bool {
    text.starts_with("age1pq1")
}

/// Returns whether a text has the prefix of a private key of this type.
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
