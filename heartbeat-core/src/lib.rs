//! The liveness and reconnection logic of a long-lived WebSocket client, as a pure state machine.
//!
//! Events and the time go in, actions and the next wake-up come out. The crate does no I/O, reads no clock, starts
//! no thread and allocates nothing. A *driver* owns the socket and the timer, reports events, and performs the
//! actions.
//!
//! ```
//! use core::time::Duration;
//! use heartbeat_core::{AbortReason, Action, Cause, Config, Event, FramesOnly, Heartbeat, Instant, Message};
//!
//! let second = |n: u64| Instant::from_nanos(n * 1_000_000_000);
//! let mut machine = Heartbeat::new(Config::default(), FramesOnly, 7, second(0));
//!
//! // The machine asks for a dial.
//! let step = machine.step(second(0), Event::Tick);
//! let Action::Connect { conn, .. } = step.actions[0] else { panic!() };
//! assert_eq!(step.wake, Some(second(10)));             // connect_timeout
//!
//! // The driver has dialled. From here on the machine watches for silence.
//! let step = machine.step(second(1), Event::Connected(conn));
//! assert_eq!(step.wake, Some(second(31)));             // a ping after 30 s of silence
//!
//! // The server sends a ping. Its answer comes before anything else.
//! let step = machine.step(second(5), Event::Received(conn, Message::Ping(b"17")));
//! assert!(matches!(step.actions[0], Action::SendPong { .. }));
//!
//! // Then the server goes silent. The driver ticks at each `wake`.
//! let verdict = loop {
//!     let step = machine.step(machine.wake().unwrap(), Event::Tick);
//!     if let Action::Abort { reason, .. } = step.actions[0] {
//!         break (machine.wake(), reason);
//!     }
//! };
//! // 90 s after the last byte the connection is declared dead; the next dial comes within 2 s.
//! assert_eq!(verdict.1, AbortReason::IdleTimeout);
//! assert!(verdict.0 > Some(second(95)) && verdict.0 <= Some(second(97)));
//!
//! // Reports about the old socket change nothing.
//! assert!(machine.step(second(96), Event::Closed(conn, Cause::Close(1002))).stale);
//! ```
//!
//! # Writing a driver
//!
//! This is the short version. [The guide](guide) builds a driver step by step and lists common mistakes.
//!
//! Wait for the socket or for [`Step::wake`], whichever comes first. Then:
//!
//! 1. Read the bytes that have arrived, and report them. Report a ping at once ([`Message::Ping`], or a text or
//!    binary message that [`Dialect`] does not classify as data). Report everything else once the socket has run
//!    dry ([`Message::Data`]). Report a partial message as [`Event::Progress`].
//! 2. If `wake` has come, report [`Event::Tick`]. Keep this order: bytes that have arrived take precedence over a
//!    deadline.
//! 3. Perform each step's actions, in order. [`Action::Abort`] means dropping the transport without a closing
//!    handshake. The dialect's `render` writes out a template ([`Reply::Template`], [`PingMessage::Template`]).
//!    After [`Event::Connected`], send the dialect's greeting ([`Dialect::greeting`]), if there is one. A
//!    [`Class::Response`] goes to the application unless it [answers](Heartbeat::is_answer) the machine.
//! 4. Report the progress of writes: [`Event::Wrote`] when the transport has taken all bytes,
//!    [`Event::WriteBlocked`] when it takes no more, [`Event::PingWaiting`] when a ping waits behind other bytes,
//!    [`Event::PingWritten`] when the ping has left.
//!
//! Answer [`Action::Connect`] with [`Event::Connected`] or [`Event::Closed`] once the dial has ended. Keep serving
//! the timer while a dial is under way. A superfluous tick does nothing.
//!
//! A server's driver works in the same way. It makes a machine with [`Heartbeat::accepted`] for a connection that
//! is already open. Such a machine never asks for [`Action::Connect`], and its phase is [`Phase::Stopped`] once the
//! connection has ended.
//!
//! # Examples
//!
//! Run an example with `cargo run -p heartbeat-core --example NAME`. Each one drives the core by itself and ends
//! within seconds.
//!
//! | | |
//! |---|---|
//! | `mio_loop` | a WebSocket client on `mio` and tungstenite: dial, read, answer, write, close, reconnect in one loop |
//! | `smol_client` | a client under `smol`, whose owner awaits its events |
//! | `browser_like` | only callbacks, `setTimeout` and `performance.now()`; a background tab's late timers kill nothing |
//! | `replay` | replays a trace and prints each step; `heartbeat explain` (heartbeat-cli) prints sentences instead |
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `json` | yes | the dialect `JsonType` |
//! | `serde` | | `Config` from and to text, `Stats` to serde formats (needs `alloc`) |
//! | `dialects` | | dialects as data: `Description`, its loader, the `catalogue` of services (needs `alloc`); has `json` and `serde` |
//! | `trace` | | the trace format, read and written (needs `alloc`); has `dialects` |
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "serde", test))]
extern crate alloc;

/// Implements an error's `Debug` by its `Display`. If `main` returns an error, Rust prints its `Debug`.
#[doc(hidden)]
#[macro_export]
macro_rules! debug_as_display {
    ($($error:ty),+ $(,)?) => {$(
        impl ::core::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(self, f)
            }
        }
    )+};
}

mod backoff;
mod cause;
mod config;
mod dialect;
mod duration_text;
#[cfg(feature = "serde")]
mod json_text;
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/embedding.md")]
pub mod guide {}
mod happy_eyeballs;
mod limiter;
mod machine;
mod renewal;
mod rotation;
mod time;
#[cfg(feature = "trace")]
pub mod trace;

pub use backoff::DIAL_FLOOR;
pub use cause::{Cause, CauseKind, Failure, MAX_RETRY_AFTER, Overrides, RetryPolicy};
#[cfg(feature = "serde")]
pub use config::ConfigTextError;
pub use config::{
    Config, ConfigBuilder, ConfigError, DEFAULT_SESSION_TIMEOUT, MAX_DURATION, MIN_BACKOFF_BASE,
    MIN_DURATION, MIN_LIFETIME, PermanentErrors, Ping, REFUSAL_BODY_TIMEOUT,
};
#[cfg(feature = "json")]
pub use dialect::JsonType;
#[cfg(feature = "dialects")]
pub use dialect::{
    AnyDialect, Buffer, CatalogueEntry, Contradiction, Description, DescriptionBuilder,
    DescriptionError, Limits, Lint, Outgoing, Rate, Rates, Rule, UnknownService, Values, Variables,
    catalogue, lint_limit,
};
pub use dialect::{
    Class, Composite, Dialect, First, FramesOnly, Hello, PingSpec, Reply, TemplateRef,
};
pub use duration_text::{DurationError, DurationText, parse_duration};
pub use happy_eyeballs::{CONNECTION_ATTEMPT_DELAY, HappyEyeballs, NextAttempt};
pub use limiter::{Crowded, Limiter, LimiterError};
#[cfg(feature = "trace")]
pub use machine::Memory;
pub use machine::{
    AbortCounts, AbortReason, Action, Actions, ConnId, Event, GiveUp, Heartbeat, IntoIter, Message,
    Phase, PingMessage, Reason, Route, Rtt, Stats, Step,
};
pub use renewal::Renewal;
pub use rotation::{Generation, Rotation, RotationError, RotationTimes, Turnover};
pub use time::{Clock, Instant};
