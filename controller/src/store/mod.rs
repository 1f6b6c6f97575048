//! The reconciler's interface to where SealedSecrets and Secrets are stored.

pub mod cluster;
pub mod directory;

use std::future::Future;
use std::sync::Arc;

use controller_core::decide::{Existing, Plan};
use controller_core::no_secret::is_legacy;
use controller_core::object_id::ObjectId;
use controller_core::reason::Reason;
use shared::record::Identity;
use shared::resource::{SealedSecret, SealedSecretStatus, SecretRecord};
use shared::secret::Secret;
use shared::visible_line;

use crate::folder::FileError;
use crate::pool::Stopped;
use crate::readable::Readable;

/// The current SealedSecret.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// It exists.
    Sealed(Arc<SealedSecret>),
    /// It exists and cannot be used; the text says why.
    Malformed(String),
    /// It existed and is certainly deleted.
    Gone,
}

/// Everything about one object, fetched at one time.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with a name at every place that sets or reads it"
)]
pub struct Observed {
    /// The SealedSecret.
    pub source: Source,
    /// Its `uid`, if the store has one: another object may later have the same name.
    pub uid: Option<String>,
    /// The Secret of that name.
    pub existing: Existing,
    /// The generation of the SealedSecret, whether or not it can be used.
    pub generation: Option<i64>,
    /// The last recorded status.
    pub status: Option<SealedSecretStatus>,
    /// Whether the SealedSecret is the version that was unsealed last, whatever failed since. If so, a
    /// difference between it and the Secret was made by another client.
    pub settled: bool,
    /// Whether the status said so when this process first saw the object, and nothing proves or contradicts
    /// it. Anyone who may write statuses can make this claim, but not of a version that a process watched
    /// coming into existence.
    pub claimed: bool,
    /// Whether the Secret was assumed to be absent without a request. Possible only with [`Look::Guess`].
    pub guessed: bool,
    /// Whether there was no sign that any version of the SealedSecret was ever reconciled when this process
    /// first saw it, and this process reported nothing about it.
    pub is_fresh: bool,
}

impl Observed {
    /// Returns whether the SealedSecret is the same in both, in everything that determines its Secret.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        let is_same = match (&self.source, &other.source) {
            (Source::Sealed(one), Source::Sealed(two)) => {
                one.spec == two.spec && one.metadata.annotations == two.metadata.annotations
            }
            (one, two) => one == two,
        };
        is_same && (&self.uid, self.generation) == (&other.uid, other.generation)
    }
}

/// How [`Store::gather`] determines whether the Secret exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Fetches the Secret.
    Fetch,
    /// Like [`Self::Fetch`], but an object without any record may be assumed to have no Secret: creating the
    /// Secret shows whether that was right.
    Guess,
}

/// What is known about one object without fetching anything.
#[derive(Debug)]
pub struct Glance {
    /// The identity of the SealedSecret.
    pub identity: Identity,
    /// Whether its annotations turn the correction of drift off.
    pub opts_out: bool,
    /// Its label `app.kubernetes.io/instance`.
    pub instance: String,
    /// The record of the Secret in the last status.
    pub record: SecretRecord,
    /// `uid` and `resourceVersion` of the Secret as last seen.
    pub secret: (String, String),
}

/// The outcome of applying a plan.
#[derive(Debug)]
pub enum Applied {
    /// The plan was applied. Holds the stored Secret, if the store returned it.
    Done(Option<Box<Secret>>),
    /// The Secret was not created, since one exists that was not expected.
    Exists(Box<Secret>),
}

/// An event to report about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Whether it is a warning.
    pub is_warning: bool,
    /// The reason, for programs.
    pub reason: Reason,
    /// The message, for people; it contains no value.
    pub message: String,
}

