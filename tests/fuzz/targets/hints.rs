//! libFuzzer entry point for [`fuzz::hints_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::hints_text(bytes));
