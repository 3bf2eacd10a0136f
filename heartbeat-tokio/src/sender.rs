//! The way in, from any task.

use std::sync::Arc;

use heartbeat_driver::{Message, Outbox, Refusal, SendError};
use tokio::sync::Notify;

/// Hands messages and commands to a client. Cheap to clone.
///
/// A message that was accepted is either written (handed to the operating system whole) or handed
/// back by [`Event::Disconnected`](crate::Event::Disconnected) or
/// [`Event::Stopped`](crate::Event::Stopped), in order. Nothing is sent twice.
#[derive(Clone, Debug)]
pub struct Sender {
    outbox: Arc<Outbox>,
    room: Arc<Notify>,
}

impl Sender {
    pub(crate) fn new(outbox: Arc<Outbox>, room: Arc<Notify>) -> Self {
        Self { outbox, room }
    }

    /// Hands a message over; waits while too much waits already.
    ///
    /// Cancel-safe: a message is accepted when this returns, or not at all.
    ///
    /// # Errors
    /// [`SendError`] hands the message back if there is no open connection, if it is too large, or if
    /// the client has ended.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.outbox.try_send(message) {
                Err(SendError {
                    reason: Refusal::Full,
                    message: back,
                }) => message = back,
                result => return result,
            }
            room.await;
        }
    }

    /// Hands a message over without waiting.
    ///
    /// # Errors
    /// [`SendError`] hands the message back; [`Refusal::Full`] if too much waits already.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.outbox.try_send(message.into())
    }

    /// Sets a variable of the dialect's templates (Janus' `session`, say), written as it is to be
    /// sent: a JSON string has its quotes.
    pub fn set_variable(&self, name: impl Into<String>, value: impl Into<String>) {
        self.outbox.set_variable(name, value);
    }

    /// The network is back: dial now, or probe now if open.
    pub fn kick(&self) {
        self.outbox.kick();
    }

    /// Ends the client: what was accepted is written, the connection is closed gracefully within
    /// `close_timeout`, and [`Event::Stopped`](crate::Event::Stopped) comes last.
    pub fn stop(&self) {
        self.outbox.stop();
    }
}
