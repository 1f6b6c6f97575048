//! libFuzzer entry point for [`fuzz::archive_bytes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::archive_bytes(bytes));
