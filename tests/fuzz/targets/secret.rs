//! libFuzzer entry point for [`fuzz::secret_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::secret_text(bytes));
