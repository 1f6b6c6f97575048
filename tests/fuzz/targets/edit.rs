//! libFuzzer entry point for [`fuzz::edited_manifest`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::edited_manifest(bytes));
