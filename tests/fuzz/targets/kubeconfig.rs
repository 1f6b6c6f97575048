//! libFuzzer entry point for [`fuzz::kubeconfig_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::kubeconfig_text(bytes));
