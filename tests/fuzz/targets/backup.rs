//! libFuzzer entry point for [`fuzz::backup_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::backup_text(bytes));
