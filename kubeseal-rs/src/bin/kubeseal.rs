//! The drop-in for the peer's `kubeseal`.

use std::process::ExitCode;

use kubeseal_rs::surroundings::Surroundings;
use kubeseal_rs::{command, kubeseal_args, report};

fn main() -> ExitCode {
    let surroundings = Surroundings::of_this_process();
    let words = std::env::args_os().skip(1);
    match kubeseal_args::parse(words, |name| surroundings.variable(name)) {
        Ok(request) => report::finish(command::run(&request, &surroundings)),
        Err(stop) => report::stop(stop),
    }
}
