//! The command lines of `kubeseal` and `seal`: arguments → `Command` → read, process, write. What they do is in the
//! crate `kubeseal_library`.
//!
//! | module | owns |
//! |---|---|
//! | [`kubeseal_args`] | upstream's flags and variables → a [`command::Command`] |
//! | [`command`] | running it |
//! | [`seal_args`] | the command line of `seal` → a [`seal_args::Command`] |
//! | [`seal`] | running it: one module for each command |
//! | [`pages`] | shell completions and manual pages |
//! | [`interrupt`] | signals during a long run |
//! | `prompt` | questions on the terminal |
//! | [`report`] | messages, error chains, hints and exit codes |

pub mod command;
pub mod interrupt;
pub mod kubeseal_args;
pub mod pages;
mod prompt;
pub mod report;
pub mod seal;
pub mod seal_args;
