//! The implementation of `kubeseal` and `seal`: command line → `Command` → read, process, write.
//!
//! | module | owns |
//! |---|---|
//! | [`kubeseal_args`] | upstream's flags and variables → a [`command::Command`] |
//! | [`command`] | running it |
//! | [`seal_args`] | the command line of `seal` → a [`seal_args::Command`] |
//! | [`seal`] | running it: one module for each command |
//! | [`recipe`], [`dotenv`] | random values; files of variables |
//! | [`rules`] | `.seal.yaml`: how files at some path are sealed |
//! | [`certificate`] | where the certificate comes from, and whether it is trusted |
//! | [`cluster`] | the controller, through the API server |
//! | [`keys`] | key Secrets: reading, marking, backup and restore; which objects need which key |
//! | [`kubeconfig`] | the namespace of the current context, without a Kubernetes client |
//! | [`pages`] | shell completions and manual pages |
//! | [`git`], [`programs`] | the work tree around a file; finding external programs |
//! | [`proxies`] | the proxy for a server |
//! | [`files`], [`bounded`] | reading stdin and files with size limits; atomic writes |
//! | [`interrupt`] | signals during a long run |
//! | [`surroundings`] | clock, environment and terminal, in one place |
//! | `platform` | differences between operating systems |
//! | `prompt`, `web` | questions on the terminal; HTTP requests to servers other than the API server |
//! | [`redacted`] | URLs without credentials |
//! | [`report`] | messages, error chains, hints and exit codes |

pub mod command;
pub mod interrupt;
pub mod kubeseal_args;
pub mod pages;
mod prompt;
pub mod report;
pub mod seal;
pub mod seal_args;

pub use kubeseal_library::{
    bounded, certificate, cluster, dotenv, files, git, keys, kubeconfig, parallel, platform,
    programs, progress, proxies, recipe, redacted, rules, surroundings, web,
};
