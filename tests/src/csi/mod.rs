//! The real Secrets Store CSI driver on a node, and providers for it.

mod controller;
mod driver;
mod provider;
mod status;

pub use controller::FakeController;
pub use driver::Driver;
pub use provider::Provider;
pub use status::{StatusChanges, create_class, create_class_with, failures, versions, volume};

/// The name that volumes and the `CSIDriver` object use for the driver.
pub const DRIVER: &str = "secrets-store.csi.k8s.io";

/// The attribute with the tokens of a Pod.
pub const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
