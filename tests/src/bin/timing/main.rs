//! Tests whether failures to decrypt a value can be distinguished by their time: in the function that
//! decrypts, over HTTP with our controller, and over HTTP with Bitnami's for comparison. Exits with 1 if ours
//! can.
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

use std::process::ExitCode;

use tests::timing::{CERTAIN, Comparison};

/// Enough to detect a hundredth of the time of one private-key operation on a busy machine.
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
    println!("In the function that opens a value of 64 KiB:");
    for (name, found) in causes::in_the_function(count) {
        differs |= show(&name, found);
    }
    println!("\nOne private-key operation on chosen ciphertexts:");
    for (name, found) in private_key::on_chosen_ciphertexts(count) {
        differs |= show(&name, found);
    }
    println!("\nPOST /v1/verify of our controller:");
    for (name, found) in over_http::ours(count) {
        differs |= show(&name, found);
    }
    println!("\nPOST /v1/verify of upstream's controller, for comparison:");
    for (name, found) in over_http::upstreams(count).await {
        show(&name, found);
    }
    ExitCode::from(u8::from(differs))
}

fn show(name: &str, found: Comparison) -> bool {
    let Comparison { first, second, t } = found;
    let differs = t > CERTAIN;
    let verdict = if differs { "DIFFERS" } else { "" };
    println!(
        "  {name:<58} {:>9.1} and {:>9.1} µs  |t| = {t:>5.1} {verdict}",
        first / 1000.0,
        second / 1000.0
    );
    differs
}
