//! libFuzzer entry point for [`fuzz::linted_template`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::linted_template(bytes));
