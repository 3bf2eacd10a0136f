//! A WebSocket client for tokio that notices a dead connection at the configured time and comes back by itself.
//!
//! ```
//! use heartbeat_tokio::{Client, Event, Opening, Options, Progress};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
//! while let Some(event) = client.next().await {
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
//! # Ok(())
//! # }
//! ```
//!
//! # Sessions
//!
//! If a service requires a login, [`Options::on_connect`] can send it on every connection. Until the session is ready,
//! other messages wait ([`Options::hold`]) or are refused. Or the application logs in by itself, and awaits the answers:
//!
//! ```no_run
//! use heartbeat_tokio::{Client, ConnId, Event, Failure, Options};
//!
//! /// Logs in on this connection. The caller's loop handles everything else.
//! async fn log_in(client: &mut Client, conn: ConnId) -> Result<(), Failure> {
//!     let login = client.sender().send_opening(conn, r#"{"op":"login","token":"…"}"#);
//!     login.map_err(|_| Failure::Retry)?;
//!     while let Some(event) = client.next().await {
//!         match event {
//!             Event::Message { message, .. } => match message.as_text() {
//!                 Some(r#"{"login":"ok"}"#) => return Ok(()),
//!                 Some(r#"{"login":"expired"}"#) => return Err(Failure::Refresh),
//!                 _ => {}
//!             },
//!             // This also happens if the login takes longer than `session_timeout`.
//!             Event::Disconnected { .. } => break,
//!             _ => {}
//!         }
//!     }
//!     Err(Failure::Retry)
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options::new("wss://example.org/feed")?.session_by_application().hold(100, 1 << 20);
//! let mut client = Client::spawn(options)?;
//! while let Some(event) = client.next().await {
//!     match event {
//!         Event::Connected { conn, .. } => match log_in(&mut client, conn).await {
//!             Ok(()) => client.sender().ready(conn),
//!             Err(failure) => client.sender().fail(conn, failure),
//!         },
//!         Event::Gap { since, down_for, .. } => println!("fetch again: {down_for:?} from {since:?}"),
//!         Event::Message { message, .. } => println!("{}", message.as_text().unwrap_or("(binary)")),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Rate limits
//!
//! Binance closes a connection if it receives more than 5 messages a second on it, including pings and pongs. [`Limiter`]
//! says when the next message may go. Leave a part of the limit for heartbeats: the client sends one per [`Ping`]
//! interval, and one for each ping of the server.
//!
//! ```
//! use heartbeat_tokio::core::Instant;
//! use heartbeat_tokio::{Limiter, Sender};
//!
//! struct Orders {
//!     sender: Sender,
//!     /// `Limiter::new(3, Duration::from_secs(1), 1)`: 3 a second, evenly spaced. 2 are left for heartbeats.
//!     budget: Limiter,
//!     start: tokio::time::Instant,
//! }
//!
//! impl Orders {
//!     async fn send(&mut self, order: &str) -> Result<(), Box<dyn std::error::Error>> {
//!         let now = Instant::ORIGIN.saturating_add(self.start.elapsed());
//!         // The error `Crowded` refuses orders that would go out minutes late.
//!         let turn = self.budget.reserve(now)?;
//!         tokio::time::sleep(turn.saturating_duration_since(now)).await;
//!         Ok(self.sender.send(order).await?)
//!     }
//! }
//! ```
//!
//! A new connection starts with a full allowance, but held messages ([`Options::hold`]) go out on it all at once. Do not
//! hold messages if the service counts them, or hold only a few.
//!
//! # The crate
//!
//! [`Client`] runs in its own task. [`InPlace`] runs only while its owner polls it. Both are streams of [`Event`]s.
//! [`Rotating`] replaces one `Client` by the next, for services that end every connection after a day. [`Options`] holds
//! all settings; the times are in its [`Config`]. Logs go to `tracing`, with the target `heartbeat_driver`.
//!
//! [`messages`] runs the machine over the sockets of another WebSocket library, also on the server's side.
//!
//! `guide` has longer texts: how to choose intervals, what to do at a gap, how to get through proxies and logins, and how
//! to migrate from other clients.
//!
//! This crate waits and dials. `heartbeat-driver` implements the protocol, and [`core`] (`heartbeat-core`) holds every
//! timing rule.
//!
//! # Examples
//!
//! Run them with `cargo run -p heartbeat-tokio --example NAME`. All except the servers end by themselves. The program
//! `heartbeat` (`heartbeat-cli`) runs a client against a misbehaving server, or against yours.
//!
//! | | |
//! |---|---|
//! | `account_stream` | an exchange account: login, subscription, and after each gap a snapshot before changes are applied |
//! | `graphql_transport_ws` | GraphQL subscriptions that survive reconnects; the close codes that end the client |
//! | `gateway` | a gateway like Discord's: hello, heartbeats with a sequence number, zombie connections, resumed sessions |
//! | `many_connections` | hundreds of clients in one runtime, with a shared dial budget |
//! | `tokio_tungstenite` | the machine over a socket of tokio-tungstenite (feature `tungstenite`) |
//! | `axum_server` | a server that detects dead clients and drops them |
//! | `metrics` | metrics for Prometheus (feature `metrics`) |
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
//! - `inflate`: `Inflate`, for services that compress their messages themselves.
//! - `serde`: `Serialize` for [`ClientStats`].
//! - `tungstenite`, `tokio-websockets`: codecs for [`messages`]. `tungstenite` also adds conversions between its messages
//!   and those of this crate.
//! - `metrics`: reports figures to the recorder of the `metrics` facade (`Options::metrics`). `docs/grafana.json` is a
//!   dashboard, and the example `metrics` serves Prometheus.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The machine with every timing rule, and the descriptions of services for it (`heartbeat-core`).
///
/// The items that most applications need are also at the root of this crate. If a sample in this module says
/// `heartbeat_core`, write `heartbeat_tokio::core`.
pub mod core {
    #[doc(inline)]
    pub use heartbeat_driver::core::*;
}

mod client;
mod clock;
mod dial;
#[cfg(any(doc, doctest))]
pub mod guide;
mod in_place;
pub mod messages;
mod rotating;
mod sender;
mod transport;

pub use client::Client;
pub use dial::{Dialer, Dialing, TcpDialer};
pub use in_place::InPlace;
pub use rotating::{Rotating, RotatingEvent, RotatingSender};
pub use sender::Sender;
pub use transport::{Compat, Tcp, Transport};

#[cfg(feature = "deflate")]
pub use heartbeat_driver::Deflate;
#[cfg(feature = "inflate")]
pub use heartbeat_driver::Inflate;
pub use heartbeat_driver::core::{
    AbortCounts, AbortReason, AnyDialect, CatalogueEntry, Cause, CauseKind, Config, ConfigBuilder,
    ConfigError, ConfigTextError, ConnId, Contradiction, Description, DescriptionError, Dialect,
    Failure, FramesOnly, Generation, GiveUp, JsonType, Limiter, LimiterError, Lint, Overrides,
    PermanentErrors, Phase, Ping, RetryPolicy, RotationError, RotationTimes, Rtt, UnknownService,
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
