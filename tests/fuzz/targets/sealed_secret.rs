//! libFuzzer entry point for [`fuzz::sealed_secret_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::sealed_secret_text(bytes));
