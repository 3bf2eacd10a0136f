//! The way in, from any task.

use std::sync::Arc;

use heartbeat_driver::core::{ConnId, Failure};
use heartbeat_driver::{
    ClientStats, InvalidClose, Message, Panicked, SendError, SendQueue, SharedStats,
};

/// Hands messages and commands to a client. Cheap to clone.
///
/// A message that was accepted is either written (handed to the operating system whole) or handed
/// back by [`Event::Disconnected`](crate::Event::Disconnected), [`Event::Expired`](crate::Event::Expired),
/// [`Event::Skipped`](crate::Event::Skipped) or [`Event::Stopped`](crate::Event::Stopped), in order.
/// Nothing is sent twice.
///
/// A connection ends before the application takes its `Disconnected`. A `send` that waits for room then is refused, or
/// accepted for the next connection: its message is not among those that this event hands back.
///
/// *Written* promises that the whole message was handed to the operating system's send buffer. It does not promise that
/// the server has it: only an answer of the server's own says that.
#[derive(Clone, Debug)]
pub struct Sender {
    send_queue: Arc<SendQueue>,
}

impl Sender {
    pub(crate) fn new(send_queue: Arc<SendQueue>) -> Self {
        Self { send_queue }
    }

    /// Hands a message over; waits while too much waits already. Of many who wait each gets its turn, in the order
    /// in which they came.
    ///
    /// If the future is dropped before it returns (`select!`, `timeout`), the message was not accepted and is dropped with
    /// it. Keep a clone where it must not be lost: a clone of a [`Message`] shares its bytes.
    ///
    /// # Errors
    /// [`SendError`] hands the message back if there is no ready connection now and messages are not held
    /// ([`Options::hold`](crate::Options::hold)), if it is too large, if the client has ended, or if it would wait for
    /// its own return ([`SendErrorKind::Inside`](crate::SendErrorKind::Inside)).
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_queue.send(message.into()).await
    }

    /// Hands a message over without waiting.
    ///
    /// # Errors
    /// [`SendError`] hands the message back; [`SendErrorKind::Full`](crate::SendErrorKind::Full) if too much waits already.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_queue.try_send(message.into())
    }

    /// Hands over a message that makes this connection's session ready ([`Options::session_by_application`]):
    /// it goes out ahead of all others, and is handed back if the connection ends before.
    ///
    /// # Errors
    /// [`SendError`] hands the message back; [`SendErrorKind::NotConnected`](crate::SendErrorKind::NotConnected) if
    /// this is not the connection that is open.
    ///
    /// [`Options::session_by_application`]: crate::Options::session_by_application
    pub fn send_opening(&self, conn: ConnId, message: impl Into<Message>) -> Result<(), SendError> {
        self.send_queue.send_opening(conn, message.into())
    }

    /// The session of this connection is ready: messages that were held go out, and others are accepted.
    /// [`Event::Ready`](crate::Event::Ready) confirms it. Of an earlier connection it means nothing.
    pub fn ready(&self, conn: ConnId) {
        self.send_queue.session(conn, Ok(()));
    }

    /// This connection is of no use to the application, ready or not: it is closed, and `failure` says
    /// what is to become of the next one. Of an earlier connection it means nothing.
    ///
    /// The peer is told 4000 (private use) where the client comes back, 1000 with [`Failure::GiveUp`]: to a service
    /// that can resume a session, 1000 says that the session is over. [`fail_with`](Self::fail_with) says another code.
    pub fn fail(&self, conn: ConnId, failure: Failure) {
        self.send_queue.session(conn, Err(failure));
    }

    /// Like [`fail`](Self::fail), but tells the peer this code and reason.
    ///
    /// # Errors
    /// [`InvalidClose`](crate::InvalidClose) if the code is not 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455
    /// §7.4), or the reason longer than 123 bytes. Nothing happens then.
    pub fn fail_with(
        &self,
        conn: ConnId,
        failure: Failure,
        code: u16,
        reason: &str,
    ) -> Result<(), InvalidClose> {
        self.send_queue.fail_session(conn, failure, code, reason)
    }

    /// Sets a variable of the dialect's templates (Janus' `session`, say), written as it is to be
    /// sent: a JSON string has its quotes.
    pub fn set_variable(&self, name: impl Into<String>, value: impl Into<String>) {
        self.send_queue.set_variable(name, value);
    }

    /// True if this thread runs code that the client has called.
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

    /// The next id for a message of the application's, where a service wants one row of ids for those
    /// and the dialect's own messages (Home Assistant, Mattermost, Phoenix). Never given twice, to
    /// nobody, over all of the client's connections; see also
    /// [`Options::first_id`](crate::Options::first_id).
    ///
    /// A service that wants ids to *grow* (Home Assistant) refuses a message that was overtaken: take an
    /// id when its message is ready, and send that at once.
    pub fn take_id(&self) -> u64 {
        self.send_queue.take_id()
    }

    /// The network is back, the laptop is open again: dial now (never sooner after the last dial than
    /// [`DIAL_FLOOR`](crate::core::DIAL_FLOOR), nor before a server's `Retry-After`), or ask the peer now
    /// if a connection is open. Harmless at any other time.
    pub fn kick(&self) {
        self.send_queue.kick();
    }

    /// Ends the client: what was accepted is written, the connection is closed gracefully within
    /// `close_timeout`, and [`Event::Stopped`](crate::Event::Stopped) comes last.
    pub fn stop(&self) {
        self.send_queue.stop();
    }

    /// Like [`stop`](Self::stop), but tells the peer this code and reason instead of 1000. The first stop counts:
    /// `stop()` of the client may follow, to wait for the end.
    ///
    /// # Errors
    /// [`InvalidClose`](crate::InvalidClose) if the code is not 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455
    /// §7.4), or the reason longer than 123 bytes. The client goes on then.
    pub fn stop_with(&self, code: u16, reason: &str) -> Result<(), InvalidClose> {
        self.send_queue.stop_with(code, reason)
    }
}
