//! The drop-in for the peer's `kubeseal`.

use std::alloc::System;
use std::process::ExitCode;

use kubeseal_rs::surroundings::Surroundings;
use kubeseal_rs::{command, interrupt, kubeseal_args, report};
use zeroizing_alloc::ZeroAlloc;

/// Wipes whatever is freed: keys and values pass through buffers that are not ours.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // Where the system refuses, nothing else is weaker for it.
    let _ = hardening::forbid_dumps();
    interrupt::survive_the_file_size_limit();
    let surroundings = Surroundings::of_this_process();
    let words = std::env::args_os().skip(1);
    match kubeseal_args::parse(words, |name| std::env::var_os(name)) {
        Ok(request) => report::finish(command::run(&request, &surroundings)),
        Err(stop) => report::stop(stop),
    }
}
