//! libFuzzer entry point for [`fuzz::dotenv_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::dotenv_text(bytes));
