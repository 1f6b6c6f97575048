//! The fuzz target: parser and evaluator on arbitrary bytes, within a small budget.

use rand::CryptoRng;

use crate::{Budget, Context, Data, Template};

/// The budget of one run, small enough for thousands of runs per second. Allows no keys and no slow hashes.
const BUDGET: Budget = Budget {
    steps: 100_000,
    output: 1 << 16,
    value: 1 << 16,
    memory: 1 << 20,
    depth: 100,
    keys: 0,
    hashes: 0,
    work: 0,
};

/// Parses the bytes up to the first zero byte as a template and renders it with the rest as a value.
///
/// # Panics
/// Panics if a result exceeds the budget, or an error points outside the text.
pub fn fuzz(bytes: &[u8], rng: &mut dyn CryptoRng) {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let data = Data::new([("a", parts.next().unwrap_or_default()), ("user", b"app")]);
    let lines = text.split('\n').count();
    match Template::parse("t", &text) {
        Err(error) => assert!(
            error.line <= lines && error.column <= text.len() + 1,
            "the position is outside the text"
        ),
        Ok(template) => {
            let mut context = Context {
                budget: BUDGET,
                now: jiff::Timestamp::UNIX_EPOCH,
                rng,
            };
            match template.render(&data, &mut context) {
                Err(error) => assert!(error.line <= lines, "the position is outside the text"),
                Ok(out) => assert!(out.len() <= BUDGET.output, "the output exceeds the budget"),
            }
        }
    }
}
