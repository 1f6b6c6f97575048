//! The command lines of `kubeseal` and `seal`. They parse the arguments into a command, read its input, run the command
//! and write the result. The crate `kubeseal_library` does the work behind the commands.
//!
//! | module | owns |
//! |---|---|
//! | [`kubeseal_args`] | parsing the flags and variables of `kubeseal` into a [`command::Request`] |
//! | [`command`] | running a `kubeseal` command |
//! | [`seal_args`] | parsing the command line of `seal` into a [`seal_args::Command`] |
//! | [`seal`] | running a `seal` command: one module for each |
//! | [`pages`] | shell completions and manual pages |
//! | [`failure`] | the failure of a `seal` command, with hints for the user |
//! | [`interrupt`] | signals during a long run |
//! | `prompt` | questions on the terminal |
//! | [`report`] | messages, error chains, hints and exit codes |

pub mod command;
pub mod failure;
pub mod interrupt;
pub mod kubeseal_args;
pub mod pages;
mod prompt;
pub mod report;
pub mod seal;
pub mod seal_args;
