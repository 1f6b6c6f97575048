//! Encodes bytes that are hashed or authenticated: a purpose, then fields with unambiguous boundaries.

/// The purpose of encoded bytes. No purpose is a prefix of another, because a zero byte terminates each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The place of a value: scope, namespace and name.
    Context,
    /// The commitment of a header to its data key.
    Commit,
    /// The key and the associated data of one item.
    Item,
    /// The HPKE info of a wrapped data key.
    Wrap,
    /// The identifier of a public key.
    KeyId,
    /// The digest of a template.
    Template,
    /// The version of a file's content.
    Version,
}

impl Purpose {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Context => b"seal/v2/ctx\0",
            Self::Commit => b"seal/v2/commit\0",
            Self::Item => b"seal/v2/item\0",
            Self::Wrap => b"seal/v2/wrap\0",
            Self::KeyId => b"seal/v2/kid\0",
            Self::Template => b"seal/v2/template\0",
            Self::Version => b"seal/v2/version\0",
        }
    }
}

/// Collects the bytes for one purpose. Numbers are big-endian.
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn new(purpose: Purpose) -> Self {
        Self(purpose.tag().to_vec())
    }

    /// Appends bytes whose length is determined by the preceding fields.
    pub(super) fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a number in 32 bits. A larger number is replaced with `u32::MAX`.
    pub(super) fn count(self, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.fixed(&count.to_be_bytes())
    }

    /// Appends the length of the bytes, then the bytes.
    pub(super) fn prefixed(self, bytes: &[u8]) -> Self {
        self.count(bytes.len()).fixed(bytes)
    }

    /// Appends an optional string. An absent string differs from an empty string.
    pub(super) fn optional(self, text: Option<&str>) -> Self {
        match text {
            None => self.fixed(&[0]),
            Some(text) => self.fixed(&[1]).prefixed(text.as_bytes()),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_purpose_is_a_prefix_of_another() {
        use Purpose::{Commit, Context, Item, KeyId, Template, Version, Wrap};
        let purposes = [Context, Commit, Item, Wrap, KeyId, Template, Version];
        for purpose in purposes {
            for other in purposes.into_iter().filter(|other| *other != purpose) {
                assert!(
                    !other.tag().starts_with(purpose.tag()),
                    "{purpose:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn lengths_precede_bytes_and_absence_differs_from_emptiness() {
        let encode = |text| Encoder::new(Purpose::Item).optional(text).finish();
        assert_eq!(
            Encoder::new(Purpose::Item).prefixed(b"ab").finish(),
            b"seal/v2/item\0\0\0\0\x02ab"
        );
        assert_ne!(encode(None), encode(Some("")));
    }
}
