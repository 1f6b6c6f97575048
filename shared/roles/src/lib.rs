//! The roles that receive values and cannot unseal any: `agent`, `exec` and `node`, as subcommands of the program
//! `seal-deliver`.
//!
//! The image runs the roles from this program, which contains neither the sealing core nor a crate with private keys;
//! `.ci/run` checks this. `seal` runs the same code for its subcommands of these names.
//!
//! | module | content |
//! |---|---|
//! | [`agent`] | `agent`: writes values to files |
//! | [`exec`] | `exec`: runs a command with values in its environment or in files in memory |
//! | [`node`] | `node`: the provider of the Secrets Store CSI driver |
//! | [`delivery`] | the options that name the controller |
//! | [`failure`], [`report`] | failures with hints; messages |
//! | `port` | metrics |
//! | [`process`] | differences between operating systems in how commands are started |

pub mod agent;
pub mod delivery;
pub mod exec;
pub mod failure;
pub mod node;
#[cfg(target_os = "linux")]
mod port;
pub mod process;
pub mod report;

use std::ffi::OsString;

/// A function that returns the value of an environment variable.
pub type Variables = fn(&str) -> Option<OsString>;

/// A function that checks the text of a template. Errors contain `name`.
pub type CheckTemplate = fn(name: &str, text: &str) -> Result<(), String>;

/// Replaces `seal` with the name of another program in the examples of a subcommand's help. `seal grant` stays
/// unchanged, because administrators run it on their own machines.
pub fn with_program(help: &str, program: &str) -> String {
    ["agent", "exec", "node"]
        .iter()
        .fold(help.to_owned(), |help, role| {
            help.replace(&format!("seal {role}"), &format!("{program} {role}"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_name_the_program() {
        let help = "Needs `seal grant`.\n  seal agent --ready\n  seal node --check";
        assert_eq!(
            with_program(help, "seal-deliver"),
            "Needs `seal grant`.\n  seal-deliver agent --ready\n  seal-deliver node --check"
        );
    }
}
