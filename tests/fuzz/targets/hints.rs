//! libFuzzer's door to [`fuzz::hints_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::hints_text(bytes));
