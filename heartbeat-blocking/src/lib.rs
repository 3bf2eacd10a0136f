//! A blocking WebSocket client that notices a dead connection at the configured time and comes back by itself.
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
//! # let url = &*echo_server()?; // the doctest dials this server
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
//!         // A connection ended, or a dial failed; then `open` is zero.
//!         Event::Disconnected { reason, detail, .. } => eprintln!("{reason} {}", detail.unwrap_or_default()),
//!         _ => {}
//!     }
//! }
//! # assert_eq!(received, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Client`] runs in its own thread. [`InPlace`] runs only inside its owner's calls. Both are iterators of [`Event`]s.
//! [`Options`] holds all settings; the times are in its [`Config`]. Logs go to `tracing`, with the target
//! `heartbeat_driver`.
//!
//! This crate waits and dials. `heartbeat-driver` implements the protocol, and [`core`] (`heartbeat-core`) holds every
//! timing rule.
//!
//! # Features
//!
//! - `ring` (default), `aws-lc-rs`: `tls` with this cryptography provider, unless the process has set a default one.
//! - `tls`: `wss://` with rustls. Certificates are verified against the platform's roots. Includes no provider. Without
//!   `tls`, parsing a `wss://` URL fails.
//! - `platform-verifier`: the system verifies certificates on Windows, Android and Apple's systems. Includes `tls`. The
//!   system may use the network for it, and the client's thread waits meanwhile. On Android, initialise
//!   `rustls_platform_verifier` first.
//! - `webpki-roots`: Mozilla's roots, compiled in, for machines without roots of their own. Includes `tls`.
//! - `deflate`: `Options::deflate`, for messages compressed by the WebSocket layer (RFC 7692).
//! - `tungstenite`: `messages`, the machine over a `tungstenite::WebSocket`. Also adds conversions between tungstenite's
//!   messages and those of this crate.
//! - `inflate`: `Inflate`, for services that compress their messages themselves.
//! - `serde`: `Serialize` for [`ClientStats`].
//! - `metrics`: reports figures to the recorder of the `metrics` facade (`Options::metrics`).
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The machine with every timing rule, and the descriptions of services for it (`heartbeat-core`).
///
/// The items that most applications need are also at the root of this crate. If a sample in this module says
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

/// Compiles the samples of the README as doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
