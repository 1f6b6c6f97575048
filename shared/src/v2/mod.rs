//! The second format of sealed values.
//!
//! One sealing run draws a random data key, wraps it once for each recipient, and encrypts each item under a key that
//! is derived from the data key and the item's name. A *lock* is the data key with its header and its wrapped forms.
//! Shared locks are entries of `spec.encryptedData` under names that no key of a Secret can have, so the custom
//! resource does not change. `docs/v2.md` in this crate specifies the format; the vectors of `tests/vectors/v2.json`
//! belong to it.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use shared::meter::Unmetered;
//! use shared::plain::Plain;
//! use shared::random;
//! use shared::resource::SealedSecret;
//! use shared::scope::Scope;
//! use shared::v2::{self, LockSpec, OpenedLocks, Place, Policy, SecretKey, Suite, Target, Value};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut random::system();
//! let key = SecretKey::generate(Suite::XWing, rng)?;
//! let place = Place::for_sealing(Scope::Strict, "shop", "db")?;
//! let recipient = key.recipient();
//! let spec = LockSpec {
//!     place: &place,
//!     recipients: &[&recipient],
//!     allow_classical: false,
//!     template: None,
//!     is_never_secret: false,
//!     is_alone: false,
//!     revision: v2::next_revision(jiff::Timestamp::now(), []),
//! };
//! let value = Value::new(Plain::from(b"hunter2".to_vec()), rng);
//! let mut sealed = SealedSecret::new("db", Default::default());
//! sealed.metadata.namespace = Some("shop".into());
//! sealed.spec.encrypted_data = v2::seal(&spec, &BTreeMap::from([("password".into(), value)]), rng)?;
//!
//! let checked = v2::Checked::new(&sealed, &Policy::default(), Target::Secret)?;
//! let keys = [key.opener()].into_iter().collect();
//! let values = v2::open(&checked, &keys, &mut OpenedLocks::default(), &mut Unmetered, rng)?;
//! assert_eq!(values["password"].value.plain.expose(), b"hunter2");
//! # Ok(())
//! # }
//! ```
//!
//! | step | function |
//! |---|---|
//! | parse without a key | [`Object::parse`] |
//! | check public data: form, suites, format, place, template, revision, target | [`Checked::new`] |
//! | open | [`open()`] |
//! | seal several items under one lock, or one item with its own | [`seal()`], [`seal_inline`] |
//! | change the recipients; seal all items again under one lock, including v1 items | [`add_recipient`], [`remove_recipient`], [`fold()`], [`convert`] |

mod age;
mod check;
mod content_version;
mod data_key;
mod edit;
mod encoder;
mod error;
mod fold;
mod header;
mod id;
pub mod key_secret;
mod key_text;
mod lock;
mod object;
mod open;
mod opening_keys;
mod padding;
mod place;
mod recipient_list;
mod seal;
mod sealed_box;
mod stanza;
mod suite;
mod template;
mod text;
mod value;

pub use age::{AgeIdentity, AgeRecipient};
pub use check::{Checked, DEFAULT_MAX_LOCKS, Policy, Target};
pub use content_version::{ContentVersion, ValueDigest, VersionInputs, VersionKey};
pub use data_key::DataKey;
pub use edit::{Edit, EditError, add_recipient, remove_recipient};
pub use error::{FormatProblem, MAX_NAMED_KEYS, Problem, Reason, Refusal, RequiredBy};
pub use fold::{Flag, FoldSpec, V1Values, convert, fold};
pub use id::{
    AnyKeyId, KeyId, LockId, MalformedAnyKeyId, MalformedFullKeyId, MalformedKeyId, ShortKeyId,
};
pub use key_text::{KeyTextError, PublicRecipient, SecretKey};
pub use lock::MAX_RECIPIENTS;
pub use object::{
    ItemView, Object, is_lock_entry, is_v1_item, is_v2, is_v2_value, item_names, items,
};
pub use open::{OpenError, open};
pub use opening_keys::{OpenedLocks, OpeningKeys};
pub use padding::max_len_with_equal_padding;
pub use place::Place;
pub use recipient_list::{ListedRecipient, RecipientList};
pub use seal::{LockSpec, MAX_REVISION_AHEAD, SealError, next_revision, seal, seal_inline};
pub use suite::p256::{P256PrivateKey, P256PublicKey};
pub use suite::xwing::{XWingPrivateKey, XWingPublicKey};
pub use suite::{Binding, Opener, Recipient, Suite, Unavailable, UnknownSuite};
pub use template::TemplateDigest;
pub use value::{OpenedValue, Value, ValueId};

#[cfg(test)]
mod tests;
