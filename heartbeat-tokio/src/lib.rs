//! A WebSocket client for tokio that notices a dead connection at the configured time and comes
//! back by itself.
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
//! # let url = &*echo_server()?; // what is run here
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
//!         // A connection has ended, or a dial has failed: `open` is zero then.
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
//! Where a service wants a login first, [`Options::on_connect`] says it on every connection, and what the
//! application sends waits for it ([`Options::hold`]) or is refused. Or the application does it itself,
//! and awaits the answers:
//!
//! ```no_run
//! use heartbeat_tokio::{Client, ConnId, Event, Failure, Options};
//!
//! /// Logs in on this connection; everything else is left to the caller's loop.
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
//!             // Also when the login takes longer than `session_timeout`.
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
//! # A service that counts messages
//!
//! Binance closes a connection on which more than 5 messages a second arrive, pings and pongs among
//! them. [`Limiter`] says when the next one may go; what is left of the allowance is for heartbeats,
//! of which we send one in the time of [`Ping`] and one for each ping of the server's.
//!
//! ```
//! use heartbeat_tokio::core::Instant;
//! use heartbeat_tokio::{Limiter, Sender};
//!
//! struct Orders {
//!     sender: Sender,
//!     /// `Limiter::new(3, Duration::from_secs(1), 1)`: 3 a second, evenly; 2 are left for heartbeats.
//!     budget: Limiter,
//!     start: tokio::time::Instant,
//! }
//!
//! impl Orders {
//!     async fn send(&mut self, order: &str) -> Result<(), Box<dyn std::error::Error>> {
//!         let now = Instant::ORIGIN.saturating_add(self.start.elapsed());
//!         // `Crowded`: orders that are minutes late are not wanted.
//!         let turn = self.budget.reserve(now)?;
//!         tokio::time::sleep(turn.saturating_duration_since(now)).await;
//!         Ok(self.sender.send(order).await?)
//!     }
//! }
//! ```
//!
//! A new connection has a new allowance, but messages that were held for it
//! ([`Options::hold`]) go out at once: leave them out where messages are counted, or keep them few.
//!
//! # The crate
//!
//! [`Client`] drives itself in a task; [`InPlace`] is driven by its owner's polling. Both are streams
//! of [`Event`]s. [`Rotating`] replaces one `Client` by the next, for services that end every connection
//! after a day. [`Options`] holds everything that can be chosen, its [`Config`] the times.
//! Logs go to `tracing`, under the target `heartbeat_driver`.
//!
//! [`messages`] puts the machine on any other WebSocket library's sockets, also on a server's side.
//!
//! `guide` has longer texts: how to choose intervals, what to do at a gap, how to get through proxies and logins, how to
//! come here from other clients.
//!
//! This crate waits and dials; the protocol is performed in `heartbeat-driver`, and every rule of
//! time is in [`core`] (`heartbeat-core`).
//!
//! # Examples
//!
//! `cargo run -p heartbeat-tokio --example NAME`; all but the servers end by themselves. The program `heartbeat`
//! (`heartbeat-cli`) shows a client against a server that misbehaves, or against yours.
//!
//! | | |
//! |---|---|
//! | `account_stream` | an exchange's account: login, subscription, and after each gap a snapshot before changes are applied |
//! | `graphql_transport_ws` | GraphQL subscriptions that outlive their connections; which close codes end it |
//! | `gateway` | a gateway like Discord's: hello, heartbeats with a sequence number, zombies, resumed sessions |
//! | `many_connections` | hundreds of clients in one runtime, with one budget of dials |
//! | `tokio_tungstenite` | the machine over a socket of tokio-tungstenite's (feature `tungstenite`) |
//! | `axum_server` | a server that finds its dead clients and drops them |
//! | `metrics` | figures for Prometheus (feature `metrics`) |
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
//! - `inflate`: `Inflate`, for services that compress their messages.
//! - `serde`: [`ClientStats`] to serde formats.
//! - `tungstenite`, `tokio-websockets`: [`messages`] over another library; the former also turns messages into tungstenite's
//!   and back.
//! - `metrics`: figures for the recorder of the `metrics` facade (`Options::metrics`), with a dashboard in
//!   `docs/grafana.json` and an example that serves them to Prometheus.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The machine that holds every rule of time, and what describes services to it (`heartbeat-core`).
///
/// What an application meets in its first days is at the root of this crate, too. Where a sample in here says
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

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
