//! The two formats of sealed values.

use std::fmt;
use std::str::FromStr;

/// A format of sealed values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealedFormat {
    /// Bitnami's format: each value is encrypted for one RSA key.
    #[default]
    V1,
    /// This project's format: several recipients, and one private-key operation for all values that are sealed
    /// together.
    V2,
}

/// The string is not a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format: must be v1 or v2")]
pub struct UnknownFormat;

impl FromStr for SealedFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(UnknownFormat),
        }
    }
}

impl fmt::Display for SealedFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}
