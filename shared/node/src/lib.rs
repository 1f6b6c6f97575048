//! A provider of the Secrets Store CSI driver: the driver asks it for the files of a volume, and it asks the controller
//! with the token of the Pod.
//!
//! This crate can decrypt nothing. It depends neither on the sealing core nor on a crate with private keys, and `.ci/run`
//! checks it. It has no token of its own and stores no value, version or token: each request contains the token of its
//! Pod, and each answer all files.
//!
//! | module | content |
//! |---|---|
//! | [`server`] | the socket, connections, deadlines, shutdown |
//! | [`client`] | calls of a provider, for its probe and for tests |
//! | `calls` | the methods of the service `v1alpha1.CSIDriverProvider` |
//! | `mount` | from the attributes of a volume to its files |
//! | `attributes`, `objects`, [`yaml`], `encoding` | what attributes mean; they come from the Pod's author, and prove nothing |
//! | `controller` | requests to the controller |
//! | [`metrics`] | requests and mounts by outcome |
//! | `failure` | failures, only with codes after which kubelet mounts again |
//! | `frame`, `protobuf` | messages of gRPC |
//! | `socket` | the socket's file |

#![cfg(target_os = "linux")]

mod attributes;
mod calls;
pub mod client;
mod controller;
mod encoding;
mod failure;
mod frame;
pub mod metrics;
mod mount;
mod objects;
mod protobuf;
pub mod server;
mod socket;
pub mod yaml;

pub use socket::SocketError;

/// The name of the provider in `spec.provider` of a `SecretProviderClass`.
pub const PROVIDER: &str = "sealed";
