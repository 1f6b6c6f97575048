//! libFuzzer entry point for [`fuzz::recipe_words`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::recipe_words(bytes));
