//! A drop-in replacement for Bitnami's `kubeseal`.

use std::alloc::System;
use std::process::ExitCode;

use kubeseal_rs::{command, interrupt, kubeseal_args, report};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all freed memory, since libraries copy keys and values to their own buffers.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // If the operating system refuses, the program runs without this protection.
    let _ = hardening::forbid_dumps();
    interrupt::survive_the_file_size_limit();
    let environment = report::environment();
    let args = std::env::args_os().skip(1);
    match kubeseal_args::parse(args, |name| std::env::var_os(name)) {
        Ok(request) => report::finish(command::run(&request, &environment)),
        Err(stop) => report::stop(stop),
    }
}
