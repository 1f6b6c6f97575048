//! v2 keys and their text forms: `seal2-recipient SUITE ID KEY COMMENT` and `seal2-key SUITE KEY`.

use std::fmt;

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::age;
use super::data_key::DataKey;
use super::id::{KeyId, ShortKeyId};
use super::suite::p256::{self, P256PrivateKey, P256PublicKey};
use super::suite::xwing::{SEED_LEN, XWingPrivateKey, XWingPublicKey};
use super::suite::{Binding, Opener, Recipient, Suite};
use super::text;
use crate::plain::Plain;

const RECIPIENT_WORD: &str = "seal2-recipient";
const KEY_WORD: &str = "seal2-key";

/// Why a string is not a usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// The line does not have the form of a recipient.
    #[error("expected `seal2-recipient SUITE ID KEY [COMMENT]` or `age1pq1…`")]
    RecipientForm,
    /// The text does not have the form of a private key.
    #[error("expected `seal2-key SUITE KEY` or `AGE-SECRET-KEY-PQ-1…`")]
    KeyForm,
    /// The suite is unknown, or its keys have a different text form.
    #[error(
        "the suite must be xw or p256; an RSA key is passed as a certificate (public) or a PEM file (private)"
    )]
    Suite,
    /// The bytes are not a valid key of the suite.
    #[error("the key is malformed or unsafe")]
    Key,
    /// The identifier belongs to another key.
    #[error("the identifier does not belong to the key; copy the whole line again")]
    Mismatch,
    /// aws-lc failed to generate a key.
    #[error("the key could not be generated")]
    Generate,
}

/// A public key of the suite `xw` or `p256`, with a comment.
#[derive(Debug, Clone)]
pub struct PublicRecipient {
    key: AnyPublic,
    /// A comment for people, on one line.
    pub comment: String,
}

#[derive(Debug, Clone)]
enum AnyPublic {
    XWing(Box<XWingPublicKey>),
    P256(Box<P256PublicKey>),
}

impl AnyPublic {
    fn read(suite: Suite, bytes: &[u8]) -> Result<Self, KeyTextError> {
        let key = match suite {
            Suite::XWing => XWingPublicKey::from_bytes(bytes).map(|key| Self::XWing(key.into())),
            Suite::P256 => P256PublicKey::from_bytes(bytes).map(|key| Self::P256(key.into())),
            Suite::Rsa => return Err(KeyTextError::Suite),
        };
        key.ok_or(KeyTextError::Key)
    }

    fn recipient(&self) -> &dyn Recipient {
        match self {
            Self::XWing(key) => &**key,
            Self::P256(key) => &**key,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::XWing(key) => key.to_bytes(),
            Self::P256(key) => key.to_bytes(),
        }
    }
}

impl PublicRecipient {
    /// Reads the bytes of a public key.
    ///
    /// # Errors
    ///
    /// Returns [`KeyTextError`] if the bytes are not a safe key of the suite, or the suite is RSA.
    pub fn from_bytes(suite: Suite, bytes: &[u8]) -> Result<Self, KeyTextError> {
        let comment = String::new();
        AnyPublic::read(suite, bytes).map(|key| Self { key, comment })
    }

    /// Reads a line: a recipient of this format, or a post-quantum age recipient.
    ///
    /// # Errors
    ///
    /// Returns [`KeyTextError`] if the line has a different form, or its key cannot be used.
    pub fn parse(line: &str) -> Result<Self, KeyTextError> {
        let line = line.trim_ascii();
        if age::is_recipient(line) {
            let bytes = age::recipient(line).ok_or(KeyTextError::RecipientForm)?;
            return Self::from_bytes(Suite::XWing, &bytes);
        }
        let fields: Vec<&str> = line.splitn(5, ' ').collect();
        let (RECIPIENT_WORD, [suite, id, key, comment @ ..]) = split_first(&fields)? else {
            return Err(KeyTextError::RecipientForm);
        };
        let id: ShortKeyId = id.parse().map_err(|_| KeyTextError::RecipientForm)?;
        let suite = suite.parse().map_err(|_| KeyTextError::Suite)?;
        let bytes = text::from_base64url(key).ok_or(KeyTextError::RecipientForm)?;
        let key = AnyPublic::read(suite, &bytes)?;
        if key.recipient().key_id().short() != id {
            return Err(KeyTextError::Mismatch);
        }
        let comment = comment.concat();
        Ok(Self { key, comment })
    }

    /// Returns the bytes of the key.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.key.to_bytes()
    }
}

fn split_first<'a, 'f>(fields: &'a [&'f str]) -> Result<(&'f str, &'a [&'f str]), KeyTextError> {
    let (word, rest) = fields.split_first().ok_or(KeyTextError::RecipientForm)?;
    Ok((word, rest))
}

impl fmt::Display for PublicRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (suite, id) = (self.suite(), self.key_id().short());
        let key = text::base64url(&self.to_bytes());
        write!(f, "{RECIPIENT_WORD} {suite} {id} {key}")?;
        match crate::visible_line(&self.comment) {
            comment if comment.is_empty() => Ok(()),
            comment => write!(f, " {comment}"),
        }
    }
}

