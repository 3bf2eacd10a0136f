//! A WebSocket client for tokio that notices a dead connection at the configured time and comes
//! back by itself.
#![forbid(unsafe_code)]

mod client;
mod clock;
mod dial;
mod in_place;
mod sender;
mod transport;

pub use client::Client;
pub use dial::{Dialer, Dialing, TcpDialer};
pub use in_place::InPlace;
pub use sender::Sender;
pub use transport::{Compat, Tcp, Transport};

pub use heartbeat_driver::core;
#[cfg(feature = "tls")]
pub use heartbeat_driver::rustls;
pub use heartbeat_driver::{
    Attempt, Bytes, Dial, Event, Message, Observer, Options, Reason, Refusal, Request,
    RequestError, Seconds, SendError, SharedDialect, Utf8Bytes,
};
