//! libFuzzer entry point for [`fuzz::envelope_bytes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::envelope_bytes(bytes));
