//! libFuzzer entry point for [`fuzz::rotate_by_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::rotate_by_text(bytes));
