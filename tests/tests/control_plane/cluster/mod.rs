//! Tests the controller in a cluster: with a real API server, the controller as a process, and, unless a test changes
//! them, the permissions in Bitnami's manifests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod author_limits;
mod authorized;
mod case;
mod deliver_case;
mod deliver_files;
mod deliver_objects;
mod deliver_tokens;
mod deliver_waits;
mod drift;
mod endpoints;
mod former_values;
mod guesses;
mod health;
mod hygiene;
mod keys;
mod lifecycle;
mod managed_fields;
mod metrics;
mod namespaces;
mod odd_metadata;
mod ownership;
mod published;
mod record;
mod status;
mod templates;
mod types;
mod v2_keys;
mod v2_objects;
mod versions;
