//! Decisions of the controller, as pure functions over plain data.
//!
//! Nothing here performs I/O, reads a clock or generates randomness: the crate depends on neither `kube` nor
//! `tokio`. The crate `controller` fetches the data, calls these functions and carries the results out.
//!
//! | module | input → result |
//! |---|---|
//! | [`decide`] | desired and existing Secret → `Plan` |
//! | [`status`] | outcome of an attempt and recorded status → status to record |
//! | [`reason`] | a refusal → its reason, metric, and what can end it |
//! | [`ownership`] | a Secret and its SealedSecret → whether the controller may change it |
//! | [`author_limits`] | a SealedSecret → whether its author may ask for it |
//! | [`drift`] | corrections of a Secret → whether to go on |
//! | [`added_metadata`] | `--secret-labels`, `--secret-annotations` → metadata of the Secret |
//! | [`token_secrets`] | what Kubernetes itself adds to Secrets, which is not drift |
//! | [`no_secret`] | a failure that depends on values → what may be published about it |
//! | [`queue`], [`fair`] | objects to reconcile → which comes next, and when |
//! | [`object_id`], [`fault`] | names of objects, kinds of failures |

pub mod added_metadata;
pub mod author_limits;
pub mod decide;
pub mod drift;
pub mod fair;
pub mod fault;
pub mod no_secret;
pub mod object_id;
pub mod ownership;
pub mod queue;
pub mod reason;
pub mod status;
pub mod token_secrets;