/// An operation of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The item name cannot be a file name.
    #[error(
        "item {0:?} cannot be a file: names have 1 to 253 of the characters a-z, A-Z, 0-9, -, _ and ., \
         are not `.` and do not begin with `..`"
    )]
    ItemName(String),
    /// The API server returned an error or could not be reached.
    #[error("{doing}: {}", api_answer(answer))]
    Api {
        /// The operation that failed.
        doing: &'static str,
        /// The API server's answer. It is shown with [`api_answer`], and not as an error source.
        answer: Box<kube::Error>,
    },
    /// The object that the API server returned is not valid for its type.
    #[error(
        "{doing}: the API server's object has a field that this controller cannot read; compare it with \
         `kubectl get -o yaml` of another one, or delete it"
    )]
    Unreadable {
        /// The operation that failed.
        doing: &'static str,
    },
    /// The API server rejects the content of the Secret.
    #[error("{doing}: {}", public.as_deref().unwrap_or("its values are not accepted"))]
    Rejected {
        /// The operation that failed.
        doing: &'static str,
        /// The problem, if it is independent of the values.
        public: Option<String>,
    },
    /// The same request failed before with this error, so it was not sent again.
    #[error("{text}")]
    AsBefore {
        /// The earlier error.
        text: String,
        /// Whether the earlier error was stalled ([`Self::is_stalled`]).
        is_stalled: bool,
    },
    /// The Secret came into existence between two checks, repeatedly.
    #[error("cannot create the Secret: another client creates and deletes it at the same time")]
    Exists,
    /// Other clients keep modifying the same object.
    #[error("cannot update the status: the object is modified again and again")]
    Contended,
    /// The process is shutting down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl StoreError {
    /// Returns whether the error persists until the SealedSecret changes.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::ItemName(_))
    }

    /// Returns whether the error needs a person to resolve it, although the controller retries.
    pub fn is_stalled(&self) -> bool {
        match self {
            Self::AsBefore { is_stalled, .. } => *is_stalled,
            _ => self.is_final() || matches!(self, Self::Rejected { .. }),
        }
    }

    /// Does the error depend on values of the object?
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

/// Returns an API server's answer as one line, with control characters made visible. Errors of the client (no
/// connection, an answer that cannot be parsed) are named and not quoted, since they may contain what was
/// sent. In answers about a Secret, everything that depends on a value has already been removed by
/// `cluster::denied`.
pub fn api_answer(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            visible_line(&status.message).into_owned()
        }
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        kube::Error::SerdeError(_) => "the API server's answer is not understood".into(),
        _ => "the API server cannot be reached".into(),
    }
}

/// Returns a function that adds the failed operation to an API server's error.
pub(crate) fn api(doing: &'static str) -> impl Fn(kube::Error) -> StoreError {
    move |answer| StoreError::Api {
        doing,
        answer: Box::new(answer),
    }
}

/// Returns the object, or the error of an operation that cannot read it.
pub(crate) fn readable<K>(object: Readable<K>, doing: &'static str) -> Result<K, StoreError> {
    object.object().ok_or(StoreError::Unreadable { doing })
}

/// A place where SealedSecrets and Secrets are stored. Two calls for the same object never run concurrently.
pub trait Store: Send + Sync + 'static {
    /// Returns what is known about a settled object, if that may suffice to see that nothing has to be done.
    fn glance(&self, _id: &ObjectId) -> Option<Glance> {
        None
    }

    /// Fetches everything about one object.
    fn gather(
        &self,
        id: &ObjectId,
        look: Look,
    ) -> impl Future<Output = Result<Observed, StoreError>> + Send;

    /// Applies a plan that was made from the result of [`Self::gather`]. After an error, and after a crash at
    /// any time, either all old or all new values are in place.
    fn apply(
        &self,
        id: &ObjectId,
        plan: Plan,
    ) -> impl Future<Output = Result<Applied, StoreError>> + Send;

    /// Records a status of the object with that [`Observed::uid`]; `None` removes the status of a deleted
    /// object. Another object that has the name by then is not changed.
    fn record(
        &self,
        id: &ObjectId,
        uid: Option<&str>,
        status: Option<SealedSecretStatus>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns whether clients that may not read the values can see when the store is written to, and what is
    /// reported.
    fn is_public(&self) -> bool {
        false
    }

    /// Records that the observed version of the SealedSecret was reconciled, whether or not the status can
    /// record it.
    fn note_unsealed(&self, _id: &ObjectId, _observed: &Observed) {}

    /// Records the same of an object that was recognised by [`Self::glance`].
    fn note_recognised(&self, _id: &ObjectId, _identity: Identity) {}

    /// Releases the data of an object that is up to date.
    fn rest(&self, _id: &ObjectId) {}

    /// Reports an event about the object. A failure to report is ignored, since the status says the same.
    fn announce(&self, _id: &ObjectId, _news: News) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
