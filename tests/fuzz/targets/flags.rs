//! libFuzzer entry point for [`fuzz::flag_words`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::flag_words(bytes));
