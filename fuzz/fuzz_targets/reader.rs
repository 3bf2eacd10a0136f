//! See `harness/reader.rs`.
#![no_main]

#[path = "../harness/reader.rs"]
mod reader;

libfuzzer_sys::fuzz_target!(|data: &[u8]| reader::check(data));
