//! The WebSocket protocol (RFC 6455) over a byte stream, without waiting: bytes in, messages out; messages in,
//! bytes out.
//!
//! - In: [`reader::Reader`] is lent to the stream for its bytes, and yields messages, control frames, and the
//!   one [`Violation`] that ends a connection.
//! - Out: [`writer::Writer`] takes messages and control frames, and yields bytes for the stream. The offset at
//!   which a message ends among them is its account: it is written once the stream has taken that many.
//! - [`connection::Connection`] is both of them over one stream. Read that file first; then `reader.rs`,
//!   `writer.rs`.
//!
//! With the feature `deflate`, `deflate.rs` is permessage-deflate (RFC 7692): its offer, its answer, and what stands
//! between a frame's payload and the message on each side.
//!
//! Nothing in here knows the time, a heartbeat, a queue or a log.

mod blocks;
mod close;
pub(crate) mod connection;
#[cfg(feature = "deflate")]
pub(crate) mod deflate;
pub(crate) mod handshake;
mod header;
mod mask;
pub(crate) mod reader;
mod utf8;
pub(crate) mod writer;

pub use self::close::Close;
pub(crate) use self::close::Goodbye;
pub use self::reader::{Next, Reader};

use bytes::Bytes;

use crate::text::Text;

/// A message or a control frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(Text),
    /// A binary message.
    Binary(Bytes),
    /// A ping: at most 125 bytes.
    Ping(Bytes),
    /// A pong: at most 125 bytes.
    Pong(Bytes),
    /// A Close frame.
    Close(Close),
}

/// A frame that no server may send, or a message that is too large. It ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RFC 6455 §5.2: opcodes 3 to 7 and 11 to 15 are reserved.
    #[error("a frame has the reserved opcode {0}")]
    ReservedOpcode(u8),
    /// RFC 6455 §5.2: no extension was agreed on that would give these bits a meaning.
    #[error("a frame has reserved bits set")]
    ReservedBits,
    /// RFC 6455 §5.1.
    #[error("a frame of the server's is masked")]
    Masked,
    /// RFC 6455 §5.4.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// RFC 6455 §5.5.
    #[error("a control frame has {0} bytes, at most 125 are allowed")]
    LongControl(u64),
    /// RFC 6455 §5.4.
    #[error("a fragment continues no message")]
    NothingToContinue,
    /// RFC 6455 §5.4.
    #[error("a message begins within another one")]
    Interleaved,
    /// RFC 6455 §8.1.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// RFC 7692 §7.2.2.
    #[error("a compressed message cannot be inflated")]
    NotDeflated,
    /// The message is larger than the limit.
    #[error("a message has at least {len} bytes, at most {max} are allowed")]
    TooLarge {
        /// The bytes that were announced so far.
        len: u64,
        /// The limit.
        max: usize,
    },
}

impl Violation {
    /// The close code that says so (RFC 6455 §7.4.1).
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::ReservedOpcode(_)
            | Self::ReservedBits
            | Self::Masked
            | Self::FragmentedControl
            | Self::LongControl(_)
            | Self::NothingToContinue
            | Self::Interleaved => 1002,
            Self::NotUtf8 | Self::NotDeflated => 1007,
            Self::TooLarge { .. } => 1009,
        }
    }
}
