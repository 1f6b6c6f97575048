//! Identifies the result of a request without using a private key.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use deliver::Entry;
use shared::record::Identity;

/// A SHA-256 digest of everything that determines the files of a response: the namespace, the selection, the
/// SealedSecrets with their `uid`, and the settings of the controller. All of these inputs are public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Revision([u8; 32]);

impl Revision {
    /// Calculates the revision. `settings` are the settings that the objects are checked against, as text.
    pub(super) fn new(
        namespace: &str,
        settings: &str,
        entries: &[Entry],
        objects: &BTreeMap<&str, Identity>,
    ) -> Self {
        // Serializing strings and lists cannot fail.
        let entries = serde_json::to_vec(entries).unwrap_or_default();
        let mut context = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        };
        add(b"deliver/v1");
        add(namespace.as_bytes());
        add(settings.as_bytes());
        add(&entries);
        for (name, identity) in objects {
            add(name.as_bytes());
            add(identity.as_bytes());
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// Returns the hexadecimal text that callers receive.
    pub(super) fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use deliver::Request;
    use serde_json::{Value, json};
    use shared::resource::{SealedSecret, SealedSecretSpec};

    use super::*;

    fn identity(uid: &str, generation: i64, value: &str) -> Identity {
        let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
        sealed.metadata.uid = Some(uid.into());
        sealed.metadata.generation = Some(generation);
        let items = &mut sealed.spec.encrypted_data;
        items.insert("a".into(), value.into());
        Identity::of(&sealed).unwrap()
    }

    fn entries(entry: &Value) -> Vec<Entry> {
        let body = json!({ "objects": [entry] }).to_string();
        Request::from_json(body.as_bytes()).unwrap().entries
    }

    #[test]
    fn depends_on_objects_selection_settings_and_namespace() {
        let revision = |namespace: &str, settings: &str, entry: Value, identity: Identity| {
            let objects = [("db", identity)].into();
            Revision::new(namespace, settings, &entries(&entry), &objects).text()
        };
        let entry = || json!({ "sealedSecret": "db" });
        let base = || identity("u", 1, "v");
        let first = revision("ns", "s", entry(), base());
        assert_eq!(first.len(), 64);
        assert_eq!(first, revision("ns", "s", entry(), base()));
        let with_defaults = json!({ "sealedSecret": "db", "path": "", "mode": "0444" });
        assert_eq!(first, revision("ns", "s", with_defaults, base()));
        for other in [
            revision("other", "s", entry(), base()),
            revision("ns", "other", entry(), base()),
            revision(
                "ns",
                "s",
                json!({ "sealedSecret": "db", "mode": "0440" }),
                base(),
            ),
            revision(
                "ns",
                "s",
                json!({ "sealedSecret": "db", "items": ["a"] }),
                base(),
            ),
            revision(
                "ns",
                "s",
                json!({ "sealedSecret": "db", "path": "x/" }),
                base(),
            ),
            revision("ns", "s", entry(), identity("other", 1, "v")),
            revision("ns", "s", entry(), identity("u", 2, "v")),
            revision("ns", "s", entry(), identity("u", 1, "other")),
        ] {
            assert_ne!(first, other);
        }
    }
}
