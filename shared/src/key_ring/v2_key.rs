//! A key of a ring that is only for v2.

use jiff::Timestamp;

use crate::key_marks::Marks;
use crate::key_secret::OrderPriority;
use crate::secret::Secret;
use crate::v2::key_secret::{self, KeySecretError, StoredKey};
use crate::v2::{KeyId, Opener, PublicRecipient, Recipient as _, Suite};

/// A v2 key of a ring.
#[derive(Debug)]
pub struct RingV2Key {
    name: String,
    order_time: Timestamp,
    stored: StoredKey,
    recipient: PublicRecipient,
    marks: Marks,
}

impl RingV2Key {
    /// Creates a key. `name` names the Secret that stores it, or the file that contains it.
    pub fn new(name: String, order_time: Timestamp, stored: StoredKey) -> Self {
        let recipient = stored.key.recipient();
        Self {
            name,
            order_time,
            stored,
            recipient,
            marks: Marks::default(),
        }
    }

    /// Reads a Secret that stores a v2 key, with its marks.
    ///
    /// # Errors
    ///
    /// Returns the reason why the key is unusable.
    pub fn read(secret: &Secret, priority: OrderPriority) -> Result<Self, KeySecretError> {
        let stored = key_secret::parse(secret)?;
        let created = secret.metadata.creation_timestamp.as_ref();
        let order_time = match (priority, created) {
            (OrderPriority::SecretCreationTimestamp, Some(created)) => created.0,
            _ => stored.not_before,
        };
        let name = secret.metadata.name.clone().unwrap_or_default();
        let key = Self::new(name, order_time, stored);
        let marks = Marks::read_v2(&secret.metadata, &key.key_id());
        Ok(key.with_marks(marks))
    }

    /// Sets the marks of the key's Secret.
    #[must_use]
    pub fn with_marks(mut self, marks: Marks) -> Self {
        self.marks = marks;
        self
    }

    /// Returns the name of the Secret that stores the key, or of the file that contains it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the time by which the key is ordered.
    pub fn order_time(&self) -> Timestamp {
        self.order_time
    }

    /// Returns the identifier of the key.
    pub fn key_id(&self) -> KeyId {
        self.recipient.key_id()
    }

    /// Returns the suite of the key.
    pub fn suite(&self) -> Suite {
        self.recipient.suite()
    }

    /// Returns the public key.
    pub fn recipient(&self) -> &PublicRecipient {
        &self.recipient
    }

    /// Returns the private key, for opening.
    pub fn opener(&self) -> &dyn Opener {
        self.stored.key.opener()
    }

    /// Returns the marks of the key's Secret.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// Returns whether the key's validity for sealing includes this time. The key opens at any time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        (self.stored.not_before..=self.stored.not_after).contains(&now)
    }

    /// Returns the time from which and the time until which the key may seal.
    pub fn validity(&self) -> (Timestamp, Timestamp) {
        (self.stored.not_before, self.stored.not_after)
    }
}
