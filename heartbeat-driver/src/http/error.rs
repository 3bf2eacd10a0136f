//! Why a dial failed.

use std::fmt;
use std::io;
use std::sync::Arc;

use heartbeat_core::Cause;

use super::Response;
use crate::stream::io_cause;

/// Why a dial has come to nothing.
#[derive(Debug)]
pub(crate) struct DialError {
    pub(crate) cause: Cause,
    pub(crate) detail: Option<Box<str>>,
    /// The server's answer, if it was one.
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

    /// The peer breaks the protocol: the same code as for an open connection (RFC 6455 §7.4.1).
    pub(crate) fn broken(detail: impl fmt::Display) -> Self {
        Self::new(Cause::Close(1002), detail)
    }

    /// Says that it was this proxy.
    pub(crate) fn of(mut self, proxy: &str) -> Self {
        let detail = self.detail.as_deref().unwrap_or("no answer");
        self.detail = Some(format!("the proxy {proxy}: {detail}").into());
        self
    }
}

/// A write that failed. What the peer said before it went away is worth more than "broken pipe".
#[derive(Debug, Default)]
pub(crate) struct Lost {
    error: Option<io::Error>,
    doubted: bool,
}

impl Lost {
    /// True if the last write failed; nothing more is to be written then.
    pub(crate) fn note(&mut self, error: Option<io::Error>) -> bool {
        self.error = error;
        self.error.is_some()
    }

    /// The stream has nothing to read. Who remembers readiness may not know yet what came before the end:
    /// the first time it is [doubted](Self::is_doubtful), then it is the end.
    pub(crate) fn ran_dry(&mut self) -> Result<(), DialError> {
        if self.error.is_some() && std::mem::replace(&mut self.doubted, true) {
            return Err(self.end());
        }
        Ok(())
    }

    /// The socket itself is to be asked before anything follows from its silence.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.error.is_some() && self.doubted
    }

    /// The stream has ended.
    pub(crate) fn end(&mut self) -> DialError {
        let error = self.error.take();
        DialError::io(&error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
    }
}
