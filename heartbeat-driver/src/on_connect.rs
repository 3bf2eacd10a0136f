//! What an application does on each connection before anything else goes out: authenticate, subscribe.

use std::fmt;

use heartbeat_core::{ConnId, Failure};

use crate::dial::Attempt;
use crate::message::Message;

/// Makes a session of each open connection. Heartbeats go on meanwhile; the messages that the
/// application sends otherwise wait (where they are held) or are refused until the session is ready.
///
/// A closure will do where nothing needs to be answered:
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
/// A login that must be answered:
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
/// A panic in it ends the connection as [`Failure::GiveUp`] does: the client gives up, and hands back what was
/// not sent. (Where panics unwind.) So does one in any other code that the options bring.
pub trait OnConnect: Send {
    /// A connection is open. Called for each one; whatever was known of an earlier one is void.
    /// Must not block.
    fn connected(&mut self, opening: &mut Opening<'_>) -> Progress;

    /// A message has arrived and the session is not ready. The application gets it, too, and heartbeats
    /// of the dialect come to neither. Must not block.
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

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Further messages are needed. After `session_timeout` the connection is dropped.
    Pending,
    /// The session is ready.
    Ready,
    /// It cannot be opened; what is to become of it.
    Failed(Failure),
}

/// A connection whose session is being opened.
pub struct Opening<'a> {
    pub(crate) attempt: Attempt,
    /// What is to be sent at once, ahead of everything that waits.
    pub(crate) messages: &'a mut Vec<Message>,
}

impl Opening<'_> {
    /// The connection.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.attempt.conn
    }

    /// What its dial was told: failures in a row before it, whether credentials had been refused.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt.clone()
    }

    /// Sends a message ahead of everything that waits. It belongs to this connection: if that ends
    /// before, the message is gone with it, and no event hands it back.
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
