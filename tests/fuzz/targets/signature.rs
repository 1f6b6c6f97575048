//! libFuzzer entry point for [`fuzz::signature_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::signature_text(bytes));
