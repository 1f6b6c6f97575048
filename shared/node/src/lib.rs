//! A provider for the Secrets Store CSI driver. The driver requests the files of a volume from the provider, which
//! requests the values from the controller with the token of the Pod.
//!
//! This crate cannot decrypt anything. It depends neither on the sealing core nor on a crate that handles private keys;
//! `.ci/run` checks this. The provider has no token of its own and stores no value, version or token: each request
//! contains the token of its Pod, and each response contains all files.
//!
//! | module | content |
//! |---|---|
//! | [`server`] | the socket, connections, deadlines, shutdown |
//! | [`client`] | calls a provider, for its probe and for tests |
//! | `calls` | the methods of the service `v1alpha1.CSIDriverProvider` |
//! | `mount` | turns the attributes of a volume into a request, and the response into files |
//! | `attributes` | parsing of attributes, which the author of the Pod controls; the crate `class` reads `objects` |
//! | `controller` | requests to the controller |
//! | [`metrics`] | requests and mounts by outcome |
//! | `failure` | failures, only with codes that are final for the kubelet |
//! | `frame`, `protobuf` | encoding of gRPC messages |
//! | `socket` | the socket file |

#![cfg(target_os = "linux")]

mod attributes;
mod calls;
pub mod client;
mod controller;
mod failure;
mod frame;
pub mod metrics;
mod mount;
mod protobuf;
pub mod server;
mod socket;

pub use socket::SocketError;
