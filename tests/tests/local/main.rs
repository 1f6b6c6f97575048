//! Tests that need no control plane. All tests are in one program, because linking a program for each file takes
//! minutes.

mod core_dumps;
mod definition;
mod denial;
mod directory_crash;
mod directory_upstream;
mod documentation;
mod interop;
mod kubeseal_differential;
mod kubeseal_many;
mod kubeseal_v2;
mod linked;
mod same_user;
mod scope_matrix;
mod seal_canary;
mod seal_examples;
mod seal_import_sops;
mod seal_layout;
mod seal_trees;
mod security_claims;
mod supply_chain;
mod templates;
