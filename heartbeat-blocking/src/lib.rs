//! A blocking WebSocket client that notices a dead connection at the configured time and comes back
//! by itself.
//!
//! ```
//! use heartbeat_blocking::{Client, Event, Opening, Options, Progress};
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
//! let url = "wss://example.org/feed";
//! # let url = &*echo_server()?; // what is run here
//! let options = Options::new(url)?.on_connect(|opening: &mut Opening<'_>| {
//!     opening.send(r#"{"op":"subscribe"}"#); // first on each connection
//!     Progress::Ready
//! });
//! let mut client = Client::spawn(options)?;
//! # let mut received = 0;
//! while let Some(event) = client.recv() {
//!     match event {
//!         Event::Message { message, .. } => {
//!             println!("{}", message.as_text().unwrap_or("(binary)"));
//! #           received += 1;
//!             client.sender().stop(); // enough; `Event::Stopped` comes last
//!         }
//!         // A connection has ended, or a dial has failed: `open` is zero then.
//!         Event::Disconnected { reason, detail, .. } => eprintln!("{reason} {}", detail.unwrap_or_default()),
//!         _ => {}
//!     }
//! }
//! # assert_eq!(received, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Client`] drives itself in a thread; [`InPlace`] is driven by its owner's calls. Both are
//! iterators of [`Event`]s. [`Options`] holds everything that can be chosen, its [`Config`] the
//! times. Logs go to `tracing`, under the target `heartbeat_driver`.
//!
//! This crate waits and dials; the protocol is performed in `heartbeat-driver`, and every rule of
//! time is in [`core`] (`heartbeat-core`).
//!
//! # Features
//!
//! - `ring` (default), `aws-lc-rs`: `tls` with this provider of cryptography, unless the process has a default one.
//! - `tls`: `wss://` through rustls, certificates verified against the platform's roots. Brings no provider. Without
//!   it, a `wss://` URL is refused when it is parsed.
//! - `platform-verifier`: on Windows, Android and Apple's systems, the system verifies certificates. Has `tls`. It may ask
//!   the network, and the client's thread waits. On Android initialise `rustls_platform_verifier` first.
//! - `webpki-roots`: Mozilla's roots, compiled in, for machines that have none of their own; has `tls`.
//! - `deflate`: `Options::deflate`, for messages that the WebSocket layer compresses (RFC 7692).
//! - `tungstenite`: `messages`, the machine over a `tungstenite::WebSocket`; messages into tungstenite's and back.
//! - `inflate`: `Inflate`, for services that compress their messages.
//! - `serde`: [`ClientStats`] to serde formats.
//! - `metrics`: figures for the recorder of the `metrics` facade (`Options::metrics`).
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The machine that holds every rule of time, and what describes services to it (`heartbeat-core`).
///
/// What an application meets in its first days is at the root of this crate, too. Where a sample in here says
/// `heartbeat_core`, write `heartbeat_blocking::core`.
pub mod core {
    #[doc(inline)]
    pub use heartbeat_driver::core::*;
}

mod client;
mod clock;
mod error;
mod in_place;
#[cfg(feature = "tungstenite")]
pub mod messages;
mod net;
mod reactor;
mod sender;

pub use client::Client;
pub use error::RecvTimeoutError;
pub use in_place::InPlace;
pub use net::{Net, Tcp};
pub use reactor::Reactor;
pub use sender::Sender;

#[cfg(feature = "deflate")]
pub use heartbeat_driver::Deflate;
#[cfg(feature = "inflate")]
pub use heartbeat_driver::Inflate;
pub use heartbeat_driver::core::{
    AbortCounts, AbortReason, AnyDialect, CatalogueEntry, Cause, CauseKind, Config, ConfigBuilder,
    ConfigError, ConfigTextError, ConnId, Contradiction, Description, DescriptionError, Dialect,
    Failure, FramesOnly, GiveUp, JsonType, Limiter, LimiterError, Lint, Overrides, PermanentErrors,
    Phase, Ping, RetryPolicy, Rtt, UnknownService,
};
#[cfg(feature = "tls")]
pub use heartbeat_driver::rustls;
#[cfg(feature = "platform-verifier")]
pub use heartbeat_driver::rustls_platform_verifier;
pub use heartbeat_driver::{
    Attempt, Bytes, ClientStats, Decode, Dial, DialBudget, DialLimiter, Event, Grant, InvalidClose,
    Message, MessageRef, NotConnected, Observer, OnConnect, Opening, Options, Overflow, Progress,
    Proxy, Reason, Request, RequestError, Resolver, Resolving, Response, Returned, Seconds,
    SendError, SendErrorKind, SharedDialect, StartError, TcpOptions, Text, Undecodable, Unsent,
    WaitEnd,
};

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
