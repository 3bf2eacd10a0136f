//! The liveness and reconnection logic of a long-lived WebSocket client, as a pure state machine.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(feature = "json", feature = "serde"))]
extern crate alloc;

mod action;
mod backoff;
mod cause;
mod config;
#[cfg(feature = "serde")]
mod config_text;
mod dialect;
mod duration_text;
mod event;
mod machine;
mod stats;
mod time;
#[cfg(feature = "trace")]
pub mod trace;

pub use action::{AbortReason, Action, Actions, Ask, GiveUp, IntoIter, Reply, Step};
pub use backoff::DIAL_FLOOR;
pub use cause::{Cause, MAX_RETRY_AFTER, Overrides, Signal, Verdict};
pub use config::{
    Config, ConfigBuilder, ConfigError, MAX_DURATION, MIN_BACKOFF_BASE, MIN_DURATION, Ping,
};
#[cfg(feature = "serde")]
pub use config_text::ConfigTextError;
#[cfg(feature = "json")]
pub use dialect::JsonType;
pub use dialect::{Class, Dialect, FramesOnly};
pub use duration_text::{DurationError, DurationText, parse_duration};
pub use event::{ConnId, Event, Message};
pub use machine::{Heartbeat, Phase};
pub use stats::{Rtt, Stats, Verdicts};
pub use time::{Clock, Instant};
