//! Fair shares of limited resources, so that a tenant with much work delays only itself.
//!
//! The crate depends on no crate with keys or values: the controller shares its work among namespaces and callers, and
//! the provider of the CSI driver the requests of a node.
//!
//! | module | content |
//! |---|---|
//! | `shares` | [`Shares`], start-time fair queuing over tenants, and [`max_each`] |
//! | `slots` | `Slots`, for which jobs wait; with the feature `slots` |

mod shares;
#[cfg(feature = "slots")]
mod slots;

pub use shares::{Shares, max_each};
#[cfg(feature = "slots")]
pub use slots::{Job, Slot, Slots};
