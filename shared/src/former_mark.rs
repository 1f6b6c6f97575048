//! The proof of the annotation with which the controller marks former values in a Secret.
//!
//! Only a holder of a private key of the ring can create the proof, because the HMAC key is derived from it. The proof
//! covers the namespace, name and `uid` of the SealedSecret, the marks and the former values, so it is not valid for
//! marks that a client changed or copied, or for former values that a client changed.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use crate::base64;
use crate::key_ring::KeyRing;
use crate::plain::Plain;
use crate::record::Digest;

/// The length of a proof in bytes. A forger has one attempt for each write of the Secret.
const LEN: usize = 16;

/// Creates and verifies the proofs for one SealedSecret.
#[derive(Debug, Clone, Copy)]
pub struct Prover<'a> {
    /// The namespace of the SealedSecret.
    pub namespace: &'a str,
    /// The name of the SealedSecret.
    pub name: &'a str,
    /// The `uid` of the SealedSecret.
    pub uid: &'a str,
    /// The keys that create and verify the proof.
    pub ring: &'a KeyRing,
}

impl Prover<'_> {
    /// Returns the proof of these marks and former values, created with the newest RSA key of the ring that is neither
    /// compromised nor opening-only; `None` if there is no such key. A value is `None` if its item does not exist.
    pub fn prove<'v>(
        &self,
        marks: &str,
        values: impl Iterator<Item = Option<&'v Plain>>,
    ) -> Option<String> {
        let mut keys = self.ring.keys().iter();
        let key = keys.find(|key| key.is_trusted_for_records())?;
        Some(base64::encode(&self.digest(
            key.record_key(),
            marks,
            values,
        )))
    }

    /// Returns whether the proof was created for these marks and values, with an RSA key of the ring that is neither
    /// compromised nor opening-only.
    pub fn is_proven<'v>(
        &self,
        proof: &str,
        marks: &str,
        values: &(impl Iterator<Item = Option<&'v Plain>> + Clone),
    ) -> bool {
        let received = base64::decode(proof.as_bytes()).unwrap_or_default();
        let keys = self.ring.keys().iter();
        let mut keys = keys.filter(|key| key.is_trusted_for_records());
        keys.any(|key| {
            let expected = self.digest(key.record_key(), marks, values.clone());
            verify_slices_are_equal(&expected, &received).is_ok()
        })
    }

    fn digest<'v>(
        &self,
        key: &hmac::Key,
        marks: &str,
        values: impl Iterator<Item = Option<&'v Plain>>,
    ) -> [u8; LEN] {
        let mut digest = Digest::new(key, b"marks of former values");
        for part in [self.namespace, self.name, self.uid, marks] {
            digest.add(part.as_bytes());
        }
        for value in values {
            match value {
                Some(value) => digest.add(value.expose()),
                None => digest.add_absent(),
            }
        }
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&digest.finish().as_ref()[..LEN]);
        bytes
    }
}
