//! An open WebSocket connection (RFC 6455) over a byte stream that does not wait.
//!
//! In: messages of the send queue, bytes of the stream. Out: messages and control frames received; for each message
//! sent, written or handed back.
//!
//! - `frames` turns bytes into messages and messages into bytes.
//! - `Framed` is a reader and a writer over one stream.
//! - [`Session`] adds the accounts: what the machine is told, and what the application gets back. Read it first.

mod framed;
pub(crate) mod frames;
mod session;

pub(crate) use self::framed::{Opened, Sizes};
pub(crate) use self::session::{Heard, Session};
