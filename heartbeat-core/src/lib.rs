//! The liveness and reconnection logic of a long-lived WebSocket client, as a pure state machine.
//!
//! Events and the time go in, actions and the next wake-up come out. There is no I/O, no clock, no
//! thread and no allocation in here: a *driver* owns the socket and the timer, tells what happened,
//! and does what it is told.
//!
//! ```
//! use core::time::Duration;
//! use heartbeat_core::{AbortReason, Action, Cause, Config, Event, FramesOnly, Heartbeat, Instant, Message};
//!
//! let second = |n: u64| Instant::from_nanos(n * 1_000_000_000);
//! let mut machine = Heartbeat::new(Config::default(), FramesOnly, 7, second(0));
//!
//! // It wants a connection.
//! let step = machine.step(second(0), Event::Tick);
//! let Action::Connect { conn, .. } = step.actions[0] else { panic!() };
//! assert_eq!(step.wake, Some(second(10)));             // connect_timeout
//!
//! // The driver has dialled. From here on silence is watched.
//! let step = machine.step(second(1), Event::Connected(conn));
//! assert_eq!(step.wake, Some(second(31)));             // ask after 30 s of silence
//!
//! // The server asks; the answer comes before anything else.
//! let step = machine.step(second(5), Event::Received(conn, Message::Ping(b"17")));
//! assert!(matches!(step.actions[0], Action::SendPong { .. }));
//!
//! // Then it says nothing more. The driver ticks whenever `wake` has come.
//! let verdict = loop {
//!     let step = machine.step(machine.wake().unwrap(), Event::Tick);
//!     if let Action::Abort { reason, .. } = step.actions[0] {
//!         break (machine.wake(), reason);
//!     }
//! };
//! // 90 s after the last byte it is dead; the next dial comes within 2 s.
//! assert_eq!(verdict.1, AbortReason::IdleTimeout);
//! assert!(verdict.0 > Some(second(95)) && verdict.0 <= Some(second(97)));
//!
//! // Whatever the old socket says now changes nothing.
//! assert!(machine.step(second(96), Event::Closed(conn, Cause::Close(1002))).stale);
//! ```
//!
//! # Writing a driver
//!
//! In short; [the guide](guide) builds one step by step, with the mistakes that are often made.
//!
//! Wait for whichever comes first, the socket or [`Step::wake`], and then:
//!
//! 1. Read what has arrived, and report it: a ping at once ([`Message::Ping`], or a text or binary
//!    message that [`Dialect`] does not take for data), anything else once the socket has run dry
//!    ([`Message::Data`]), bytes that are no whole message yet as [`Event::Progress`].
//! 2. If `wake` has come, report [`Event::Tick`]. In this order: bytes in hand beat a deadline.
//! 3. Perform each step's actions, in their order. [`Action::Abort`] means to drop the transport, not
//!    to say goodbye. A draft ([`Reply::Template`], [`PingMessage::Template`]) is written out by the dialect's
//!    `render`; what the service wants to be told on open ([`Dialect::greeting`]) follows
//!    [`Event::Connected`]. A [`Class::Response`] is the application's unless it
//!    [answers](Heartbeat::is_answer) the machine.
//! 4. Report what becomes of writes: [`Event::Wrote`] when the transport has taken what was there,
//!    [`Event::WriteBlocked`] when it takes nothing more; [`Event::PingWaiting`] when a ping waits behind
//!    other bytes, [`Event::PingWritten`] when it has left.
//!
//! [`Action::Connect`] is answered with [`Event::Connected`] or [`Event::Closed`], whenever that is
//! known; dialling must not keep the driver from waiting. A superfluous tick does nothing.
//!
//! A server's driver does the same with a machine that was made by [`Heartbeat::accepted`], for a
//! connection that is open already: there is no [`Action::Connect`], and when the connection ends the phase
//! is [`Phase::Stopped`].
//!
//! # Examples
//!
//! `cargo run -p heartbeat-core --example NAME`; each drives the core by itself and ends within seconds.
//!
//! | | |
//! |---|---|
//! | `mio_loop` | a WebSocket client on `mio` and tungstenite: dial, read, answer, write, close, reconnect in one loop |
//! | `smol_client` | a client under `smol`, whose owner awaits what happens |
//! | `browser_like` | only callbacks, `setTimeout` and `performance.now()`; a background tab's late timers kill nothing |
//! | `replay` | what a trace was answered, line by line; `heartbeat explain` (heartbeat-cli) says it in sentences |
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

/// `Debug` of an error as its `Display`: where a `main` returns an error, `Debug` is all that its reader sees.
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
    DescriptionError, Limits, Lint, Outgoing, Rate, Rule, UnknownService, Values, Variables,
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
