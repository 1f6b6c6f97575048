//! Helpers shared by unit tests.

use controller_core::object_id::ObjectId;
pub(crate) use lease::testing::{client, refusal};

/// Returns the id of an object in the namespace `ns`.
pub(crate) fn id(name: &str) -> ObjectId {
    ObjectId {
        namespace: "ns".into(),
        name: name.into(),
    }
}
