//! What work on sealed values costs, and who is asked before it is done.

pub use template::{Interrupted, Meter, Unmetered};

/// Microseconds that an RSA-2048 private-key operation takes of one core.
const RSA_2048: u64 = 200;
/// Bytes of its modulus.
const MODULUS_2048: u64 = 256;
/// Bytes of a value that are decrypted in a microsecond, with copying and wiping.
const BYTES_PER_MICROSECOND: u64 = 1024;
/// Microseconds that it takes to seal one value, which needs no private key.
pub(crate) const SEALING: u64 = 100;

/// What it costs to try one key on a value: a private-key operation, whose time grows with the cube of the
/// modulus, and the decryption of the value, which is done whether or not the key fits.
pub(crate) fn opening(modulus_len: usize, sealed_len: usize) -> u64 {
    let cube = |len: u64| len.saturating_pow(3);
    let operation = RSA_2048.saturating_mul(cube(modulus_len as u64)) / cube(MODULUS_2048);
    operation + sealed_len as u64 / BYTES_PER_MICROSECOND
}

#[cfg(test)]
mod tests {
    use super::opening;

    #[test]
    fn larger_keys_and_values_cost_what_they_take() {
        for (bits, bytes, want) in [
            (2048, 300, 200),
            (4096, 600, 1_600),
            (3072, 400, 675),
            (8192, 1_200, 12_801),
            (2048, 1 << 20, 200 + 1_024),
        ] {
            assert_eq!(opening(bits / 8, bytes), want, "{bits} bits, {bytes} bytes");
        }
    }
}
