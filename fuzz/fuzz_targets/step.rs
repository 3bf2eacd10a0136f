//! Any configuration, any events at any times: the machine does what the reference model says, and no
//! invariant is broken. The bytes are read by `heartbeat-kit`.
#![no_main]

#[path = "../../heartbeat-core/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(difference) = support::bytes::check(data) {
        panic!("{difference}");
    }
});
