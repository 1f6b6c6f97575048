//! libFuzzer entry point for [`fuzz::recipe_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::recipe_text(bytes));
