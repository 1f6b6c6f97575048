//! The plaintext of a box: the identifier of the value, the value, and padding that hides its exact length.

use zeroize::Zeroizing;

use super::value::ValueId;
use crate::plain::Plain;

/// Plaintexts are padded to a multiple of this many bytes.
pub(super) const BLOCK_LEN: usize = 32;
/// Bytes of the identifier of a value.
const ID_LEN: usize = 16;
const MARKER: u8 = 0x80;
/// The number of bytes in addition to the value and the padding zeros.
pub(super) const MIN_OVERHEAD: usize = ID_LEN + 1;

pub(super) fn pad(id: &ValueId, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let len = (ID_LEN + value.len() + 1).next_multiple_of(BLOCK_LEN);
    let mut bytes = Zeroizing::new(Vec::with_capacity(len));
    bytes.extend_from_slice(id.expose());
    bytes.extend_from_slice(value);
    bytes.push(MARKER);
    bytes.resize(len, 0);
    bytes
}

/// Returns the maximum length of a value whose plaintext has the same length as that of a value with `len` bytes.
pub const fn max_len_with_equal_padding(len: usize) -> usize {
    (len + MIN_OVERHEAD).next_multiple_of(BLOCK_LEN) - MIN_OVERHEAD
}

/// Reverses [`pad`]. Returns `None` for bytes that [`pad`] cannot produce: a length that is not a multiple of the block
/// length, a last block without a marker, or a marker inside the identifier.
pub(super) fn unpad(bytes: &[u8]) -> Option<(ValueId, Plain)> {
    let has_whole_blocks = bytes.len().is_multiple_of(BLOCK_LEN);
    let marker = bytes.iter().rposition(|byte| *byte != 0)?;
    let is_minimal = bytes.len() - marker <= BLOCK_LEN;
    let (id, value) = bytes.get(..marker)?.split_first_chunk::<ID_LEN>()?;
    let is_valid = has_whole_blocks && is_minimal && bytes[marker] == MARKER;
    is_valid.then(|| (ValueId::from_bytes(*id), Plain::from(value.to_vec())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> ValueId {
        ValueId::from_bytes([7; ID_LEN])
    }

    #[test]
    fn pads_to_the_next_block_that_has_room_for_the_marker() {
        for (len, want) in [(0, 32), (15, 32), (16, 64), (47, 64), (48, 96)] {
            assert_eq!(pad(&id(), &vec![1; len]).len(), want, "{len}");
        }
    }

    #[test]
    fn the_maximum_length_is_equal_for_all_values_with_equal_padding() {
        for len in 0..200 {
            let padded = |len: usize| pad(&id(), &vec![1; len]).len();
            let max = max_len_with_equal_padding(len);
            assert!(len <= max);
            assert_eq!(padded(max), padded(len), "{len}");
            assert_eq!(padded(max + 1), padded(len) + BLOCK_LEN, "{len}");
        }
    }

    #[test]
    fn refuses_padding_that_it_does_not_produce() {
        let block = |marker_at: usize, len| {
            let mut bytes = vec![0; len];
            bytes[marker_at] = MARKER;
            bytes
        };
        assert!(unpad(&block(16, 32)).is_some());
        for (why, bytes) in [
            ("empty", vec![]),
            ("no marker", vec![0; 32]),
            ("marker inside the identifier", block(15, 32)),
            ("a block too many", block(16, 64)),
            ("another marker", vec![1; 32]),
            ("no whole block", block(16, 31)),
        ] {
            assert!(unpad(&bytes).is_none(), "{why}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(value: Vec<u8>) {
            let (read_id, read) = unpad(&pad(&id(), &value)).unwrap();
            prop_assert_eq!(read_id, id());
            prop_assert_eq!(read.expose(), &value[..]);
        }

        #[test]
        fn accepts_only_what_it_writes(blocks in 1_usize..4, seed: Vec<u8>, marker: prop::sample::Index) {
            let mut bytes = vec![0; blocks * BLOCK_LEN];
            bytes.iter_mut().zip(seed).for_each(|(byte, s)| *byte = s);
            let marker = marker.index(bytes.len());
            bytes[marker] = MARKER;
            if let Some((id, value)) = unpad(&bytes) {
                prop_assert_eq!(&pad(&id, value.expose())[..], &bytes[..]);
            }
        }
    }
}
