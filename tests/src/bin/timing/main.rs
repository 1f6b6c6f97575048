//! Tests whether failures to decrypt a value can be distinguished by their time: in this project's functions, over HTTP
//! with this project's controller, and over HTTP with Bitnami's controller for comparison. Exits with 1 if this
//! project's functions or controller let them be distinguished.
//!
//! `cargo run --release -p tests --bin timing [-- MEASUREMENTS]`; the more measurements, the smaller the
//! detectable difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a check prints its results, and fails by panicking"
)]

mod causes;
mod over_http;
mod private_key;
mod v2_causes;

use std::process::ExitCode;

use tests::timing::{CERTAIN, Comparison};

/// Default number of measurements of each kind of failure in one comparison.
const MEASUREMENTS: usize = 3000;

#[tokio::main]
async fn main() -> ExitCode {
    let count = std::env::args().nth(1).map_or(MEASUREMENTS, |count| {
        count
            .parse()
            .unwrap_or_else(|_| panic!("usage: timing [MEASUREMENTS]"))
    });
    let mut differs = false;
    println!("{count} measurements each; |t| above {CERTAIN} is a difference beyond doubt\n");
    println!("In the function that unseals a value of 64 KiB:");
    for (name, comparison) in causes::compare_in_process(count) {
        differs |= print_comparison(&name, comparison);
    }
    println!("\nIn the function that unseals a v2 item of 64 KiB:");
    for (name, comparison) in v2_causes::compare_in_process(count) {
        differs |= print_comparison(&name, comparison);
    }
    println!("\nOne private-key operation on chosen ciphertexts:");
    for (name, comparison) in private_key::compare_chosen_blocks(count) {
        differs |= print_comparison(&name, comparison);
    }
    println!("\nPOST /v1/verify of this project's controller:");
    for (name, comparison) in over_http::compare_ours(count) {
        differs |= print_comparison(&name, comparison);
    }
    println!("\nPOST /v1/verify of upstream's controller, for comparison:");
    for (name, comparison) in over_http::compare_upstreams(count).await {
        print_comparison(&name, comparison);
    }
    ExitCode::from(u8::from(differs))
}

/// Prints a comparison; returns whether the times differ.
fn print_comparison(name: &str, comparison: Comparison) -> bool {
    let Comparison { first, second, t } = comparison;
    let differs = t > CERTAIN;
    let verdict = if differs { "DIFFERS" } else { "" };
    println!(
        "  {name:<58} {:>9.1} and {:>9.1} µs  |t| = {t:>5.1} {verdict}",
        first / 1000.0,
        second / 1000.0
    );
    differs
}
