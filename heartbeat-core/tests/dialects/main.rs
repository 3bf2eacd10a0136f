//! Dialects as data: the loader, the catalogue with its vectors, and a plain second way to evaluate a description.
#![allow(missing_docs)]

mod announced;
mod beyond;
mod catalogue;
mod custom_dialect;
mod description;
mod differential;
mod edges;
mod lent;
mod page;
#[path = "../plain/mod.rs"]
mod plain;
mod service;
mod unseen;
