//! Deserializes values that are strings in JSON.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize as _, Deserializer, de};

/// Deserializes a string, and parses it.
pub(crate) fn parse<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}
