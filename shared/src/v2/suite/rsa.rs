//! Suite `rsa`: RSA-OAEP with SHA-256 and an empty label, with the keys of v1.
//!
//! The data key follows a magic string. v1 has no session key of that length, so no value of one format can be read as
//! one of the other, although both use the same key.

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

    /// OAEP draws its seed inside aws-lc-rs. The commitment of the header binds the data key; OAEP binds nothing.
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
