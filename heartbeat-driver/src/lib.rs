//! Common code of `heartbeat-tokio` and `heartbeat-blocking`: WebSocket frames, rustls and the heartbeat
//! machine over any non-blocking byte stream, without a runtime.
//!
//! Applications use one of those two crates. An adapter for another runtime starts at [`Engine`].
//!
//! An adapter is a loop around [`Engine::turn`]. The smallest adapter blocks while it dials, and sleeps while
//! it waits. A real adapter waits for its socket, for [`Engine::wake`] and for the send queue:
//!
//! ```
//! use std::net::TcpStream;
//! use std::time::Duration;
//!
//! use heartbeat_driver::core::Clock;
//! use heartbeat_driver::{Engine, Event, HostClock, Options, Turn};
//!
//! # fn echo_server() -> std::io::Result<String> {
//! #     let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! #     let url = format!("ws://{}/", listener.local_addr()?);
//! #     std::thread::spawn(move || {
//! #         let (stream, _) = listener.accept().unwrap();
//! #         let mut socket = tungstenite::accept(stream).unwrap();
//! #         while let Ok(message) = socket.read() {
//! #             if message.is_text() {
//! #                 socket.send(message).unwrap();
//! #             }
//! #         }
//! #     });
//! #     Ok(url)
//! # }
//! let url = "ws://example.org/feed";
//! # let url = &*echo_server()?; // the doctest dials this server
//! let clock = HostClock::start();
//! let mut engine = Engine::new(Options::new(url)?, clock.now(), Box::new(|| {}))?;
//! # let mut received = 0;
//! loop {
//!     match engine.turn(&clock) {
//!         Turn::Dial(dial) => {
//!             let stream = TcpStream::connect((&*dial.host, dial.port)).and_then(|stream| {
//!                 stream.set_nonblocking(true)?;
//!                 Ok(stream)
//!             });
//!             engine.dialed(dial.conn, stream, &clock);
//!         }
//!         Turn::Event(Event::Connected { .. }) => {
//!             let _ = engine.send_queue().try_send("hello".into());
//!         }
//!         Turn::Event(Event::Message { message, .. }) => {
//!             println!("{message:?}");
//! #           received += 1;
//!             engine.send_queue().stop();
//!         }
//!         Turn::Event(_) | Turn::Again => {}
//!         Turn::Idle => std::thread::sleep(Duration::from_millis(1)),
//!         Turn::Ended => break,
//!     }
//! }
//! # assert_eq!(received, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! - `ring` (default), `aws-lc-rs`: `tls` with this provider of cryptography, unless the process has a default one.
//! - `tls`: `wss://` through rustls, certificates verified against the platform's roots. Brings no provider. Without
//!   it, a `wss://` URL is refused when it is parsed.
//! - `platform-verifier`: on Windows, Android and Apple's systems, the system verifies certificates. Implies `tls`.
//! - `webpki-roots`: Mozilla's roots, compiled in, for machines without trusted roots. Implies `tls`.
//! - `inflate`: `Inflate`, for services that compress their messages.
//! - `deflate`: `Options::deflate`, for messages that the WebSocket layer compresses (RFC 7692).
//! - `tungstenite`: conversions between [`Message`] or [`Text`] and tungstenite's types, and a `Codec` for its
//!   sockets ([`messages`]).
//! - `serde`: serializes [`ClientStats`].
//! - `metrics`: reports figures to the recorder of the `metrics` facade (`Options::metrics`).
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod dial;
mod dialect;
mod engine;
mod event;
mod http;
mod log;
mod message;
pub mod messages;
mod on_connect;
mod options;
mod panics;
mod queue;
mod request;
mod start;
mod stats;
mod stream;
mod upgrade;
mod websocket;

pub use self::http::Response;
pub use clock::{HostClock, Suspended, unix_ms};
pub use dial::{
    Attempt, Dial, DialBudget, DialLimiter, Grant, Resolver, Resolving, TcpOptions, interleave,
    is_writable, keep_unsent_short,
};
pub use dialect::SharedDialect;
pub use engine::{Engine, Turn};
pub use event::{Event, Reason, Seconds};
#[cfg(feature = "inflate")]
pub use message::Inflate;
pub use message::{
    Decode, InvalidClose, Message, MessageRef, Returned, Text, Undecodable, Unsent, records,
};
pub use on_connect::{OnConnect, Opening, Progress};
pub use options::{Observer, Options};
pub use panics::Panicked;
#[doc(hidden)]
pub use panics::{catch, named};
pub use queue::{EventQueue, Notify, Overflow, Room, SendError, SendErrorKind, SendQueue, Sending};
pub use request::{Proxy, Request, RequestError};
pub use start::StartError;
pub use stats::{ClientStats, NotConnected, SharedStats, Until, WaitEnd};
pub use stream::io_cause;
#[cfg(feature = "deflate")]
pub use websocket::frames::deflate::Deflate;

/// The frame reader alone, for tests and fuzz targets. Not part of the public interface.
#[doc(hidden)]
pub mod frames {
    pub use crate::message::Close;
    #[cfg(feature = "deflate")]
    pub use crate::websocket::frames::deflate::Agreed;
    pub use crate::websocket::frames::{Incoming, Next, Reader, Violation};
}

pub use bytes::Bytes;
pub use heartbeat_core as core;
#[cfg(feature = "tls")]
pub use rustls;
#[cfg(feature = "platform-verifier")]
pub use rustls_platform_verifier;
