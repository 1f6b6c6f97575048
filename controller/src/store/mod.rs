//! The interface between the reconciler and the stores of SealedSecrets and Secrets.

pub mod cluster;
pub mod directory;

use std::future::Future;
use std::sync::Arc;

use controller_core::decide::{Existing, Plan};
use controller_core::no_secret::is_legacy;
use controller_core::object_id::ObjectId;
use controller_core::reason::Reason;
use jiff::Timestamp;
pub use lease::api_response;
use shared::record::Identity;
use shared::resource::{SealedSecret, SealedSecretStatus, SecretRecord};
use shared::secret::Secret;

use crate::files::FileError;
use crate::metrics::ObjectLabels;
use crate::pool::Stopped;
use crate::readable::Readable;

/// The current state of a SealedSecret.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// The SealedSecret exists.
    Sealed(Arc<SealedSecret>),
    /// The SealedSecret exists but is invalid, for this reason.
    Malformed(String),
    /// The SealedSecret existed and is known to be deleted.
    Gone,
}

/// The observed state of one object, read at one time.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags, each with a name wherever it is set or read"
)]
pub struct Observed {
    /// The SealedSecret, or the reason why there is no valid SealedSecret.
    pub source: Source,
    /// The `uid` of the SealedSecret, if the store assigns one. It distinguishes the SealedSecret from a later one with
    /// the same name.
    pub uid: Option<String>,
    /// The Secret with the same name.
    pub existing: Existing,
    /// A Secret with marks of former values that [`Self::existing`] does not contain: the Secret no longer belongs to
    /// the SealedSecret, or the SealedSecret was deleted.
    pub unmanaged: Option<Box<Secret>>,
    /// The generation of the SealedSecret, whether or not it is valid.
    pub generation: Option<i64>,
    /// The last recorded status.
    pub status: Option<SealedSecretStatus>,
    /// Whether this version of the SealedSecret is the last version that was unsealed, regardless of later failures. If
    /// so, another client caused any difference between the SealedSecret and the Secret.
    pub settled: bool,
    /// Whether `settled` is only a claim: the status made this claim when this process first observed the object, and
    /// nothing proves or contradicts it. Any client that may write statuses can make this claim, but not about a
    /// version whose creation this process has observed.
    pub claimed: bool,
    /// Whether the Secret was assumed to be absent without a request. Possible only with [`ReadMode::Guess`].
    pub assumed_absent: bool,
    /// Whether the Secret is known to have the values of the last version that was unsealed: no other client has
    /// written the Secret since.
    pub has_unsealed_values: bool,
    /// Whether the SealedSecret appears to be new: its status showed no earlier reconciliation when this process first
    /// observed it, and this process has not reported a result for it.
    pub is_fresh: bool,
    /// Whether all content of the Secret is known to come from the SealedSecret: the controller created or replaced it,
    /// without a merge to which another client consented.
    pub is_exclusive: bool,
    /// The mark of the random values of the Secret. See [`shared::random_mark`].
    pub random_mark: Option<String>,
    /// Whether the store itself shows that no other client replaced the mark while no controller was running. If so,
    /// random values stay even if no key verifies their mark, usually because the key was removed. False if this
    /// process has unsealed this version, since the process then knows whether another client has changed the Secret.
    pub trusts_mark: bool,
}

impl Observed {
    /// Returns whether both states have the same SealedSecret, as far as it determines the Secret.
    pub fn has_same_sealed_secret(&self, other: &Self) -> bool {
        let has_equal_source = match (&self.source, &other.source) {
            (Source::Sealed(a), Source::Sealed(b)) => {
                a.spec == b.spec && a.metadata.annotations == b.metadata.annotations
            }
            (a, b) => a == b,
        };
        has_equal_source && (&self.uid, self.generation) == (&other.uid, other.generation)
    }
}

/// How [`Store::gather`] determines whether the Secret exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Fetches the Secret.
    Fetch,
    /// Like [`Self::Fetch`], but an object that was never reconciled may be assumed to have no Secret. Creating the
    /// Secret shows whether this assumption is correct.
    Guess,
}

