//! A WebSocket client for tokio that notices a dead connection at the configured time and comes
//! back by itself.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use heartbeat_tokio::{Client, Event, Options};
//!
//! let mut client = Client::spawn(Options::new("wss://example.org/feed")?)?;
//! while let Some(event) = client.next().await {
//!     match event {
//!         Event::Connected { .. } => {
//!             // If the connection is gone again already, the message is handed back.
//!             let _ = client.sender().try_send(r#"{"op":"subscribe"}"#);
//!         }
//!         Event::Message { message, .. } => println!("{}", message.as_text().unwrap_or("(binary)")),
//!         Event::Disconnected { reason, detail, .. } => eprintln!("{reason} {detail:?}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client`] drives itself in a task; [`InPlace`] is driven by its owner's polling. Both are streams
//! of [`Event`]s. [`Options`] holds everything that can be chosen, its [`core::Config`] the times.
//! Logs go to `tracing`, under the target `heartbeat_driver`.
//!
//! This crate waits and dials; the protocol is performed in `heartbeat-driver`, and every rule of
//! time is in [`core`] (`heartbeat-core`).
//!
//! # Features
//!
//! `tls` (default): `wss://` through rustls, certificates verified against the platform's roots.
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
pub use heartbeat_driver::core::{Config, ConnId, Failure, Ping};
#[cfg(feature = "tls")]
pub use heartbeat_driver::rustls;
pub use heartbeat_driver::{
    Attempt, Bytes, ClientStats, Dial, Event, Message, Observer, OnConnect, Opening, Options,
    Progress, Reason, Refusal, Request, RequestError, Returned, Seconds, SendError, SharedDialect,
    Unsent, Utf8Bytes,
};
