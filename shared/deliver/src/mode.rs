//! The mode of a delivered file: permission bits only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text;

/// The permission bits of a file. Written as four octal digits, such as `0440`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

/// Why a string is not a file mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// The string is not an octal number of one to four digits.
    #[error("{0:?} is not a mode: use one to four octal digits, such as \"0440\"")]
    NotOctal(String),
    /// The mode has a bit that is not a permission.
    #[error(
        "the mode {0:?} sets the setuid, setgid or sticky bit; only permission bits are allowed"
    )]
    Special(String),
}

impl Mode {
    /// Returns the permission bits, at most `0o777`.
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl Default for Mode {
    /// Returns 0444: every user may read the file.
    fn default() -> Self {
        Self(0o444)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let is_octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let bits = u16::from_str_radix(text, 8).ok();
        match bits.filter(|_| is_octal && text.len() <= 4) {
            None => Err(ModeError::NotOctal(text.to_owned())),
            Some(bits) if bits > 0o777 => Err(ModeError::Special(text.to_owned())),
            Some(bits) => Ok(Self(bits)),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parse(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_permission_bits() {
        for (text, want) in [
            ("0", "0000"),
            ("444", "0444"),
            ("0440", "0440"),
            ("0755", "0755"),
            ("0777", "0777"),
        ] {
            assert_eq!(text.parse::<Mode>().unwrap().to_string(), want);
        }
        for text in ["1777", "2755", "4755", "7777"] {
            assert_eq!(text.parse::<Mode>(), Err(ModeError::Special(text.into())));
        }
        for text in [
            "", "8", "0o44", "+444", "-444", "00444", " 444", "rw-r", "4४4",
        ] {
            let want = Err(ModeError::NotOctal(text.into()));
            assert_eq!(text.parse::<Mode>(), want);
        }
    }

    #[test]
    fn a_file_is_readable_by_everyone_by_default() {
        assert_eq!(Mode::default().to_string(), "0444");
    }
}
