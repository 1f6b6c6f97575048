//! What `kubeseal` and `seal` do: words typed → a `Command` → read, pure verb, write.
//!
//! | module | owns |
//! |---|---|
//! | [`kubeseal_args`] | the peer's flags and variables → a [`command::Command`] |
//! | [`command`] | running it |
//! | [`seal_args`] | the words of `seal` → a [`seal_args::Command`] |
//! | [`seal`] | running it: one module for each command |
//! | [`recipe`], [`dotenv`] | random values; files of variables |
//! | [`rules`] | `.seal.yaml`: how files on some path are sealed |
//! | [`certificate`] | where the certificate comes from, and whether it can be trusted |
//! | [`cluster`] | the controller, through the API server |
//! | [`keys`] | key Secrets: read, marked, archived, put back; and what needs them |
//! | [`kubeconfig`] | the namespace of the current context, without a Kubernetes client |
//! | [`pages`] | completions and the manual |
//! | [`git`], [`programs`] | the work tree around a file; other people's programs |
//! | [`proxies`] | which proxy leads to a server |
//! | [`files`], [`bounded`] | stdin and files in, up to a size; files out, all or nothing |
//! | [`interrupt`] | signals that end a long run |
//! | [`surroundings`] | clock, environment and terminal, in one place |
//! | `platform` | where operating systems differ |
//! | `prompt`, `web` | questions on the terminal; requests to what is no API server |
//! | [`redacted`] | URLs without credentials |
//! | [`report`], [`progress`] | error chain, hints, exit code; how far a long run is |

pub mod bounded;
pub mod certificate;
pub mod cluster;
pub mod command;
pub mod dotenv;
pub mod files;
pub mod git;
pub mod interrupt;
pub mod keys;
pub mod kubeconfig;
pub mod kubeseal_args;
pub mod pages;
mod parallel;
mod platform;
pub mod programs;
pub mod progress;
mod prompt;
pub mod proxies;
pub mod recipe;
pub mod redacted;
pub mod report;
pub mod rules;
pub mod seal;
pub mod seal_args;
pub mod surroundings;
mod web;
