//! The interface between a blocking client and the operating system: time, waiting and byte streams.

use std::io::{self, Read, Write};
use std::sync::Arc;

use heartbeat_driver::Dial;
use heartbeat_driver::core::{Clock, ConnId, Instant};

/// Reads the clock, waits and dials for a client. [`Net`](crate::Net) does so with the operating system. A test can use its
/// own reactor with simulated time.
pub trait Reactor: Clock {
    /// A non-blocking byte stream: `read` and `write` return `WouldBlock` instead of waiting.
    type Socket: Read + Write;

    /// Begins to dial, and drops an earlier dial.
    fn dial(&mut self, dial: &Dial);

    /// Drops the current dial, if any, and closes its sockets.
    fn cancel_dial(&mut self);

    /// Returns the result of the dial once it has ended.
    fn dialed(&mut self) -> Option<(ConnId, io::Result<Self::Socket>)>;

    /// Waits until the socket may be readable or writable, the dial may have progressed, `until` has come, or the waker
    /// was called before or during the wait. May return earlier.
    ///
    /// # Errors
    /// Only an error that makes waiting impossible.
    fn wait(&mut self, socket: Option<&mut Self::Socket>, until: Option<Instant>)
    -> io::Result<()>;

    /// Returns true once a wait has reported the peer's end (FIN or RST) on the socket dialled last, even behind unread
    /// bytes. Called while reading is paused. A reactor that cannot tell keeps this default: the client then notices
    /// the end by a failing write, or when it reads again.
    fn hung_up(&self) -> bool {
        false
    }

    /// Returns a function that ends a wait from any thread.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync>;
}
