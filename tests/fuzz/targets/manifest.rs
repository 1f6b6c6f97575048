//! libFuzzer entry point for [`fuzz::manifest_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::manifest_text(bytes));
