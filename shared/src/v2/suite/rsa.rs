//! Suite `rsa`: RSA-OAEP with SHA-256 and an empty label, with the keys of v1.
//!
//! A magic string precedes the data key. No v1 session key has the resulting length, so no ciphertext of one format can
//! be used in the other, although both formats use the same RSA key.

use std::ops::RangeInclusive;

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{Binding, Opener, Recipient, Suite, Unavailable};
use crate::key::{PrivateKey, PublicKey};
use crate::meter;
use crate::scope::{Label, Scope};
use crate::v2::data_key::DataKey;
use crate::v2::id::KeyId;

/// Lengths of a modulus in bytes: 2048 to 8192 bits.
pub(super) const MODULUS_LENS: RangeInclusive<usize> = 256..=1024;
const MAGIC: &[u8] = b"seal-v2\0";

fn empty_label() -> Label {
    Scope::ClusterWide.label("", "")
}

impl Recipient for PublicKey {
    fn suite(&self) -> Suite {
        Suite::Rsa
    }

    fn key_id(&self) -> KeyId {
        *self.v2_id()
    }

    /// OAEP draws its seed inside aws-lc-rs. OAEP is not bound to the header or place; the commitment in the header
    /// binds the data key.
    fn wrap_key(&self, key: &DataKey, _: &Binding<'_>, _: &mut dyn CryptoRng) -> Option<Vec<u8>> {
        let message = Zeroizing::new([MAGIC, key.expose()].concat());
        self.encrypt(&empty_label(), &message)
    }
}

impl Opener for PrivateKey {
    fn suite(&self) -> Suite {
        Suite::Rsa
    }

    fn key_id(&self) -> KeyId {
        *self.v2_id()
    }

    fn cost(&self) -> u64 {
        meter::opening_cost(self.modulus_len(), 0)
    }

    fn unwrap_key(&self, wrapped: &[u8], _: &Binding<'_>) -> Result<Option<DataKey>, Unavailable> {
        let message = self.decrypt(&empty_label(), wrapped);
        let key = message
            .as_ref()
            .and_then(|message| message.expose().strip_prefix(MAGIC));
        Ok(key.and_then(DataKey::from_slice))
    }
}
