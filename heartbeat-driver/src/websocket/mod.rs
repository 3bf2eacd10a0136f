//! An open WebSocket connection (RFC 6455) over a byte stream that does not wait.
//!
//! In: messages of the send queue, bytes of the stream. Out: messages and control frames received; for each message
//! sent, written or handed back.
//!
//! - `frames` turns bytes into messages and messages into bytes.
//! - `Framed` is a reader and a writer over one stream.
//! - [`Connection`] adds the accounts: what the machine is told, and what the application gets back. Read it first.

mod connection;
mod framed;
pub(crate) mod frames;

pub(crate) use self::connection::{Connection, Heard};
pub(crate) use self::framed::{Opened, Sizes};
