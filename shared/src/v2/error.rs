//! The reasons for refusing an object. All except [`Refusal::Tampered`] are determined before a private key is used.

use std::fmt;

use super::id::ShortKeyId;

/// The reason for a refusal, in statuses and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// An entry does not have the form of v2.
    Malformed,
    /// Every recipient of an item uses an unknown suite.
    UnsupportedSuite,
    /// The format of the object is refused; see [`FormatProblem`].
    FormatRefused,
    /// The policy or the lock refuses the suite of a recipient.
    SuiteRefused,
    /// The value was sealed for another namespace, name or scope.
    ScopeMismatch,
    /// The template differs from the template that the values are bound to.
    TemplateChanged,
    /// The revision is too far in the future.
    RevisionInFuture,
    /// The values must not become a Secret object.
    NotMade,
    /// No available key can open a lock.
    UnknownKey,
    /// A value, or its lock or name, was changed.
    Tampered,
}

impl Reason {
    /// Returns the reason as it appears in statuses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed",
            Self::UnsupportedSuite => "UnsupportedSuite",
            Self::FormatRefused => "FormatRefused",
            Self::SuiteRefused => "SuiteRefused",
            Self::ScopeMismatch => "ScopeMismatch",
            Self::TemplateChanged => "TemplateChanged",
            Self::RevisionInFuture => "RevisionInFuture",
            Self::NotMade => "NotMade",
            Self::UnknownKey => "UnknownKey",
            Self::Tampered => "Tampered",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The defect of a malformed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The name begins with `/`, but is not the name of a lock entry.
    #[error("its name begins with `/` but is not `/lock/ID` or `/lock/ID/KEY`")]
    Name,
    /// The kind of the value is unknown, or does not fit the name.
    #[error("its value does not have the form that its name requires")]
    Kind,
    /// The value is not canonical base64url.
    #[error(
        "its value is not canonical base64url (without padding, line breaks or non-zero unused bits)"
    )]
    Base64,
    /// The value is too short or too long.
    #[error("its value is truncated or has extra bytes")]
    Length,
    /// The version of the header is unknown.
    #[error("its header has an unknown version")]
    Version,
    /// The header has unknown flags.
    #[error("its header has unknown flags")]
    Flags,
    /// The scope in the header is unknown.
    #[error("its header has an unknown scope")]
    Scope,
    /// The identifiers in the name and in the value differ.
    #[error("its name does not match its value")]
    Mismatch,
    /// The recipients of an inline item are not in strictly ascending order.
    #[error("its recipients are not in strictly ascending order")]
    Order,
    /// There are too few or too many recipients.
    #[error("its lock must have 1 to 32 recipients")]
    Recipients,
    /// The wrapped data key does not have the length that its suite requires.
    #[error("a wrapped data key does not have the length that its suite requires")]
    WrappedKey,
    /// The lock that an item names has no header.
    #[error("its lock has no header in this object")]
    NoHeader,
}

/// Why the format of an object is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatProblem {
    /// The policy requires v2, and an item is v1.
    #[error(
        "the policy of this namespace requires v2, but an item is sealed as v1; seal it again as v2"
    )]
    V1Item,
    /// The policy requires v2, and the object has `spec.data`.
    #[error(
        "the policy of this namespace requires v2, but `spec.data` is set; seal its values as v2, \
         and remove `spec.data`"
    )]
    LegacyData,
    /// The policy requires v2, and the object has no sealed item.
    #[error(
        "the policy of this namespace requires v2, but the object has no sealed item; seal a value as v2"
    )]
    Empty,
    /// The policy requires v2, and some locks are bound to the template and some are not.
    #[error(
        "the policy of this namespace requires v2, but only some values are bound to the template; seal all values again together"
    )]
    PartlyBound,
    /// A lock is bound to the template, and an item is v1.
    #[error(
        "some values are bound to the template, but an item is sealed as v1; seal it again as v2"
    )]
    V1WithBound,
    /// The policy requires that all values are bound to the template, and some are not.
    #[error(
        "the policy of this namespace requires that all values are bound to the template; \
         seal them again with `--bind-template`"
    )]
    Unbound,
    /// The object has both `spec.data` and v2 entries.
    #[error("`spec.data` is set in an object with v2 values; remove `spec.data`")]
    DataWithV2,
    /// A lock must be the only one in its object, but the object has other values.
    #[error(
        "some values were sealed as the only values of their object, but the object has other values too; \
         remove the other values, or seal all values again together"
    )]
    NotAlone,
    /// The object has more locks than allowed.
    #[error("the object has more than {limit} locks; re-encrypt it with `seal rotate`")]
    Locks {
        /// The maximum number of locks of an object.
        limit: usize,
    },
}

