//! A blocking WebSocket client that notices a dead connection at the configured time and comes back
//! by itself.
#![forbid(unsafe_code)]

mod client;
mod clock;
mod error;
mod in_place;
mod net;
mod reactor;
mod sender;

pub use client::Client;
pub use error::{RecvTimeoutError, StartError};
pub use in_place::InPlace;
pub use net::Net;
pub use reactor::Reactor;
pub use sender::Sender;

pub use heartbeat_driver::core;
#[cfg(feature = "tls")]
pub use heartbeat_driver::rustls;
pub use heartbeat_driver::{
    Attempt, Bytes, Dial, Event, Message, Observer, Options, Reason, Refusal, Request,
    RequestError, Seconds, SendError, SharedDialect, Utf8Bytes,
};