/// The cached state of one object, known without a request.
#[derive(Debug)]
pub struct CachedState {
    /// The identity of the SealedSecret.
    pub identity: Identity,
    /// Whether the annotations of the SealedSecret disable drift correction.
    pub opts_out: bool,
    /// The labels of the SealedSecret in the metrics.
    pub labels: ObjectLabels,
    /// The record of the Secret in the last status.
    pub record: SecretRecord,
    /// The key ID of the newest content version in the last status.
    pub version_key: Option<String>,
    /// The last observed `uid` and `resourceVersion` of the Secret.
    pub secret: (String, String),
}

/// The outcome of applying a plan.
#[derive(Debug)]
pub enum AppliedPlan {
    /// The plan was applied. Contains the stored Secret, if the store returned it; after [`Plan::Remove`], only if
    /// finalizers delay the deletion.
    Done(Option<Box<Secret>>),
    /// The Secret was not created, since a Secret of this name already exists unexpectedly. Contains the Secret to
    /// create.
    Exists(Box<Secret>),
}

/// The content of an event about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Whether the event is a warning.
    pub is_warning: bool,
    /// The machine-readable reason.
    pub reason: Reason,
    /// The human-readable message; it contains no value.
    pub message: String,
}

/// A store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The item name cannot be a file name.
    #[error(
        "{0:?} is not a valid item key: use 1 to 253 letters, digits, `-`, `_` and `.`; `.` alone and a leading `..` \
         are not allowed"
    )]
    ItemName(String),
    /// The API server returned an error or could not be reached.
    #[error("{operation}: {}", api_response(response))]
    Api {
        /// The operation that failed.
        operation: &'static str,
        /// The API server's response. It is shown with [`api_response`], and not as an error source.
        response: Box<kube::Error>,
    },
    /// The Secret that the API server returned is not valid for its type.
    #[error(
        "{operation}: the Secret from the API server has a field that this controller cannot read; inspect it with \
         `kubectl get secret NAME -n NAMESPACE -o yaml`, and correct the field"
    )]
    Unreadable {
        /// The operation that failed.
        operation: &'static str,
    },
    /// The API server rejects the content of the Secret, or would reject its size.
    #[error("{operation}: {}", public.as_deref().unwrap_or("the API server does not accept its values"))]
    Rejected {
        /// The operation that failed.
        operation: &'static str,
        /// The problem; `None` if its text would depend on the values.
        public: Option<String>,
    },
    /// An earlier attempt on the same version of the SealedSecret failed with this error, which is reported again
    /// instead of a new result that depends on values.
    #[error("{text}")]
    AsBefore {
        /// The earlier error.
        text: String,
        /// Whether a user must resolve the earlier error; see [`Self::is_stalled`].
        is_stalled: bool,
    },
    /// Another client created the Secret, or changed the SealedSecret, while the controller processed it.
    #[error(
        "cannot write the Secret: another client created the Secret or changed the SealedSecret at the same time; if this error persists, find that client in the API server's audit log"
    )]
    Exists,
    /// Other clients keep modifying the same object.
    #[error(
        "cannot update the status: other clients keep modifying the object; find them with `kubectl get sealedsecrets -A --show-managed-fields -o yaml`"
    )]
    Contended,
    /// The work was interrupted; see [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl StoreError {
    /// Returns whether the error persists until the SealedSecret changes.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::ItemName(_))
    }

    /// Returns whether a user must resolve the error, although the controller retries.
    pub fn is_stalled(&self) -> bool {
        match self {
            Self::AsBefore { is_stalled, .. } => *is_stalled,
            _ => self.is_final() || matches!(self, Self::Rejected { .. }),
        }
    }

    /// Returns whether the error depends on values of the object.
    pub fn depends_on_values(&self, sealed: &SealedSecret) -> bool {
        match self {
            Self::Rejected { public: None, .. } => true,
            Self::Rejected { .. } | Self::ItemName(_) => is_legacy(sealed),
            Self::File(_)
            | Self::Api { .. }
            | Self::Unreadable { .. }
            | Self::AsBefore { .. }
            | Self::Exists
            | Self::Contended
            | Self::Stopped(_) => false,
        }
    }
}

