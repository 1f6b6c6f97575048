//! What `kubeseal` and `seal` do: words typed → one [`command::Command`] → read, pure verb, write.
//!
//! | module | owns |
//! |---|---|
//! | [`kubeseal_args`] | the peer's flags and variables → a [`command::Command`] |
//! | [`command`] | running it |
//! | [`certificate`] | where the certificate comes from: file or URL |
//! | [`cluster`] | the controller, through the API server |
//! | [`kubeconfig`] | the namespace of the current context, without a Kubernetes client |
//! | [`files`] | stdin and files in; files out, all or nothing |
//! | [`surroundings`] | clock, environment and terminal, in one place |
//! | [`report`] | error chain, hints, exit code |

pub mod certificate;
pub mod cluster;
pub mod command;
pub mod files;
pub mod kubeconfig;
pub mod kubeseal_args;
pub mod report;
pub mod surroundings;
