//! libFuzzer entry point for [`fuzz::merged_versions`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::merged_versions(bytes));
