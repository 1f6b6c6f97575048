//! libFuzzer entry point for [`fuzz::deliver_bytes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::deliver_bytes(bytes));
