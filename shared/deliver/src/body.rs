//! The JSON of a request, before it is checked.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::MAX_ENTRIES;

/// The JSON of a request. [`crate::Request`] is its checked form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestBody {
    /// The entries: what to deliver.
    #[serde(deserialize_with = "entries")]
    pub objects: Vec<EntryBody>,
    /// The revision that the caller already has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have: Option<String>,
    /// The maximum number of seconds that the controller waits for a revision other than `have`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u16>,
}

/// One entry: items of a SealedSecret, or a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EntryBody {
    /// The name of the SealedSecret whose items become files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_secret: Option<String>,
    /// The item keys to deliver; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<String>>,
    /// The path of the file, or, with a final `/`, of the directory for the files, relative to the target directory. If
    /// absent, items become files in the target directory itself; a template needs a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The text of the template whose result is the content of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The names of the SealedSecrets whose items the template uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<String>>,
    /// The mode of the files, in octal digits; `0444` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

impl RequestBody {
    /// Returns the JSON to send.
    pub fn to_json(&self) -> Vec<u8> {
        // Serializing strings, numbers and lists cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Parses the entries, and stops at the limit: in memory, an entry is much larger than `{}` in the request.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<EntryBody>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<EntryBody>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = list.next_element()? {
                if entries.len() == MAX_ENTRIES {
                    return Err(de::Error::custom(format!(
                        "more than {MAX_ENTRIES} entries"
                    )));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_seq(Entries)
}
