//! A handle that sends messages and commands to a client, from any thread.

use std::sync::Arc;
use std::time::Duration;

use heartbeat_driver::core::{ConnId, Failure};
use heartbeat_driver::{
    ClientStats, InvalidClose, Message, Panicked, SendError, SendQueue, SharedStats,
};

/// Sends messages and commands to a client. Cheap to clone.
///
/// Every accepted message is either written (handed to the operating system whole) or handed
/// back by [`Event::Disconnected`](crate::Event::Disconnected), [`Event::Expired`](crate::Event::Expired),
/// [`Event::Skipped`](crate::Event::Skipped) or [`Event::Stopped`](crate::Event::Stopped), in order.
/// No message is sent twice.
///
/// A connection has already ended when the application takes its `Disconnected` event. A `send` that is waiting for room
/// at that moment is refused, or accepted for the next connection. Its message is not among those that the event hands
/// back.
///
/// *Written* means that the whole message is in the operating system's send buffer. It does not mean that the server
/// received the message: only an answer from the server proves that.
#[derive(Clone, Debug)]
pub struct Sender {
    send_queue: Arc<SendQueue>,
}

impl Sender {
    pub(crate) fn new(send_queue: Arc<SendQueue>) -> Self {
        Self { send_queue }
    }

    /// Queues a message. Blocks for room while the queue is full and the connection lasts. Waiting senders get room in
    /// order of arrival.
    ///
    /// # Errors
    /// [`SendError`] hands the message back if no connection is ready and messages are not held
    /// ([`Options::hold`](crate::Options::hold)), if the message is too large, if the client has ended, or if the call
    /// would wait for its own return ([`SendErrorKind::Inside`](crate::SendErrorKind::Inside)). The last one happens in a
    /// callback, and in the thread that calls [`InPlace::recv`](crate::InPlace::recv).
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_queue.send_timeout(message.into(), Duration::MAX)
    }

    /// Like [`send`](Self::send), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`SendError`] hands the message back; [`SendErrorKind::Full`](crate::SendErrorKind::Full) after `timeout`.
    pub fn send_timeout(
        &self,
        message: impl Into<Message>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_queue.send_timeout(message.into(), timeout)
    }

    /// Queues a message, or refuses it at once.
    ///
    /// # Errors
    /// [`SendError`] hands the message back; [`SendErrorKind::Full`](crate::SendErrorKind::Full) if the queue is full.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_queue.try_send(message.into())
    }

    /// Queues a message that makes this connection's session ready ([`Options::session_by_application`]). The message
    /// goes out ahead of all others, and is handed back if the connection ends first.
    ///
    /// # Errors
    /// [`SendError`] hands the message back; [`SendErrorKind::NotConnected`](crate::SendErrorKind::NotConnected) if
    /// another connection is open, or none.
    ///
    /// [`Options::session_by_application`]: crate::Options::session_by_application
    pub fn send_opening(&self, conn: ConnId, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_queue.send_opening(conn, message.into())
    }

    /// Reports that the session of this connection is ready. Held messages then go out, and new ones are accepted.
    /// [`Event::Ready`](crate::Event::Ready) confirms the report. Has no effect if `conn` is not the current connection.
    pub fn ready(&self, conn: ConnId) {
        self.send_queue.session(conn, Ok(()));
    }

    /// Reports that the application cannot use this connection, ready or not. The client closes the connection, and
    /// `failure` decides about the next one. Has no effect if `conn` is not the current connection.
    ///
    /// The Close frame has code 4000 (private use) if the client will come back, and 1000 with [`Failure::GiveUp`]: a
    /// service that can resume sessions takes 1000 as the end of the session. [`fail_with`](Self::fail_with) sends
    /// another code.
    pub fn fail(&self, conn: ConnId, failure: Failure) {
        self.send_queue.session(conn, Err(failure));
    }

    /// Like [`fail`](Self::fail), but with this code and reason in the Close frame.
    ///
    /// # Errors
    /// [`InvalidClose`](crate::InvalidClose) if the code is not 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455
    /// §7.4), or if the reason is longer than 123 bytes. The connection then stays open.
    pub fn fail_with(
        &self,
        conn: ConnId,
        failure: Failure,
        code: u16,
        reason: &str,
    ) -> Result<(), InvalidClose> {
        self.send_queue.fail_session(conn, failure, code, reason)
    }

    /// Sets a variable of the dialect's templates (Janus' `session`, for example). The value is inserted verbatim, so a
    /// JSON string needs its quotes.
    pub fn set_variable(&self, name: impl Into<String>, value: impl Into<String>) {
        self.send_queue.set_variable(name, value);
    }

    /// Returns true if this thread is running code that the client called, such as `on_connect`.
    pub(crate) fn is_inside(&self) -> bool {
        self.send_queue.is_inside()
    }

    pub(crate) fn guard<T>(
        &self,
        code: &'static str,
        f: impl FnOnce() -> T,
    ) -> Result<T, Panicked> {
        self.send_queue.guard(code, f)
    }

    pub(crate) fn stats(&self, shared_stats: &SharedStats) -> ClientStats {
        shared_stats.stats(self.send_queue.waiting())
    }

    /// Takes the next id for an application message, for services that want one sequence of ids over the
    /// application's and the dialect's messages (Home Assistant, Mattermost, Phoenix). No id is given out twice, over
    /// all connections of the client. [`Options::first_id`](crate::Options::first_id) sets the first one.
    ///
    /// A service that requires *growing* ids (Home Assistant) refuses a message if a higher id arrived before it. Take
    /// the id when the rest of the message is ready, and send the message at once.
    pub fn take_id(&self) -> u64 {
        self.send_queue.take_id()
    }

    /// Reports that the network is back, or that the laptop is open again. The client dials now, or probes an open
    /// connection now. The dial still waits for [`DIAL_FLOOR`](crate::core::DIAL_FLOOR) since the last dial, and for a
    /// server's `Retry-After`. Harmless at any other time.
    pub fn kick(&self) {
        self.send_queue.kick();
    }

    /// Stops the client. Accepted messages are written, the connection is closed gracefully within `close_timeout`,
    /// and [`Event::Stopped`](crate::Event::Stopped) comes last.
    pub fn stop(&self) {
        self.send_queue.stop();
    }

    /// Like [`stop`](Self::stop), but with this code and reason in the Close frame instead of 1000. The first stop
    /// counts, so the client's own `stop()` may follow to wait for the end.
    ///
    /// # Errors
    /// [`InvalidClose`](crate::InvalidClose) if the code is not 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455
    /// §7.4), or if the reason is longer than 123 bytes. The client then goes on.
    pub fn stop_with(&self, code: u16, reason: &str) -> Result<(), InvalidClose> {
        self.send_queue.stop_with(code, reason)
    }
}
