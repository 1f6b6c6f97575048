//! The parameters of a `SecretProviderClass` for the provider `sealed`.
//!
//! The provider on a node and `seal lint` read them with the same functions, so a class that `seal lint` accepts can be
//! mounted, as far as its text shows. The authors of classes and Pods choose the text freely, so it proves nothing.
//!
//! | module | content |
//! |---|---|
//! | [`objects`] | the parameter `objects`: what to deliver |
//! | [`encoding`] | values that are stored as text |
//! | [`yaml`] | YAML without types, anchors, aliases and tags |

pub mod encoding;
pub mod objects;
pub mod yaml;

/// The name of the provider in `spec.provider` of a `SecretProviderClass`.
pub const PROVIDER: &str = "sealed";

/// The name of the parameter that lists what to deliver.
pub const OBJECTS: &str = "objects";
