//! The header of a lock: the properties that all items of the lock share.

use super::error::Problem;
use super::id::{LockId, first_half};
use super::place::{Place, scope_byte};
use super::template::TemplateDigest;
use crate::scope::Scope;

const VERSION: u8 = 2;
const TEMPLATE_BOUND: u8 = 1;
const POST_QUANTUM_ONLY: u8 = 2;
const NEVER_SECRET: u8 = 4;
const ALONE: u8 = 8;
/// Length in bytes of a header without a template digest.
const SHORT_LEN: usize = 59;
/// Length in bytes of a header with a template digest.
const LONG_LEN: usize = SHORT_LEN + 32;

/// A header without its commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    /// The digest of the template, if the lock is bound to it.
    pub(super) template: Option<TemplateDigest>,
    /// Whether recipients of classical suites are forbidden.
    pub(super) is_post_quantum_only: bool,
    /// Whether the values must never become a Secret object.
    pub(super) is_never_secret: bool,
    /// Whether the object must contain only the values of this lock.
    pub(super) is_alone: bool,
    /// The scope that the values are sealed for.
    pub(super) scope: Scope,
    /// The revision: milliseconds since 1970, or a higher number.
    pub(super) revision: u64,
    /// The digest of the place.
    pub(super) place: [u8; 16],
}

/// The header of a lock: its properties, and the commitment to its data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fields: Fields,
    /// The commitment to the data key, the fields and the place.
    pub(super) commitment: [u8; 32],
}

impl Fields {
    fn flags(&self) -> u8 {
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        flag(self.template.is_some(), TEMPLATE_BOUND)
            | flag(self.is_post_quantum_only, POST_QUANTUM_ONLY)
            | flag(self.is_never_secret, NEVER_SECRET)
            | flag(self.is_alone, ALONE)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.flags(), scope_byte(self.scope)];
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        bytes.extend_from_slice(&self.place);
        if let Some(digest) = &self.template {
            bytes.extend_from_slice(digest.as_bytes());
        }
        bytes
    }

    /// Returns whether the lock was created for this place.
    pub(super) fn is_for(&self, place: &Place) -> bool {
        self.scope == place.scope() && self.place == place.digest()
    }
}

impl Header {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.fields.to_bytes();
        bytes.extend_from_slice(&self.commitment);
        bytes
    }

    pub(super) fn lock_id(&self) -> LockId {
        LockId(first_half(&self.commitment))
    }

    /// Reads one header. Refuses bytes after the header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        match Self::split(bytes)? {
            (header, []) => Ok(header),
            _ => Err(Problem::Length),
        }
    }

    /// Reads the header at the start of `bytes`. Returns the header and the remaining bytes.
    pub(super) fn split(bytes: &[u8]) -> Result<(Self, &[u8]), Problem> {
        let &[version, flags, scope, ..] = bytes else {
            return Err(Problem::Length);
        };
        check_first(version, flags)?;
        let scope = parse_scope(scope)?;
        let is_bound = flags & TEMPLATE_BOUND != 0;
        let len = if is_bound { LONG_LEN } else { SHORT_LEN };
        let (header, rest) = bytes.split_at_checked(len).ok_or(Problem::Length)?;
        let fields = Fields {
            template: is_bound.then(|| TemplateDigest::from_bytes(array(header, 27))),
            is_post_quantum_only: flags & POST_QUANTUM_ONLY != 0,
            is_never_secret: flags & NEVER_SECRET != 0,
            is_alone: flags & ALONE != 0,
            scope,
            revision: u64::from_be_bytes(array(header, 3)),
            place: array(header, 11),
        };
        let commitment = array(header, len - 32);
        Ok((Self { fields, commitment }, rest))
    }
}

fn check_first(version: u8, flags: u8) -> Result<(), Problem> {
    if version != VERSION {
        return Err(Problem::Version);
    }
    match flags & !(TEMPLATE_BOUND | POST_QUANTUM_ONLY | NEVER_SECRET | ALONE) {
        0 => Ok(()),
        _ => Err(Problem::Flags),
    }
}

fn parse_scope(byte: u8) -> Result<Scope, Problem> {
    let scope = Scope::ALL.into_iter().find(|s| scope_byte(*s) == byte);
    scope.ok_or(Problem::Scope)
}

/// Copies a field of a header. The caller guarantees that `bytes` is long enough.
fn array<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[start..start + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(template: Option<TemplateDigest>) -> Header {
        let fields = Fields {
            template,
            is_post_quantum_only: true,
            is_never_secret: false,
            is_alone: false,
            scope: Scope::NamespaceWide,
            revision: 0x0102_0304_0506_0708,
            place: [9; 16],
        };
        let commitment = [7; 32];
        Header { fields, commitment }
    }

    #[test]
    fn has_the_documented_layout() {
        let digest = TemplateDigest::from_bytes([5; 32]);
        let want = [
            &[2, 2, 1][..],
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &[9; 16],
            &[7; 32],
        ];
        assert_eq!(header(None).to_bytes(), want.concat());
        let bytes = header(Some(digest)).to_bytes();
        assert_eq!((bytes.len(), bytes[1]), (LONG_LEN, 3));
        assert_eq!(bytes[27..59], [5; 32]);
    }

    #[test]
    fn reads_what_it_writes_and_no_other_length() {
        for template in [None, Some(TemplateDigest::from_bytes([5; 32]))] {
            let header = header(template);
            let bytes = header.to_bytes();
            assert_eq!(Header::parse(&bytes), Ok(header));
            for len in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..len]), Err(Problem::Length), "{len}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Header::parse(&longer), Err(Problem::Length));
        }
    }

    #[test]
    fn refuses_unknown_versions_flags_and_scopes() {
        for (index, byte, want) in [
            (0, 1, Problem::Version),
            (0, 3, Problem::Version),
            (1, 16, Problem::Flags),
            (1, 0x82, Problem::Flags),
            (2, 3, Problem::Scope),
        ] {
            let mut bytes = header(None).to_bytes();
            bytes[index] = byte;
            assert_eq!(Header::parse(&bytes), Err(want), "{index}: {byte}");
        }
    }
}
