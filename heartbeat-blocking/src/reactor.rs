//! What a blocking client needs of the world: time, a way to wait, and byte streams.

use std::io::{self, Read, Write};
use std::sync::Arc;

use heartbeat_driver::Dial;
use heartbeat_driver::core::{Clock, ConnId, Instant};

/// Time, waiting and dialling. [`Net`](crate::Net) is the real one; a test brings its own, in which
/// no time passes.
pub trait Reactor: Clock {
    /// A non-blocking byte stream: `read` and `write` return `WouldBlock` rather than wait.
    type Socket: Read + Write;

    /// Begins to dial; an earlier dial is dropped.
    fn dial(&mut self, dial: &Dial);

    /// Drops the dial that is under way, if any, and closes what it has opened.
    fn cancel_dial(&mut self);

    /// How the dial has ended, once it has.
    fn dialed(&mut self) -> Option<(ConnId, io::Result<Self::Socket>)>;

    /// Waits until the socket may have become readable or writable, the dial may have got further,
    /// `until` has come, or somebody called the waker, before or during the wait. May return earlier.
    ///
    /// # Errors
    /// Only what makes waiting impossible.
    fn wait(&mut self, socket: Option<&mut Self::Socket>, until: Option<Instant>)
    -> io::Result<()>;

    /// True once a wait has told of the peer's end (FIN, RST) on the socket that was dialled last, behind bytes that
    /// nobody reads now perhaps. Asked for while reading is paused. A world that cannot tell leaves
    /// this out: the end is noticed by the next write that fails, or when reading goes on.
    fn hung_up(&self) -> bool {
        false
    }

    /// Ends a wait, from any thread.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync>;
}
