//! The order of keys in yaml.v2.

/// Sorts keys in the order of yaml.v2. Implements a merge sort, because this order is not proven to be total,
/// and the standard sorts may panic if it is not.
pub(super) fn sort_keys(mut keys: Vec<&str>) -> Vec<&str> {
    if keys.len() < 2 {
        return keys;
    }
    let right = sort_keys(keys.split_off(keys.len() / 2));
    let left = sort_keys(keys);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        let next = if is_before(r, l) {
            right.next()
        } else {
            left.next()
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// Compares keys in the order of yaml.v2: embedded numbers by value, other characters before letters.
fn is_before(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(i) = a.iter().zip(&b).position(|(x, y)| x != y) else {
        return a.len() < b.len();
    };
    match (a[i].is_alphabetic(), b[i].is_alphabetic()) {
        (true, true) => return a[i] < b[i],
        (true, false) | (false, true) => return b[i].is_alphabetic(),
        (false, false) => {}
    }
    let seed = i64::from((a[i] == '0' || b[i] == '0') && is_after_nonzero_digits(&a[..i]));
    let ((a_number, a_end), (b_number, b_end)) = (number_at(&a, i, seed), number_at(&b, i, seed));
    (a_number, a_end, a[i]) < (b_number, b_end, b[i])
}

/// Returns whether `front` ends with digits that are not all zero.
fn is_after_nonzero_digits(front: &[char]) -> bool {
    front
        .iter()
        .rev()
        .take_while(|c| c.is_ascii_digit())
        .any(|c| *c != '0')
}

/// Returns the number that begins at `from` and its end; wraps around as Go's arithmetic does.
fn number_at(text: &[char], from: usize, seed: i64) -> (i64, usize) {
    let digits = text[from..].iter().map_while(|c| c.to_digit(10));
    digits.fold((seed, from), |(number, end), digit| {
        (
            number.wrapping_mul(10).wrapping_add(i64::from(digit)),
            end + 1,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_numbers_by_value_and_letters_last() {
        let keys = [
            "b", "a10", "a9", "B", "a-1", "a", "10", "9", "_", "a010", "a1x", "a12",
        ];
        let want = [
            "_", "9", "10", "B", "a", "a-1", "a9", "a10", "a010", "a12", "a1x", "b",
        ];
        assert_eq!(sort_keys(keys.to_vec()), want);
    }

    /// If two keys diverge within a number, the common digits before the difference belong to the number, unless they
    /// are zeros.
    #[test]
    fn a_number_includes_its_common_leading_digits() {
        for [first, second] in [["a12", "a100"], ["a000", "a05"], ["1-9", "1-10"]] {
            assert_eq!(sort_keys(vec![first, second]), [first, second]);
            assert_eq!(sort_keys(vec![second, first]), [first, second]);
        }
    }
}
