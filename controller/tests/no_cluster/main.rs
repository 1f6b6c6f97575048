//! Tests the controller without a cluster: on a directory, with a simulated API server, by its endpoints, and as a
//! process. The tests are one program, because linking a program for each file takes minutes. `fair` and
//! `large_objects` are separate programs, because they measure their process.

#[path = "../support/mod.rs"]
mod support;

mod created_secrets;
mod endpoints;
mod forged_statuses;
mod former_values;
mod healing;
mod hostile;
mod interleaved;
mod invented_tokens;
mod keys;
mod lifecycle;
mod other_clients;
mod program;
mod public_information;
mod publication;
mod sealed_endpoints;
mod start;
mod untrusted_clients;
mod v2_directory;
mod v2_keys;
mod v2_objects;
mod v2_recipients;
