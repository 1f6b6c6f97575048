//! The protocol between the controller and the programs that fetch values for a Pod: `POST` [`ENDPOINT`].
//!
//! Both sides use these types and check what they receive: the controller checks a [`Request`], and an agent checks a
//! [`Response`]. The crate contains neither a client nor a runtime.
//!
//! ```
//! use deliver::{EntryBody, Request, RequestBody};
//!
//! let body = RequestBody {
//!     objects: vec![EntryBody {
//!         sealed_secret: Some("db".into()),
//!         path: Some("db/".into()),
//!         ..EntryBody::default()
//!     }],
//!     ..RequestBody::default()
//! };
//! let request = Request::try_from(body.clone())?;
//! assert_eq!(request.object_names().into_iter().collect::<Vec<_>>(), ["db"]);
//! assert_eq!(body.to_json(), br#"{"objects":[{"sealedSecret":"db","path":"db/"}]}"#);
//! # Ok::<(), deliver::RequestError>(())
//! ```

mod body;
mod failure;
mod layout;
mod mode;
mod path;
pub mod report;
mod request;
mod request_error;
mod response;
mod text;
mod value;

pub use body::{EntryBody, RequestBody};
pub use failure::Failure;
pub use layout::{Layout, LayoutError};
pub use mode::{Mode, ModeError};
pub use path::{FilePath, PathError};
pub use request::{Destination, Entry, ObjectEntry, Request, TemplateEntry, is_object_name};
pub use request_error::{EntryProblem, RequestError};
pub use response::{DeliveredFile, DeliveredObject, Response, ResponseError};
pub use value::Value;

/// The path of the endpoint.
pub const ENDPOINT: &str = "/v1/deliver";

/// The audience of accepted tokens. Tokens with further audiences are refused.
pub const AUDIENCE: &str = "sealed-secrets.bitnami.com";

/// Annotation of a SealedSecret whose values are only delivered: with the value [`DELIVER_FILES`], the controller
/// creates no Secret.
pub const DELIVER_ANNOTATION: &str = "sealedsecrets.bitnami.com/deliver";

/// The value of [`DELIVER_ANNOTATION`].
pub const DELIVER_FILES: &str = "files";

/// Maximum size of a request in bytes.
pub const MAX_REQUEST: usize = 256 << 10;
/// Maximum number of entries in a request.
pub const MAX_ENTRIES: usize = 64;
/// Maximum number of distinct SealedSecrets in a request.
pub const MAX_OBJECTS: usize = 32;
/// Maximum size of a template in bytes.
pub const MAX_TEMPLATE: usize = 64 << 10;
/// Maximum number of files in a response.
pub const MAX_FILES: usize = 1000;
/// Maximum total size of the values in a response in bytes.
pub const MAX_VALUES: usize = 3 << 20;
/// Maximum size of a response in bytes. The largest permitted values in base64 fit, with the longest paths for all
/// files.
pub const MAX_RESPONSE: usize = 8 << 20;
/// Maximum number of seconds that a request may wait for a change.
pub const MAX_WAIT: u16 = 300;
/// Maximum size of a revision in bytes.
pub const MAX_REVISION: usize = 128;