impl Recipient for PublicRecipient {
    fn suite(&self) -> Suite {
        self.key.recipient().suite()
    }

    fn key_id(&self) -> KeyId {
        self.key.recipient().key_id()
    }

    fn wrap_key(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Option<Vec<u8>> {
        self.key.recipient().wrap_key(key, binding, rng)
    }
}

/// A private key of the suite `xw` or `p256`, with the 32 bytes in which it is stored. Wiped on drop.
#[derive(Debug)]
pub struct SecretKey {
    key: AnySecret,
    stored: Plain,
}

#[derive(Debug)]
enum AnySecret {
    XWing(Box<XWingPrivateKey>),
    P256(Box<P256PrivateKey>),
}

impl SecretKey {
    /// Generates a key.
    ///
    /// # Errors
    ///
    /// Returns [`KeyTextError`] for RSA, whose keys have their own functions in [`crate::key`], or if aws-lc fails.
    pub fn generate(suite: Suite, rng: &mut dyn CryptoRng) -> Result<Self, KeyTextError> {
        let mut bytes = Zeroizing::new([0; SEED_LEN]);
        match suite {
            Suite::XWing => rng.fill_bytes(bytes.as_mut()),
            Suite::P256 => bytes = p256::random_scalar(rng).ok_or(KeyTextError::Generate)?,
            Suite::Rsa => return Err(KeyTextError::Suite),
        }
        Self::from_bytes(suite, &bytes)
    }

    /// Reads the 32 bytes of a key: the seed for `xw`, or the scalar for `p256`.
    ///
    /// # Errors
    ///
    /// Returns [`KeyTextError`] if the bytes are not a key of the suite.
    pub fn from_bytes(suite: Suite, bytes: &[u8; SEED_LEN]) -> Result<Self, KeyTextError> {
        let key = match suite {
            Suite::XWing => XWingPrivateKey::from_seed(bytes).map(|k| AnySecret::XWing(k.into())),
            Suite::P256 => P256PrivateKey::from_scalar(bytes).map(|k| AnySecret::P256(k.into())),
            Suite::Rsa => return Err(KeyTextError::Suite),
        };
        let stored = Plain::from(bytes.to_vec());
        let key = key.ok_or(KeyTextError::Key)?;
        Ok(Self { key, stored })
    }

    /// Returns whether a line begins like a private key, complete or not: one of this format, or a post-quantum age
    /// identity.
    pub fn begins_like_key(line: &str) -> bool {
        let after_word = line.strip_prefix(KEY_WORD);
        after_word.is_some_and(|rest| rest.starts_with(' ')) || age::is_identity(line)
    }

    /// Reads a private key of this format, or a post-quantum age identity.
    ///
    /// # Errors
    ///
    /// Returns [`KeyTextError`] if the line has a different form, or its key cannot be used.
    pub fn parse(line: &str) -> Result<Self, KeyTextError> {
        let line = line.trim_ascii();
        if age::is_identity(line) {
            let seed = age::identity(line).ok_or(KeyTextError::KeyForm)?;
            return Self::from_bytes(Suite::XWing, &seed);
        }
        let fields: Vec<&str> = line.split(' ').collect();
        let [KEY_WORD, suite, key] = fields[..] else {
            return Err(KeyTextError::KeyForm);
        };
        let suite = suite.parse().map_err(|_| KeyTextError::Suite)?;
        let bytes = Zeroizing::new(text::from_base64url(key).ok_or(KeyTextError::KeyForm)?);
        let bytes = bytes.first_chunk().filter(|_| bytes.len() == SEED_LEN);
        Self::from_bytes(suite, bytes.ok_or(KeyTextError::Key)?)
    }

    /// Returns the text in which the key is stored.
    pub fn to_text(&self) -> Plain {
        let key = Zeroizing::new(text::base64url(self.stored.expose()));
        let prefix = format!("{KEY_WORD} {} ", self.opener().suite());
        Plain::from([prefix.as_bytes(), key.as_bytes()].concat())
    }

    /// Returns the public key.
    pub fn recipient(&self) -> PublicRecipient {
        let key = match &self.key {
            AnySecret::XWing(key) => AnyPublic::XWing(key.public_key().clone().into()),
            AnySecret::P256(key) => AnyPublic::P256(key.public_key().clone().into()),
        };
        let comment = String::new();
        PublicRecipient { key, comment }
    }

    /// Returns the key for opening.
    pub fn opener(&self) -> &dyn Opener {
        match &self.key {
            AnySecret::XWing(key) => &**key,
            AnySecret::P256(key) => &**key,
        }
    }
}
