//! libFuzzer entry point for [`fuzz::class_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::class_text(bytes));
