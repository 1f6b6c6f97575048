//! Plaintext bytes that must not be shown.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A plaintext value: wiped on drop, hidden in `Debug`, without `Display`.
///
/// Reading the value requires an explicit call of [`Plain::expose`], so that a text search finds all code that reads
/// values.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Plain(Vec<u8>);

impl Plain {
    /// Returns the bytes. Never format, log or store them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Plain {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<String> for Plain {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_the_value_nor_its_length() {
        let text = format!("{:?}", Plain::from(String::from("hunter2")));
        assert_eq!(text, "Plain(…)");
    }
}
