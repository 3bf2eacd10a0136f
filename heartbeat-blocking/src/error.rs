//! The error of a wait for an event.

use std::{error, fmt};

heartbeat_driver::core::debug_as_display!(RecvTimeoutError);

/// Why no event was received.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// No event came in time.
    Timeout,
    /// The client has ended, so no further event will come.
    Ended,
    /// No event waits, and the call came from code that the client runs (`on_connect`, a factory, a decoder, an
    /// observer). No event can come before that code returns.
    Inside,
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no event in time",
            Self::Ended => "the client has ended",
            Self::Inside => "code that the client runs cannot wait for the client's events",
        })
    }
}

impl error::Error for RecvTimeoutError {}
