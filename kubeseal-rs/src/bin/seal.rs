//! Daily work on sealed files and trees.

use std::alloc::System;
use std::process::ExitCode;

use kubeseal_rs::surroundings::Surroundings;
use kubeseal_rs::{interrupt, report, seal, seal_args};
use zeroizing_alloc::ZeroAlloc;

/// Wipes whatever is freed: keys and values pass through buffers that are not ours.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // Where the system refuses, nothing else is weaker for it.
    let _ = hardening::forbid_dumps();
    interrupt::survive_the_file_size_limit();
    let surroundings = Surroundings::of_this_process();
    match seal_args::parse(std::env::args_os()) {
        Ok(command) => report::finish_seal(seal::run(&command, &surroundings)),
        Err(stop) => report::stop(stop),
    }
}
