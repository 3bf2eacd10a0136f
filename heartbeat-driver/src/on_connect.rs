//! The first messages on each connection, before any others go out: authenticate, subscribe.

use std::fmt;

use heartbeat_core::{ConnId, Failure};

use crate::dial::Attempt;
use crate::message::Message;

/// Opens a session on each new connection. Heartbeats go on meanwhile. Until the session is ready, other
/// application messages are held or refused.
///
/// A closure is enough if no answer is needed:
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::{Opening, Options, Progress}; // or heartbeat_blocking
///
/// # if cfg!(not(feature = "tls")) { return Ok(()) }
/// let options = Options::new("wss://example.org/feed")?.on_connect(|opening: &mut Opening<'_>| {
///     opening.send(r#"{"op":"subscribe","channel":"trades"}"#);
///     Progress::Ready
/// });
/// # Ok::<(), heartbeat_driver::RequestError>(())
/// ```
///
/// A login that waits for an answer:
///
/// ```
/// # use heartbeat_driver as heartbeat_tokio;
/// use heartbeat_tokio::core::Failure; // or heartbeat_blocking
/// use heartbeat_tokio::{Message, OnConnect, Opening, Progress};
///
/// struct Login {
///     token: String,
/// }
///
/// impl OnConnect for Login {
///     fn connected(&mut self, opening: &mut Opening<'_>) -> Progress {
///         opening.send(format!(r#"{{"op":"login","token":"{}"}}"#, self.token));
///         Progress::Pending
///     }
///
///     fn message(&mut self, message: &Message, opening: &mut Opening<'_>) -> Progress {
///         match message.as_text() {
///             Some(r#"{"login":"ok"}"#) => {
///                 opening.send(r#"{"op":"subscribe","channel":"orders"}"#);
///                 Progress::Ready
///             }
///             Some(r#"{"login":"expired"}"#) => Progress::Failed(Failure::Refresh),
///             _ => Progress::Pending,
///         }
///     }
/// }
/// ```
///
/// A panic in an implementation ends the connection as [`Failure::GiveUp`] does: the client gives up and hands
/// back unsent messages. This needs panics that unwind. Panics in any other code that the options bring have
/// the same effect.
pub trait OnConnect: Send {
    /// Called when a connection has opened. Drop any state of an earlier connection. Must not block.
    fn connected(&mut self, opening: &mut Opening<'_>) -> Progress;

    /// Called for each message that arrives before the session is ready. The application receives the message,
    /// too. Heartbeats of the dialect go to neither. Must not block.
    fn message(&mut self, message: &Message, opening: &mut Opening<'_>) -> Progress {
        let _ = (message, opening);
        Progress::Pending
    }
}

impl<F: FnMut(&mut Opening<'_>) -> Progress + Send> OnConnect for F {
    fn connected(&mut self, opening: &mut Opening<'_>) -> Progress {
        self(opening)
    }
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Further messages are needed. After `session_timeout` the connection is dropped.
    Pending,
    /// The session is ready.
    Ready,
    /// The session cannot be opened. `Failure` says how the client goes on.
    Failed(Failure),
}

/// A connection whose session is being opened.
pub struct Opening<'a> {
    pub(crate) attempt: Attempt,
    /// Messages to send at once, ahead of all waiting messages.
    pub(crate) messages: &'a mut Vec<Message>,
}

impl Opening<'_> {
    /// Returns the connection.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.attempt.conn
    }

    /// Returns the facts about this dial: the failures in a row before it, whether credentials were refused.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt.clone()
    }

    /// Sends a message ahead of all waiting messages. The message belongs to this connection: if the connection
    /// ends first, the message is dropped, and no event hands it back.
    pub fn send(&mut self, message: impl Into<Message>) {
        self.messages.push(message.into());
    }
}

impl fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
