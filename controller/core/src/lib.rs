//! Decisions of the controller.
//!
//! The crate performs no I/O, reads no clock and generates no randomness, and depends on neither `kube` nor `tokio`.
//! The crate `controller` fetches the data, calls these functions and applies the results.
//!
//! | module | input → result |
//! |---|---|
//! | [`decide`] | desired and existing Secret → `Plan` |
//! | [`status`] | outcome of an attempt and recorded status → status to record |
//! | [`reason`] | a refusal → its reason, metric, and what can resolve it |
//! | [`ownership`] | a Secret and its SealedSecret → whether the controller may change the Secret |
//! | [`author_limits`] | a SealedSecret → whether the limits allow its Secret |
//! | [`delivery`] | a SealedSecret → whether its values are only delivered to Pods |
//! | [`drift`] | recent corrections of a Secret → whether the next one has to wait |
//! | [`added_metadata`] | `--secret-labels`, `--secret-annotations` → metadata of the Secret |
//! | [`versions`] | the recorded and the current content version → the versions to record |
//! | [`protected`] | a Secret → its metadata, with the protected labels and annotations restored |
//! | [`token_secrets`] | desired and existing Secret of a service account token → desired Secret with the additions of Kubernetes |
//! | [`names_size`] | a Secret → the size of its item keys, labels and annotations |
//! | [`public_size`] | a SealedSecret and its values → their size as everyone can see it |
//! | [`no_secret`] | a failure that depends on values → a report that reveals nothing about them |
//! | [`previous`] | the existing and the desired Secret → the desired Secret with former values |
//! | [`queue`] | objects to reconcile → the next object, and its time |
//! | [`object_id`], [`fault`] | (types) names of objects, kinds of failures |

pub mod added_metadata;
pub mod author_limits;
pub mod decide;
pub mod delivery;
pub mod drift;
pub mod fault;
pub mod names_size;
pub mod no_secret;
pub mod object_id;
pub mod ownership;
pub mod previous;
pub mod protected;
pub mod public_size;
pub mod queue;
pub mod reason;
pub mod status;
pub mod token_secrets;
pub mod versions;