/// Returns a function that adds the failed operation to an API server's error.
pub(crate) fn api_error(operation: &'static str) -> impl Fn(kube::Error) -> StoreError {
    move |response| StoreError::Api {
        operation,
        response: Box::new(response),
    }
}

/// Returns the object, or an error with the operation if it is unreadable.
pub(crate) fn require_readable<K>(
    object: Readable<K>,
    operation: &'static str,
) -> Result<K, StoreError> {
    object.object().ok_or(StoreError::Unreadable { operation })
}

/// The Secret after its SealedSecret was unsealed.
#[derive(Debug, Clone, Copy)]
pub struct StoredSecret<'a> {
    /// The Secret as stored, if known.
    pub secret: Option<&'a Secret>,
    /// Whether the Secret has the values of the observed version of the SealedSecret; otherwise it may have values of
    /// another client.
    pub has_unsealed_values: bool,
    /// See [`Observed::is_exclusive`].
    pub is_exclusive: bool,
}

/// A Secret that a record identifies.
#[derive(Debug, Clone, Copy)]
pub struct RecognizedSecret<'a> {
    /// The `uid` of the Secret.
    pub uid: &'a str,
    /// The `resourceVersion` of the Secret.
    pub version: &'a str,
    /// See [`StoredSecret::has_unsealed_values`].
    pub has_unsealed_values: bool,
    /// See [`Observed::is_exclusive`].
    pub is_exclusive: bool,
}

/// Stores SealedSecrets and Secrets. Two calls for the same object never run concurrently.
pub trait Store: Send + Sync + 'static {
    /// Returns the cached state of a synced object, if it may suffice to detect that nothing needs to be done.
    fn cached_state(&self, _id: &ObjectId) -> Option<CachedState> {
        None
    }

    /// Reads the state of one object.
    fn gather(
        &self,
        id: &ObjectId,
        mode: ReadMode,
    ) -> impl Future<Output = Result<Observed, StoreError>> + Send;

    /// Applies a plan that is based on the result of [`Self::gather`]. After an error, and after a crash at any time,
    /// the Secret has either all old or all new values.
    fn apply(
        &self,
        id: &ObjectId,
        plan: Plan,
    ) -> impl Future<Output = Result<AppliedPlan, StoreError>> + Send;

    /// Records the status of the object with the given [`Observed::uid`]; `None` removes the status of a deleted
    /// object. A recreated object, which has a different `uid`, stays unchanged.
    fn record(
        &self,
        id: &ObjectId,
        uid: Option<&str>,
        status: Option<SealedSecretStatus>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns whether clients without read access to the values can observe writes to the store and its reports.
    fn is_public(&self) -> bool {
        false
    }

    /// Records that the observed version of the SealedSecret was unsealed, regardless of its status, and the known
    /// state of its Secret.
    fn note_unsealed(&self, _id: &ObjectId, _observed: &Observed, _stored: StoredSecret<'_>) {}

    /// Records that the object has no Secret, because its values are only delivered to Pods.
    fn note_delivered(&self, _id: &ObjectId) {}

    /// Records that an object was recognized as up to date by its [`Self::cached_state`].
    fn note_recognized(&self, _id: &ObjectId, _identity: Identity, _secret: RecognizedSecret<'_>) {}

    /// Returns whether all Pods that use the Secret have the content that the Secret has had since `changed_at`; `None`
    /// if this is unknown.
    fn is_current_everywhere(
        &self,
        _id: &ObjectId,
        _changed_at: Timestamp,
        _now: Timestamp,
    ) -> impl Future<Output = Option<bool>> + Send {
        std::future::ready(None)
    }

    /// Releases the data of an object that was reconciled.
    fn release(&self, _id: &ObjectId) {}

    /// Emits an event about the object. Ignores failures.
    fn emit_event(&self, _id: &ObjectId, _event: EventRecord) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
