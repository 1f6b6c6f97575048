//! libFuzzer entry point for [`fuzz::key_pem`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::key_pem(bytes));
