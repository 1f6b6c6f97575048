//! What the reconciler needs of a place where SealedSecrets and Secrets live.

pub mod cluster;
pub mod directory;

use std::future::Future;
use std::sync::Arc;

use controller_core::decide::{Existing, Plan};
use controller_core::no_secret::is_legacy;
use controller_core::object_id::ObjectId;
use shared::record::Identity;
use shared::resource::{SealedSecret, SealedSecretStatus, SecretRecord};
use shared::secret::Secret;
use shared::visible_line;

use crate::folder::FileError;
use crate::pool::Stopped;

/// The SealedSecret as it is now.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// There is one.
    Sealed(Arc<SealedSecret>),
    /// There is one that cannot be used; a sentence why.
    Malformed(String),
    /// There was one, and it is certain that there is none any more.
    Gone,
}

/// Everything about one object, fetched at one time.
#[derive(Debug)]
pub struct Observed {
    /// The SealedSecret.
    pub source: Source,
    /// Its `uid`, where a server gives one: another object may have its name soon.
    pub uid: Option<String>,
    /// The Secret of that name.
    pub existing: Existing,
    /// The generation of the SealedSecret, whether it can be used or not.
    pub generation: Option<i64>,
    /// The status recorded last.
    pub status: Option<SealedSecretStatus>,
    /// Is the SealedSecret the one that was unsealed last, whatever failed since? If so, a difference
    /// between it and the Secret is somebody else's edit.
    pub settled: bool,
    /// Was the Secret taken for absent without a look? Only where [`Look::Guess`] allowed it.
    pub guessed: bool,
    /// Does nothing show that any version of the SealedSecret was ever reconciled?
    pub is_fresh: bool,
}

impl Observed {
    /// Is the SealedSecret the same in both, in all that its Secret comes of?
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

/// How [`Store::gather`] learns of the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// By fetching it.
    Fetch,
    /// As [`Self::Fetch`], but an object that nothing was recorded of may be taken for one without a
    /// Secret: making it tells whether that was right.
    Guess,
}

/// What is known about one object without fetching anything.
#[derive(Debug)]
pub struct Glance {
    /// The SealedSecret.
    pub identity: Identity,
    /// Does it ask that edits of its Secret be left as they are?
    pub opts_out: bool,
    /// Its label `app.kubernetes.io/instance`.
    pub instance: String,
    /// What the status recorded last tells of the Secret.
    pub record: SecretRecord,
    /// `uid` and `resourceVersion` of the Secret as last heard of.
    pub secret: (String, String),
}

/// What became of a plan.
#[derive(Debug)]
pub enum Applied {
    /// It was carried out. The Secret as it is stored now, where that was told.
    Done(Option<Box<Secret>>),
    /// There is a Secret although none was expected; this one was not made.
    Exists(Box<Secret>),
}

/// What people watching the object should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Is something wrong?
    pub is_warning: bool,
    /// One word for programs: the peer's, or one of ours where the peer has none.
    pub reason: &'static str,
    /// A sentence for people, without any value.
    pub message: String,
}

/// A store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The item cannot be the name of a file.
    #[error(
        "item {0:?} cannot be a file: names have 1 to 253 of the characters a-z, A-Z, 0-9, -, _ and ., \
         are not `.` and do not begin with `..`"
    )]
    ItemName(String),
    /// The API server said no, or nothing.
    #[error("{doing}: {}", api_answer(answer))]
    Api {
        /// What was asked of it.
        doing: &'static str,
        /// Its answer, shown by [`api_answer`] and not as a source.
        answer: Box<kube::Error>,
    },
    /// The API server does not accept what is in the Secret.
    #[error("{doing}: {}", public.as_deref().unwrap_or("its values are not accepted"))]
    Rejected {
        /// What was asked of it.
        doing: &'static str,
        /// What is wrong, if that is the same for all values.
        public: Option<String>,
    },
    /// The store is not asked again; it failed before with these words.
    #[error("{text}")]
    AsBefore {
        /// The words.
        text: String,
        /// As [`Self::is_stalled`] was.
        is_stalled: bool,
    },
    /// It came into being between two looks.
    #[error("cannot create the Secret: another client creates and deletes it at the same time")]
    Exists,
    /// Others write the same object all the time.
    #[error("cannot update the status: the object is modified again and again")]
    Contended,
    /// The process is ending.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl StoreError {
    /// Would the same happen again until the SealedSecret changes?
    pub fn is_final(&self) -> bool {
        matches!(self, Self::ItemName(_))
    }

    /// Does it take a person to get on, although it is tried again?
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
            | Self::AsBefore { .. }
            | Self::Exists
            | Self::Contended
            | Self::Stopped(_) => false,
        }
    }
}

/// What an API server said, in one line that hides nothing. Answers that it could not form, or that we do not
/// understand, are named and not quoted: they may hold what was sent. Of answers to a Secret, what may
/// tell a value has been left out before, by `cluster::denied`.
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

/// Names what was asked of the API server when it did not do it.
pub(crate) fn api(doing: &'static str) -> impl Fn(kube::Error) -> StoreError {
    move |answer| StoreError::Api {
        doing,
        answer: Box::new(answer),
    }
}

/// A place where SealedSecrets and Secrets live. No two calls for one object run at once.
pub trait Store: Send + Sync + 'static {
    /// What is known about an object that is settled, if that may be enough to see that nothing is to
    /// be done.
    fn glance(&self, _id: &ObjectId) -> Option<Glance> {
        None
    }

    /// Fetches everything about one object.
    fn gather(
        &self,
        id: &ObjectId,
        look: Look,
    ) -> impl Future<Output = Result<Observed, StoreError>> + Send;

    /// Carries out a plan that was made from what [`Self::gather`] gave. After an error, and after
    /// the end of the process at any instant, the values are the old or the new ones as a whole.
    fn apply(
        &self,
        id: &ObjectId,
        plan: Plan,
    ) -> impl Future<Output = Result<Applied, StoreError>> + Send;

    /// Records a status of the object with that [`Observed::uid`], or with `None` that there is none
    /// because the object is gone. Another object that has its name by now gets none of it.
    fn record(
        &self,
        id: &ObjectId,
        uid: Option<&str>,
        status: Option<SealedSecretStatus>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// May others than the owner of the values see when it is written to, and what is reported?
    fn is_public(&self) -> bool {
        false
    }

    /// The version of the SealedSecret that was observed has been reconciled, whether that can be recorded
    /// or not.
    fn note_unsealed(&self, _id: &ObjectId, _observed: &Observed) {}

    /// The object is as it shall be: nothing of it need be kept at hand.
    fn rest(&self, _id: &ObjectId) {}

    /// Tells those who watch the object. News that cannot be told are no failure: the status says
    /// the same.
    fn announce(&self, _id: &ObjectId, _news: News) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
