//! Bytes of values: shared without copying, wiped when the last owner is dropped.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use zeroize::Zeroize;

use crate::error::{Fault, Limit};

/// A byte string like Go's `string`: arbitrary bytes, not only UTF-8.
#[derive(Clone)]
pub(crate) struct Text(Arc<WipedBytes>);

struct WipedBytes(Vec<u8>);

impl Drop for WipedBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Text {
    pub(crate) fn empty() -> Self {
        Self::from(Vec::new())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(WipedBytes(bytes)))
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.0
    }
}

/// Allows a search in a map without a copy of the key. Hash, order and equality are the same for both types.
impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(..)")
    }
}

/// A growing buffer that never exceeds a limit and leaves no copies behind when it is reallocated.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    max_len: usize,
    limit: Limit,
}

impl Writer {
    /// Creates a buffer that refuses to grow beyond `max_len` bytes, with the error `limit`.
    pub(crate) fn new(max_len: usize, limit: Limit) -> Self {
        Self {
            bytes: Vec::new(),
            max_len,
            limit,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn str(&mut self, text: &str) -> Result<(), Fault> {
        self.push(text.as_bytes())
    }

    pub(crate) fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        self.push(&[byte])
    }

    pub(crate) fn char(&mut self, char: char) -> Result<(), Fault> {
        self.push(char.encode_utf8(&mut [0; 4]).as_bytes())
    }

    pub(crate) fn fill(&mut self, byte: u8, count: usize) -> Result<(), Fault> {
        self.reserve(count)?;
        self.bytes.resize(self.bytes.len() + count, byte);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn finish(mut self) -> Text {
        Text::from(std::mem::take(&mut self.bytes))
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn reserve(&mut self, more: usize) -> Result<(), Fault> {
        let needed = self.bytes.len().saturating_add(more);
        if needed > self.max_len {
            return Err(Fault::limit(self.limit));
        }
        if needed > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(needed.max(self.bytes.capacity() * 2).max(64));
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}
