//! Daily work on sealed files and trees.

use std::process::ExitCode;

use kubeseal_rs::surroundings::Surroundings;
use kubeseal_rs::{report, seal, seal_args};

fn main() -> ExitCode {
    let surroundings = Surroundings::of_this_process();
    match seal_args::parse(std::env::args_os()) {
        Ok(command) => report::finish_seal(seal::run(&command, &surroundings)),
        Err(stop) => report::stop(stop),
    }
}
