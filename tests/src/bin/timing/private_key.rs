//! Measures the private-key operation itself, on RSA blocks that an attacker chooses.

use jiff::Timestamp;
use rand::Rng as _;
use shared::key_ring::{KeyRing, RingKey};
use shared::scope::Scope;
use tests::sealing::{KEYS, copy_of};
use tests::timing::{Comparison, compare, time};

const BLOCK_LEN: usize = 256;

/// Returns small and sparse numbers, which timing attacks on RSA have used. Leaves out 0 and 1, which are refused
/// within a microsecond, before the key is used; the sender of such a number can predict the refusal.
fn chosen_blocks() -> Vec<(&'static str, [u8; BLOCK_LEN])> {
    let mut two = [0; BLOCK_LEN];
    two[BLOCK_LEN - 1] = 2;
    let mut high_bit = [0; BLOCK_LEN];
    high_bit[0] = 0x40;
    let mut low_half = [0; BLOCK_LEN];
    shared::random::system().fill_bytes(&mut low_half[BLOCK_LEN / 2..]);
    vec![
        ("2", two),
        ("2^2046", high_bit),
        ("less than the square root of the modulus", low_half),
    ]
}

/// Compares the time of each chosen block with the times of random blocks, with a new block for every measurement.
pub(crate) fn compare_chosen_blocks(count: usize) -> Vec<(String, Comparison)> {
    let key = RingKey::new("k".into(), Timestamp::UNIX_EPOCH, copy_of(&KEYS[0]));
    let ring = KeyRing::new([key.into()]);
    let label = Scope::ClusterWide.label("", "");
    let open = |block: &[u8; BLOCK_LEN]| {
        let value = [&[1, 0][..], block, &[0; 16]].concat();
        time(|| ring.open(&label, &value, &[]).is_ok())
    };
    let random = || {
        let mut block = [0; BLOCK_LEN];
        shared::random::system().fill_bytes(&mut block[1..]);
        open(&block)
    };
    let compare_with_random = |(name, block): &(&str, [u8; BLOCK_LEN])| {
        let comparison = compare(count, random, || open(block));
        (format!("random numbers and {name}"), comparison)
    };
    chosen_blocks().iter().map(compare_with_random).collect()
}
