//! What the examples share. Not every one uses all of it.
#![allow(dead_code)]

pub(crate) mod server;
pub(crate) mod wire;
