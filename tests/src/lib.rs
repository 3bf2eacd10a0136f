//! Code that the examples and tests of several crates share.
//!
//! The tests that run the program `heartbeat` against third-party servers are in `tests/interop`.
//!
//! Nothing here depends on the adapters, so that their examples can depend on it.

#![allow(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "this crate is never built without std"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a server that freezes for real runs on the real clock"
)]

#[cfg(feature = "fleet")]
pub mod fleet;
pub mod frames;
pub mod lines;
pub mod peer;
pub mod split_mix;
#[cfg(target_os = "linux")]
pub mod torture;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
