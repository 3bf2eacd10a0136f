//! See `harness/frames.rs`.
#![no_main]

#[path = "../harness/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frames::check(data));
