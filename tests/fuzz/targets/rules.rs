//! libFuzzer entry point for [`fuzz::rules_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::rules_text(bytes));
