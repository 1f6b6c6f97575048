//! The functions of `kubeseal` and `seal`, without a command line.
//!
//! The library never prints and does not depend on clap. The crate `kubeseal-rs` parses arguments, calls the
//! library and prints the results.
//!
//! The calling program decides what to show. For example, the values of a dotenv file:
//!
//! ```
//! use kubeseal_library::dotenv;
//!
//! let variables = dotenv::parse(b"# the database\nexport DB_PASSWORD='hunter2'\n")?;
//! assert_eq!(variables[0].name, "DB_PASSWORD");
//! assert_eq!(variables[0].value.expose(), b"hunter2");
//! assert_eq!(variables[0].line, 2);
//!
//! let error = dotenv::parse(b"DB_PASSWORD='hunter2\n").unwrap_err();
//! assert_eq!(error.to_string(), "line 1: the quotes are never closed");
//! # Ok::<(), dotenv::DotenvError>(())
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`recipe`], [`dotenv`] | random values; dotenv files |
//! | [`typed`] | checks of certificates and private keys in Secrets of built-in types |
//! | [`rules`] | `.seal.yaml`: how files that match a path are sealed |
//! | [`certificate`] | the source of the certificate, and whether it is trusted |
//! | [`recipients`] | the public keys that v2 values are sealed for |
//! | [`cluster`] | the controller, through the API server |
//! | [`inventory`] | everything that is sealed, in files and in a cluster |
//! | [`keys`] | key Secrets: reading, marking, backup and restore; which objects need which key |
//! | [`kubeconfig`] | the namespace of the current context, without a Kubernetes client |
//! | [`git`], [`programs`] | work trees, branches and history in Git; finding external programs |
//! | [`repeated`] | repeated keys in files with v2 values |
//! | [`walk`], [`loose`] | manifests below directories, tracked by Git or not ignored; sealed values outside a SealedSecret |
//! | [`object`] | a SealedSecret for display: structure, lines, hints |
//! | [`merge`] | merging three versions of a file, for Git |
//! | [`finding`] | the rules of `seal lint` |
//! | [`proxies`], [`web`] | the proxy for a server; HTTP requests to servers other than the API server |
//! | [`files`], [`bounded`] | reading stdin and files with size limits; atomic writes |
//! | [`environment`] | clock, environment and terminal, in one place |
//! | [`platform`] | differences between operating systems |
//! | [`mod@format`], [`shown`], [`redacted`] | documents as text; untrusted text for display; URLs without credentials |
//! | [`notice`], [`progress`] | messages about conditions that do not stop a run; the progress of a long run |
//! | [`parallel`] | work on several threads, with results in order |

pub mod bounded;
pub mod certificate;
pub mod cluster;
pub mod dotenv;
pub mod environment;
pub mod files;
pub mod finding;
pub mod format;
pub mod git;
pub mod inventory;
pub mod keys;
pub mod kubeconfig;
pub mod loose;
pub mod merge;
pub mod notice;
pub mod object;
pub mod parallel;
pub mod platform;
pub mod progress;
pub mod proxies;
pub mod recipe;
pub mod recipients;
pub mod redacted;
pub mod repeated;
pub mod rules;
pub mod shown;
pub mod typed;
pub mod walk;
pub mod web;

pub use hardening::programs;
