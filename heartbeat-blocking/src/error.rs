//! What can go wrong before a client runs, and while one waits for an event.

use std::{error, fmt, io};

use heartbeat_driver::RequestError;

/// Why a client could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The options need something that is not there.
    Request(RequestError),
    /// The operating system has no room for a poll or a thread.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::Io(error) => write!(f, "no room for a poll or a thread: {error}"),
        }
    }
}

impl error::Error for StartError {}

impl From<RequestError> for StartError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Why no event was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// There was none in time.
    Timeout,
    /// There will be none any more.
    Ended,
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no event in time",
            Self::Ended => "the client has ended",
        })
    }
}

impl error::Error for RecvTimeoutError {}
