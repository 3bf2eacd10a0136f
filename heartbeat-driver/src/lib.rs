//! What `heartbeat-tokio` and `heartbeat-blocking` share: tungstenite, rustls and the heartbeat
//! machine over any non-blocking byte stream, without a runtime.
#![forbid(unsafe_code)]

mod board;
mod clock;
mod engine;
mod handoff;
mod ids;
mod limiter;
mod message;
mod meter;
mod opening;
mod options;
mod outbox;
mod recorder;
mod request;
mod session;
mod stream;
mod sync;
#[cfg(all(test, heartbeat_loom))]
mod threads;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;
mod wire;

pub use board::{Board, ClientStats};
pub use engine::{Dial, Engine, Turn};
pub use handoff::{Handoff, Room};
pub use limiter::{DialBudget, DialLimiter, Grant};
pub use message::{Event, Message, Reason, Returned, Seconds, Unsent};
pub use opening::{OnConnect, Opening, Progress};
pub use options::{Attempt, Observer, Options, SharedDialect};
pub use outbox::{Notify, Outbox, Refusal, SendError};
pub use request::{Request, RequestError};

pub use bytes::Bytes;
pub use heartbeat_core as core;
#[cfg(feature = "tls")]
pub use rustls;
pub use tungstenite::Utf8Bytes;
