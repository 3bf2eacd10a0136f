//! Why a client could not be started.

use std::io;

use crate::request::RequestError;

/// Why a client could not be started. Nothing was dialled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The options need something that is not there.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The operating system has no room for a poll or a thread.
    #[error("no room for a poll or a thread: {0}")]
    Io(#[from] io::Error),
    /// A client of tokio's was made outside of a runtime, or in one without a timer
    /// (`Builder::enable_time`).
    #[error(
        "there is no tokio runtime with a timer here: `Client::spawn`, `InPlace::new` and `Rotating::spawn` must be called \
         within one (`Client::spawn_thread` needs none)"
    )]
    NoRuntime,
}
