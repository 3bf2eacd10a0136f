//! See `harness/texts.rs`.
#![no_main]

#[path = "../harness/texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|data: &[u8]| texts::check(data));
