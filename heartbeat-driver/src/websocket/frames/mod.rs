//! WebSocket frames (RFC 6455 §5), without I/O.
//!
//! - In: [`Reader`] takes the stream's bytes, and yields messages, control frames, and the one [`Violation`]
//!   that ends a connection.
//! - Out: [`Writer`] takes messages and control frames, and yields bytes for the stream. It knows the offset at
//!   which each message ends. A message is written once the stream has taken bytes up to that offset.
//!
//! Read `reader.rs` first, then `writer.rs`. With the feature `deflate`, `deflate.rs` implements
//! permessage-deflate (RFC 7692): its offer, its answer, and the conversion between a frame's payload and the
//! message.
//!
//! This module knows no time, heartbeat, queue or log.

mod blocks;
#[cfg(feature = "deflate")]
pub(crate) mod deflate;
mod header;
pub(crate) mod mask;
mod reader;
mod utf8;
mod writer;

#[cfg(feature = "deflate")]
pub(crate) use self::deflate::{Agreed, Deflate};
pub(crate) use self::reader::Place;
pub use self::reader::{Next, Reader};
pub(crate) use self::writer::{Carries, MAX_HEADER, Writer};

use bytes::Bytes;

use crate::message::{Close, Text};

/// A received message or control frame.
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

/// A frame that no server may send, or a message that is too large. Ends the connection.
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
        /// The length announced so far.
        len: u64,
        /// The limit.
        max: usize,
    },
}

impl Violation {
    /// Adds the bytes of the message that came `before` to the length and the limit.
    #[cfg(feature = "deflate")]
    pub(crate) fn after(self, before: usize) -> Self {
        match self {
            Self::TooLarge { len, max } => Self::TooLarge {
                len: len + before as u64,
                max: max + before,
            },
            other => other,
        }
    }

    /// Returns the close code for this violation (RFC 6455 §7.4.1).
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
