//! The times of the keys whose certificates are known.

use std::collections::BTreeMap;

use jiff::Timestamp;
use shared::key::Certificate;
use shared::v2::{KeyId, ListedRecipient, Recipient as _, RecipientList};

use super::Content;

/// The time from which each key may seal, by fingerprint and by short identifier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyTimes(BTreeMap<String, Timestamp>);

impl KeyTimes {
    /// Adds the key of a certificate, which need not be valid now.
    pub fn add_certificate(&mut self, certificate: &Certificate) {
        let id = certificate.public_key().key_id().short();
        let since = certificate.not_before();
        self.0.insert(certificate.fingerprint().to_string(), since);
        self.0.insert(id.to_string(), since);
    }

    /// Adds the keys of a controller's list. Entries that cannot be parsed are left out. The list is not verified.
    pub fn add_list(&mut self, list: &RecipientList) {
        for listed in &list.recipients {
            self.add_listed(listed);
        }
    }

    fn add_listed(&mut self, listed: &ListedRecipient) {
        let certificate = listed.certificate.as_deref();
        let certificate = certificate.and_then(|pem| Certificate::from_pem(pem.as_bytes()).ok());
        match (certificate, listed.key_id.parse::<KeyId>()) {
            (Some(certificate), _) => self.add_certificate(&certificate),
            (None, Ok(id)) => {
                self.0.insert(id.short().to_string(), listed.not_before);
            }
            (None, Err(_)) => {}
        }
    }

    /// Returns the time from which a key may seal; `None` if it is unknown.
    pub fn time(&self, key: &str) -> Option<Timestamp> {
        self.0.get(key).copied()
    }

    /// Returns the time of the newest key of an object whose time is known.
    pub fn newest(&self, content: &Content) -> Option<Timestamp> {
        content.keys.iter().filter_map(|key| self.time(key)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::super::join::tests::content;
    use super::*;

    #[test]
    fn the_newest_known_key_counts() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let id = "A".repeat(43);
        let listed = |key_id: &str, second| ListedRecipient {
            suite: "xw".to_owned(),
            key_id: key_id.to_owned(),
            recipient: None,
            certificate: None,
            not_before: time(second),
            not_after: Timestamp::MAX,
        };
        let mut times = KeyTimes::default();
        times.add_list(&RecipientList {
            recipients: vec![listed(&id, 7), listed("malformed", 9)],
        });
        let mut content = content();
        assert_eq!(times.newest(&content), None);
        let short = id.parse::<KeyId>().unwrap().short();
        content.keys.insert(short.to_string());
        assert_eq!(times.newest(&content), Some(time(7)));
        assert_eq!(times.time("malformed"), None);
    }
}
