//! Bytes that must not be seen.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A plain value: wiped when dropped, silent in `Debug`, without `Display`.
///
/// Reading it has to be spelled out ([`Plain::expose`]), so that each place that does so can be
/// found by searching for the word.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Plain(Vec<u8>);

impl Plain {
    /// The bytes themselves. Never format, log or store what this returns.
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
        let shown = format!("{:?}", Plain::from(String::from("hunter2")));
        assert_eq!(shown, "Plain(…)");
    }
}
