//! libFuzzer entry point for [`fuzz::flag_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::flag_text(bytes));
