//! Runs the template fuzz target on mutated templates of the corpus. The target must not panic or exceed the budget.
//!
//! `SEALED_SECRETS_FUZZ_SECONDS=600 cargo test -p tests --test local templates::fuzz` fuzzes for ten minutes. A
//! coverage-guided fuzzer calls the same function, `template::fuzz`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::format_push_string,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::time::{Duration, Instant};

use super::corpus;
use super::generate::RandomGenerator;

/// The time limit for one run, far above the target's small budget even on a busy machine without optimization.
const RUN_LIMIT: Duration = Duration::from_secs(10);

/// Returns a template of the corpus with random changes, or a mix of two templates.
fn mutate(random: &mut RandomGenerator, corpus: &[(String, String)]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].1.clone().into_bytes();
    for _ in 0..=random.below(4) {
        let start = random.below(bytes.len() + 1);
        let end = (start + random.below(12)).min(bytes.len());
        match random.below(5) {
            0 => drop(bytes.drain(start..end)),
            1 => {
                let piece = bytes[start..end].repeat(1 + random.below(40));
                bytes.splice(start..start, piece);
            }
            2 => {
                let other = corpus[random.below(corpus.len())].1.as_bytes();
                let other_start = random.below(other.len() + 1);
                bytes.splice(start..end, other[other_start..].iter().copied());
            }
            3 => bytes.insert(start, b"{}()|.$\"'`-*/=: \n\0\xff19"[random.below(21)]),
            _ => {
                let number = [
                    "99999999999",
                    "-1",
                    "0",
                    "1e308",
                    "2147483648",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "70000",
                ][random.below(8)];
                bytes.splice(start..end, number.bytes());
            }
        }
    }
    bytes
}

/// Attack: an author submits random mutations of templates, to crash or exhaust the controller.
#[test]
fn mutated_templates_neither_panic_nor_exceed_the_budget() {
    let seconds = std::env::var("SEALED_SECRETS_FUZZ_SECONDS")
        .map_or(5, |text| text.parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let corpus = corpus::templates();
    let mut random = RandomGenerator::new(
        std::env::var("SEALED_SECRETS_FUZZ_SEED").map_or(1, |text| text.parse().expect("a number")),
    );
    let mut rng = shared::random::system();
    let mut runs = 0;
    while Instant::now() < end {
        let bytes = mutate(&mut random, &corpus);
        let start = Instant::now();
        template::fuzz(&bytes, &mut rng);
        assert!(
            start.elapsed() < RUN_LIMIT,
            "{:?} took {:?}",
            String::from_utf8_lossy(&bytes),
            start.elapsed()
        );
        runs += 1;
    }
    assert!(runs > 100, "only {runs} runs");
}
