//! The torture course's server. It does to a long-lived client what servers and networks do, chosen by the
//! URL's path, for clients in any language. Its counts are the judge.
//!
//! `ws://127.0.0.1:PORT/@ID/t1` is mode `t1` for the client `ID`; `http://127.0.0.1:PORT/report/ID` reports
//! what was seen of it. Without `@ID` the client's name is the mode. [`MODES`] lists all modes.

pub mod book;
mod connection;
pub mod kernel;
mod modes;
pub mod relay;
mod server;

pub use modes::{MODES, Times};
pub use server::{OnTls, TortureServer};
