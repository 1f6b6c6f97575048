//! libFuzzer entry point for [`fuzz::base64_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::base64_text(bytes));
