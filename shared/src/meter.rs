//! The cost of work on sealed values, reported to a meter before the work begins.

pub use template::{Interrupted, Meter, Unmetered};

use crate::v2::{Recipient, Suite};

/// Cost of an RSA-2048 private-key operation, in microseconds on one core.
const RSA_2048: u64 = 200;
/// Length of an RSA-2048 modulus in bytes.
const MODULUS_2048: u64 = 256;
/// Number of bytes that are decrypted, copied and wiped per microsecond.
const BYTES_PER_MICROSECOND: u64 = 1024;
/// Cost of sealing one value, in microseconds. Needs no private key.
pub(crate) const SEALING_COST: u64 = 100;
/// Cost of wrapping a data key for a P-256 key, in microseconds.
const P256_WRAPPING_COST: u64 = 1200;

/// Returns the cost of sealing a v2 lock for these recipients.
pub(crate) fn lock_sealing_cost(recipients: &[&dyn Recipient]) -> u64 {
    let cost = |recipient: &&dyn Recipient| match recipient.suite() {
        Suite::XWing | Suite::Rsa => SEALING_COST,
        Suite::P256 => P256_WRAPPING_COST,
    };
    recipients.iter().map(cost).sum()
}

/// Returns the cost of trying one key on a value: a private-key operation, whose time grows with the cube of the
/// modulus, and the decryption of the value, which also happens if the key does not match.
pub(crate) fn opening_cost(modulus_len: usize, sealed_len: usize) -> u64 {
    let cube = |len: u64| len.saturating_pow(3);
    let key_operation_cost = RSA_2048.saturating_mul(cube(modulus_len as u64)) / cube(MODULUS_2048);
    key_operation_cost + copying_cost(sealed_len)
}

/// Returns the cost of decrypting and copying bytes without a private key.
pub(crate) fn copying_cost(len: usize) -> u64 {
    len as u64 / BYTES_PER_MICROSECOND
}

#[cfg(test)]
mod tests {
    use super::{lock_sealing_cost, opening_cost};
    use crate::v2::{Recipient, SecretKey, Suite};

    /// Attack: a caller has a thousand objects re-encrypted for a suite that takes longer than the meter counts.
    #[test]
    fn a_lock_costs_what_its_suites_cost() {
        let key = |suite| SecretKey::from_bytes(suite, &[1; 32]).unwrap().recipient();
        let (xw, p256) = (key(Suite::XWing), key(Suite::P256));
        let recipients: [&dyn Recipient; 2] = [&xw, &p256];
        assert_eq!(lock_sealing_cost(&recipients[..1]), 100);
        assert_eq!(lock_sealing_cost(&recipients[1..]), 1_200);
        assert_eq!(lock_sealing_cost(&recipients), 1_300);
    }

    #[test]
    fn larger_keys_and_values_cost_more() {
        for (bits, bytes, want) in [
            (2048, 300, 200),
            (4096, 600, 1_600),
            (3072, 400, 675),
            (8192, 1_200, 12_801),
            (2048, 1 << 20, 200 + 1_024),
        ] {
            assert_eq!(
                opening_cost(bits / 8, bytes),
                want,
                "{bits} bits, {bytes} bytes"
            );
        }
    }
}
