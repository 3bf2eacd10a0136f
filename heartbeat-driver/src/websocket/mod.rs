//! An open WebSocket connection (RFC 6455) over a non-blocking byte stream.
//!
//! In: messages of the send queue, and bytes of the stream. Out: received messages and control frames, and for
//! each message sent whether it was written or is handed back.
//!
//! - `frames` converts bytes to messages and messages to bytes.
//! - `Framed` is a reader and a writer over one stream.
//! - [`Connection`] adds the accounts for the machine and for messages that are handed back. Read it first.

mod connection;
mod framed;
pub(crate) mod frames;

pub(crate) use self::connection::{Connection, Heard};
pub(crate) use self::framed::{Opened, Sizes};
