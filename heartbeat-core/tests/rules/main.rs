//! The rules of the timing logic, each as a test that fails if it is broken. One program for all of
//! them: what is built again for every small change of the core is built once.
#![allow(missing_docs)]

mod accepted;
mod causes;
mod config;
mod dialect_machine;
mod invariants;
mod limiter;
mod memory;
mod phases;
mod renewal;
mod rotation;
mod sessions;
mod shown;
#[path = "../support/mod.rs"]
mod support;
