//! libFuzzer entry point for [`fuzz::http_body`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::http_body(bytes));
