//! The command line for daily work on sealed files and trees.

use std::alloc::System;
use std::process::ExitCode;

use kubeseal_rs::{interrupt, report, seal, seal_args};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all freed memory, since libraries copy keys and values to their own buffers.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // If the operating system refuses, the program runs without this protection.
    let _ = hardening::forbid_dumps();
    interrupt::survive_the_file_size_limit();
    let environment = report::environment();
    match seal_args::parse(std::env::args_os()) {
        Ok(command) => report::finish_seal(seal::run(&command, &environment)),
        Err(stop) => report::stop(stop),
    }
}
