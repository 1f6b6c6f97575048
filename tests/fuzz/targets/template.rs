//! libFuzzer entry point for [`fuzz::template_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::template_text(bytes));
