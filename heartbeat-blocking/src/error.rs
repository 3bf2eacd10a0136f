//! Errors of waiting for an event.

use std::{error, fmt};

heartbeat_driver::core::debug_as_display!(RecvTimeoutError);

/// Why no event was received.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// There was none in time.
    Timeout,
    /// There will be none any more.
    Ended,
    /// There is none, and the call came from code that the client itself runs (`on_connect`, a factory, a decoder,
    /// an observer): none can come before that returns.
    Inside,
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no event in time",
            Self::Ended => "the client has ended",
            Self::Inside => "the client's own code cannot wait for the client's events",
        })
    }
}

impl error::Error for RecvTimeoutError {}
