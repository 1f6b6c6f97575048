//! The program `seal-deliver`, for roles that receive values and cannot unseal any.

use std::alloc::System;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use roles::failure::Failure;
use roles::{agent, exec, node, report};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all freed memory, since libraries copy values to their own buffers.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// The exit code of a failure or of wrong usage, as in `seal`.
const EXIT_FAILURE: u8 = 2;

#[derive(Debug, Subcommand)]
enum Role {
    /// Write values to files in a Pod, without a Secret
    Agent(agent::Agent),
    /// Run a command in a Pod, with values in its environment
    Exec(exec::Exec),
    /// Deliver values to volumes of the Secrets Store CSI driver; runs on each node
    Node(node::Node),
}

#[derive(Debug, Parser)]
#[command(
    name = "seal-deliver",
    version,
    about = "Receive values of SealedSecrets from the controller, in a cluster. This program holds no key and decrypts nothing.",
    arg_required_else_help = true
)]
struct Args {
    #[command(subcommand)]
    role: Role,
}

fn main() -> ExitCode {
    // If the operating system refuses, the program continues without this protection.
    let _ = hardening::forbid_dumps();
    let matches = program().try_get_matches();
    match matches.and_then(|matches| Args::from_arg_matches(&matches)) {
        Ok(args) => finish(run(&args.role)),
        Err(stop) => usage(&stop),
    }
}

/// Returns the command-line definition. The examples in the help name this program instead of `seal`.
fn program() -> clap::Command {
    Args::command().mut_subcommands(|command| {
        let help = command.get_after_help().map(ToString::to_string);
        command.after_help(roles::with_program(
            &help.unwrap_or_default(),
            "seal-deliver",
        ))
    })
}

fn run(role: &Role) -> Result<(), Failure> {
    let variables = |name: &str| std::env::var_os(name);
    let result = match role {
        Role::Agent(args) => agent::run(args, variables, None),
        Role::Exec(args) => exec::run(&args.command(), variables),
        Role::Node(args) => node::run(args),
    };
    Ok(result?)
}

fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::write_stderr(&format!("error: {failure}\n"));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Prints help to stdout, and an error about arguments to stderr.
fn usage(stop: &clap::Error) -> ExitCode {
    let text = stop.render().to_string();
    if stop.use_stderr() {
        report::write_stderr(&text);
        return ExitCode::from(EXIT_FAILURE);
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
