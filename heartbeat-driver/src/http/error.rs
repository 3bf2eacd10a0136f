//! Why a dial failed.

use std::fmt;
use std::io;
use std::sync::Arc;

use heartbeat_core::Cause;

use super::Response;
use crate::stream::io_cause;

/// Why a dial failed, with the server's answer.
#[derive(Debug)]
pub(crate) struct DialError {
    pub(crate) cause: Cause,
    pub(crate) detail: Option<Box<str>>,
    /// The server's answer, if there was one.
    pub(crate) response: Option<Arc<Response>>,
}

impl DialError {
    pub(crate) fn new(cause: Cause, detail: impl fmt::Display) -> Self {
        Self {
            cause,
            detail: Some(detail.to_string().into()),
            response: None,
        }
    }

    pub(crate) fn io(error: &io::Error) -> Self {
        let (cause, detail) = io_cause(error);
        Self {
            cause,
            detail,
            response: None,
        }
    }

    /// Creates an error for a protocol violation, with the same code as on an open connection (RFC 6455
    /// §7.4.1).
    pub(crate) fn broken(detail: impl fmt::Display) -> Self {
        Self::new(Cause::Close(1002), detail)
    }

    /// Adds that this proxy caused the error.
    pub(crate) fn of(mut self, proxy: &str) -> Self {
        let detail = self.detail.as_deref().unwrap_or("no answer");
        self.detail = Some(format!("the proxy {proxy}: {detail}").into());
        self
    }
}

/// A failed write. It is deferred, because the peer's last data says more than "broken pipe".
#[derive(Debug, Default)]
pub(crate) struct Lost {
    error: Option<io::Error>,
    doubted: bool,
}

impl Lost {
    /// Returns true if the last write failed. Nothing more may be written then.
    pub(crate) fn note(&mut self, error: Option<io::Error>) -> bool {
        self.error = error;
        self.error.is_some()
    }

    /// Handles a stream without data. A stream that caches its readiness may not know yet of data before the
    /// end. So the first time the silence is [doubted](Self::is_doubtful), and the second time it is the end.
    pub(crate) fn ran_dry(&mut self) -> Result<(), DialError> {
        if self.error.is_some() && std::mem::replace(&mut self.doubted, true) {
            return Err(self.end());
        }
        Ok(())
    }

    /// Returns true if the socket itself must be asked before its silence counts.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.error.is_some() && self.doubted
    }

    /// Handles the end of the stream.
    pub(crate) fn end(&mut self) -> DialError {
        let error = self.error.take();
        DialError::io(&error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
    }
}
