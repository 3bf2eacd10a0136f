//! Queues between the application and the engine: messages to send, events to take.
//!
//! In: messages from any thread ([`SendQueue`]), and events from the engine ([`EventQueue`]). Both come out in
//! order, within their bounds. Threads share everything here, and `loom_tests.rs` runs it under every
//! interleaving. Read `send_queue.rs` first.

mod event_queue;
mod ids;
#[cfg(all(test, heartbeat_loom))]
mod loom_tests;
mod pace;
mod send_queue;
mod sync;

pub use self::event_queue::{EventQueue, Overflow, Room};
pub(crate) use self::ids::Ids;
pub(crate) use self::pace::Pace;
pub(crate) use self::send_queue::{Limits, Waiting};
pub use self::send_queue::{Notify, SendError, SendErrorKind, SendQueue, Sending};
pub(crate) use self::sync::AtomicU64;
