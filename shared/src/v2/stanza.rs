//! The data key of a lock, wrapped for one recipient: `suite (2) ‖ key (16) ‖ length (2) ‖ wrapped key`.

use super::error::Problem;
use super::id::ShortKeyId;
use super::suite::{Suite, SuiteCode};

/// A data key, wrapped for one recipient. The suite may be unknown to this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stanza {
    pub(super) suite: SuiteCode,
    pub(super) key: ShortKeyId,
    pub(super) wrapped: Vec<u8>,
}

impl Stanza {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let len = u16::try_from(self.wrapped.len()).unwrap_or(u16::MAX);
        [
            &self.suite.0.to_be_bytes()[..],
            &self.key.0,
            &len.to_be_bytes(),
            &self.wrapped,
        ]
        .concat()
    }

    /// Reads one stanza. Refuses bytes after the stanza.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        match Self::split(bytes)? {
            (stanza, []) => Ok(stanza),
            _ => Err(Problem::Length),
        }
    }

    /// Reads the stanza at the start of `bytes`. Returns the stanza and the remaining bytes.
    pub(super) fn split(bytes: &[u8]) -> Result<(Self, &[u8]), Problem> {
        let (suite, bytes) = field(bytes)?;
        let (key, bytes) = field(bytes)?;
        let (len, bytes) = field(bytes)?;
        let len = usize::from(u16::from_be_bytes(len));
        let (wrapped, rest) = bytes.split_at_checked(len).ok_or(Problem::Length)?;
        let stanza = Self {
            suite: SuiteCode(u16::from_be_bytes(suite)),
            key: ShortKeyId(key),
            wrapped: wrapped.to_vec(),
        };
        stanza.check_len()?;
        Ok((stanza, rest))
    }

    /// Returns the suite, or `None` if this program does not know it.
    pub(super) fn suite(&self) -> Option<Suite> {
        self.suite.suite()
    }

    fn check_len(&self) -> Result<(), Problem> {
        let len = self.wrapped.len();
        if self.suite().is_none_or(|suite| suite.is_wrapped_len(len)) {
            Ok(())
        } else {
            Err(Problem::WrappedKey)
        }
    }
}

fn field<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Problem> {
    let (field, rest) = bytes.split_first_chunk::<N>().ok_or(Problem::Length)?;
    Ok((*field, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(suite: u16, len: usize) -> Stanza {
        Stanza {
            suite: SuiteCode(suite),
            key: ShortKeyId([3; 16]),
            wrapped: vec![5; len],
        }
    }

    #[test]
    fn has_the_documented_layout() {
        let want = [&[0x80, 2][..], &[3; 16], &[0, 113], &[5; 113]].concat();
        assert_eq!(stanza(0x8002, 113).to_bytes(), want);
    }

    #[test]
    fn reads_what_it_writes_and_no_other_length() {
        let bytes = stanza(0x8002, 113).to_bytes();
        assert_eq!(Stanza::parse(&bytes), Ok(stanza(0x8002, 113)));
        for len in 0..bytes.len() {
            assert_eq!(Stanza::parse(&bytes[..len]), Err(Problem::Length), "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Stanza::parse(&longer), Err(Problem::Length));
    }

    #[test]
    fn a_stanza_of_a_known_suite_has_a_fixed_length() {
        for (suite, len, want) in [
            (0x0001, 1168, true),
            (0x0001, 1167, false),
            (0x8002, 113, true),
            (0x8002, 112, false),
            (0x8003, 255, false),
            (0x8003, 256, true),
            (0x8003, 1024, true),
            (0x8003, 1025, false),
            (0x0004, 0, true),
            (0xffff, 65535, true),
        ] {
            let result = Stanza::parse(&stanza(suite, len).to_bytes());
            assert_eq!(result.is_ok(), want, "{suite:#x}, {len}");
        }
    }
}