/// The reason for refusing an object. If an object is refused, none of its values is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An entry does not have the form of v2.
    #[error(
        "the entry {entry:?} of spec.encryptedData is malformed: {problem}; restore it from an earlier commit, or seal the value again"
    )]
    Malformed {
        /// Name of the entry.
        entry: String,
        /// The defect of the entry.
        problem: Problem,
    },
    /// Every recipient of an item uses a suite that this program does not know.
    #[error(
        "the item {item:?} is sealed only with suites that this version does not support; \
         update this program, or seal the item for another suite"
    )]
    UnsupportedSuite {
        /// The key of an item without a recipient of a known suite.
        item: String,
    },
    /// The format of the object is refused; see [`FormatProblem`].
    #[error(transparent)]
    FormatRefused(#[from] FormatProblem),
    /// A recipient's suite is not post-quantum, but the policy or the lock requires it.
    #[error(
        "the item {item:?} has a recipient that is not post-quantum, but {required_by} allows only post-quantum keys; \
         seal the item again without this recipient"
    )]
    SuiteRefused {
        /// The key of an item with a classical recipient.
        item: String,
        /// Whether the lock or the policy requires post-quantum suites.
        required_by: RequiredBy,
    },
    /// The policy requires post-quantum suites, but `spec.data` is set, which v1 encrypts for an RSA key.
    #[error(
        "`spec.data` is encrypted for an RSA key, but the policy of this namespace requires \
         post-quantum keys; seal the values as v2, and remove `spec.data`"
    )]
    LegacyDataRefused,
    /// An item was sealed for another namespace, name or scope. The message does not reveal which of them differs.
    #[error(
        "the item {item:?} was sealed for another name, namespace or scope; \
         move it back, or seal it for this object"
    )]
    ScopeMismatch {
        /// The key of an item that was sealed for another place.
        item: String,
    },
    /// The template differs from the template that the values are bound to.
    #[error(
        "the template was changed after the item {item:?} was sealed and bound to it; \
         revert the change, or seal the values again"
    )]
    TemplateChanged {
        /// The key of an item that is bound to another template.
        item: String,
    },
    /// The revision is too far in the future.
    #[error(
        "the revision of the item {item:?} lies in the future; \
         check the clock of the computer that sealed it, or seal the item again"
    )]
    RevisionInFuture {
        /// The key of the item with the highest revision.
        item: String,
        /// The revision, in milliseconds since 1970.
        revision: u64,
    },
    /// The values must not become a Secret object, but are opened for one.
    #[error(
        "the item {item:?} is sealed for use without a Secret object; \
         deliver it as a file, or seal it again for a Secret"
    )]
    NeverSecret {
        /// The key of an item that must not become part of a Secret.
        item: String,
    },
    /// No available key can open a lock.
    #[error(
        "no key for the item {item:?}; one of these keys is required: {}; restore one of them, or seal the item for a key \
         of this cluster",
        list(.keys)
    )]
    UnknownKey {
        /// The key of an item that no available key can open.
        item: String,
        /// At most [`MAX_NAMED_KEYS`] keys that could open the item.
        keys: Vec<ShortKeyId>,
    },
    /// A value, or its lock or name, was changed, or the value was sealed incorrectly. These causes are
    /// indistinguishable.
    #[error(
        "these items were changed after they were sealed: {}; seal them again",
        quoted(.items)
    )]
    Tampered {
        /// The item keys whose values may have been changed.
        items: Vec<String>,
    },
}

/// Maximum number of keys in [`Refusal::UnknownKey`].
pub const MAX_NAMED_KEYS: usize = 8;

/// Whether the lock or the policy requires post-quantum suites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredBy {
    /// The lock of the item.
    Lock,
    /// The policy of the namespace.
    Policy,
}

impl fmt::Display for RequiredBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lock => "the item itself",
            Self::Policy => "the policy of this namespace",
        })
    }
}

impl Refusal {
    /// Returns the reason, as it appears in a condition of the status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Malformed { .. } => Reason::Malformed,
            Self::UnsupportedSuite { .. } => Reason::UnsupportedSuite,
            Self::FormatRefused(_) => Reason::FormatRefused,
            Self::SuiteRefused { .. } | Self::LegacyDataRefused => Reason::SuiteRefused,
            Self::ScopeMismatch { .. } => Reason::ScopeMismatch,
            Self::TemplateChanged { .. } => Reason::TemplateChanged,
            Self::RevisionInFuture { .. } => Reason::RevisionInFuture,
            Self::NeverSecret { .. } => Reason::NotMade,
            Self::UnknownKey { .. } => Reason::UnknownKey,
            Self::Tampered { .. } => Reason::Tampered,
        }
    }
}

/// Returns the names of entries for a message, quoted and escaped, because anyone who can edit the object can choose
/// them.
fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    names.join(", ")
}

fn list(keys: &[ShortKeyId]) -> String {
    let names: Vec<String> = keys.iter().map(ShortKeyId::to_string).collect();
    names.join(", ")
}
