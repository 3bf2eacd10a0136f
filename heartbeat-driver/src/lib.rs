//! What `heartbeat-tokio` and `heartbeat-blocking` share: tungstenite, rustls and the heartbeat
//! machine over any non-blocking byte stream, without a runtime.
//!
//! An application uses one of those two crates. An adapter for another runtime starts at [`Engine`].
//!
//! # Features
//!
//! - `tls` (default): `wss://` through rustls, certificates verified against the platform's roots. Without
//!   it, a `wss://` URL is refused when it is parsed.
//! - `webpki-roots`: Mozilla's roots, compiled in, for machines that have none of their own; has `tls`.
//! - `inflate`: `Inflate`, for services that compress their messages.
//! - `serde`: [`ClientStats`] to serde formats.
//! - `metrics`: figures for the recorder of the `metrics` facade (`Options::metrics`).
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod board;
mod clock;
mod decode;
mod engine;
mod environment;
mod exchange;
mod factory;
mod handoff;
mod ids;
#[cfg(feature = "inflate")]
mod inflate;
mod limiter;
mod message;
mod meter;
mod opening;
mod options;
mod outbox;
mod proxy;
mod recorder;
mod request;
mod session;
mod stream;
mod sync;
mod tcp;
#[cfg(all(test, heartbeat_loom))]
mod threads;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;
mod wire;

pub use board::{Board, ClientStats};
pub use clock::{HostClock, Suspended, unix_ms};
pub use decode::{Decode, Undecodable};
pub use engine::{Engine, Turn};
pub use exchange::Response;
pub use factory::Attempt;
pub use handoff::{Handoff, Room};
#[cfg(feature = "inflate")]
pub use inflate::Inflate;
pub use limiter::{DialBudget, DialLimiter, Grant};
pub use message::{Event, Message, Reason, Returned, Seconds, Unsent};
pub use opening::{OnConnect, Opening, Progress};
pub use options::{Observer, Options, SharedDialect};
pub use outbox::{Notify, Outbox, Refusal, SendError};
pub use proxy::Proxy;
pub use request::{Request, RequestError};
pub use session::io_cause;
pub use tcp::{Dial, Tcp, interleave};

pub use bytes::Bytes;
pub use heartbeat_core as core;
#[cfg(feature = "tls")]
pub use rustls;
pub use tungstenite::Utf8Bytes;
