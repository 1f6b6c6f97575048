//! Output formats of documents.

use serde_json::Value as Json;
use shared::manifest;
use zeroize::Zeroizing;

use crate::shown::{json_shown, yaml_shown};

/// The output format for documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Indented JSON, one object after another.
    Json,
    /// YAML documents, separated by `---`.
    Yaml,
}

/// Formats documents one after another, with terminal control characters escaped. The
/// result may contain plain values.
pub fn write(documents: &[Json], format: Format) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::new());
    for (i, document) in documents.iter().enumerate() {
        let formatted = Zeroizing::new(match format {
            Format::Json => json_shown(&manifest::to_json(document)),
            Format::Yaml => yaml_shown(document),
        });
        if i > 0 && format == Format::Yaml {
            text.extend_from_slice(b"---\n");
        }
        text.extend_from_slice(formatted.as_bytes());
    }
    text
}
