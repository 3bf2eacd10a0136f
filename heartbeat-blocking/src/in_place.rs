//! A client that is driven by its owner's calls: no thread, no hand-off.

use std::sync::Arc;
use std::time::Duration;

use heartbeat_driver::core::{Config, ConnId, Heartbeat, Instant};
use heartbeat_driver::{
    ClientStats, Engine, Event, Message, MessageRef, Options, Overflow, Panicked, SendError,
    SharedDialect, SharedStats, StartError, Turn, Unsent,
};

use crate::error::RecvTimeoutError;
use crate::net::Net;
use crate::reactor::Reactor;
use crate::sender::Sender;

/// A client that lives only while one of its `recv` methods is running: call them in a loop that
/// never waits long for anything else, or heartbeats are late. Nothing is spawned and nothing is
/// queued; dropping it closes the socket.
///
/// ```no_run
/// use heartbeat_blocking::{Event, InPlace, Options};
///
/// let mut client = InPlace::new(Options::new("wss://example.org/feed")?)?;
/// while let Some(event) = client.recv() {
///     if let Event::Message { message, .. } = event {
///         println!("{message:?}");
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing happens before `recv` is called"]
#[derive(Debug)]
pub struct InPlace<R: Reactor = Net> {
    engine: Engine<R::Socket>,
    reactor: R,
    sender: Sender,
}

/// Its name where one of the application's panics.
const REACTOR: &str = "the reactor";

/// What can be had without waiting.
#[derive(Debug)]
pub(crate) enum Polled {
    Event(Event),
    /// There is more to do, but nothing to tell yet.
    Busy,
    Nothing,
    Ended,
}

impl InPlace {
    /// A client over TCP. It dials at the first call of a `recv` method.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or if the operating system has
    /// no room for a poll.
    pub fn new(options: Options) -> Result<Self, StartError> {
        Self::with_reactor(options.proxy_by_default(), Net::new()?)
    }
}

impl<R: Reactor> InPlace<R> {
    /// A client in a world of another kind.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found.
    pub fn with_reactor(options: Options, reactor: R) -> Result<Self, StartError> {
        let waker = reactor.waker();
        let engine = Engine::new(options, reactor.now(), Box::new(move || waker()))?;
        let sender = Sender::new(Arc::clone(engine.send_queue()));
        Ok(Self {
            engine,
            reactor,
            sender,
        })
    }

    /// Waits for the next event; `None` after [`Event::Stopped`].
    #[inline]
    pub fn recv(&mut self) -> Option<Event> {
        self.message().or_else(|| self.recv_until(None).ok())
    }

    /// Waits for the next event, at most for `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if there was none, [`RecvTimeoutError::Ended`] after [`Event::Stopped`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        let deadline = self.now().saturating_add(timeout);
        self.recv_until(Some(deadline))
    }

    /// Waits for the next event that is no message; `None` after [`Event::Stopped`]. Each message that comes before is
    /// lent to `look`: for those who parse and forget, it is the cheapest way to receive.
    ///
    /// ```no_run
    /// use heartbeat_blocking::{Event, InPlace, MessageRef, Options};
    ///
    /// let mut client = InPlace::new(Options::new("wss://example.org/feed")?)?;
    /// let mut bytes = 0;
    /// while let Some(event) = client.recv_lent(|_conn, message| match message {
    ///     MessageRef::Text(text) => bytes += text.len(),
    ///     MessageRef::Binary(binary) => bytes += binary.len(),
    /// }) {
    ///     println!("{event:?}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn recv_lent(&mut self, mut look: impl FnMut(ConnId, MessageRef<'_>)) -> Option<Event> {
        loop {
            while self.engine.lend(&self.reactor, u32::MAX, &mut look) > 0 {}
            match self.recv_until(None).ok()? {
                Event::Message { conn, message } => look(conn, message.lend()),
                event => return Some(event),
            }
        }
    }

    /// Hands a message over and writes it at once, as far as the socket takes it; the rest goes out while the
    /// client is driven. The shortest way to send one message: for many at once, [`Sender::try_send`] each
    /// and drive the client then, and they share their writes.
    ///
    /// What was accepted is written or handed back, as with [`Sender`], and behind what waits in there.
    ///
    /// # Errors
    /// [`SendError`] hands the message back; [`SendErrorKind::Full`](crate::SendErrorKind::Full) if too much waits already.
    #[inline]
    pub fn try_send(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        self.engine.try_send(message.into())
    }

    /// A handle to send messages with, from any thread.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Ends the client gracefully, as [`Client::stop`](crate::Client::stop) does, driving it meanwhile.
    #[allow(clippy::must_use_candidate, reason = "to stop is enough for most")]
    pub fn stop(mut self) -> Unsent {
        self.sender.stop();
        let mut unsent = Unsent::default();
        while let Some(event) = self.recv() {
            unsent = unsent.and(event.into_unsent());
        }
        unsent
    }

    /// The same as [`Client::explain`](crate::Client::explain).
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        self.engine.shared_stats().explain()
    }

    /// The client's figures as of now.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.engine.stats()
    }

    /// The machine: phase, figures, configuration.
    #[must_use]
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        self.engine.machine()
    }

    /// The world that it lives in.
    #[must_use]
    pub fn reactor(&self) -> &R {
        &self.reactor
    }

    /// The next message, where it is there already and nothing else comes before it.
    #[inline(always)]
    fn message(&mut self) -> Option<Event> {
        let (conn, message) = self.engine.message(&self.reactor)?;
        Some(Event::Message { conn, message })
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        self.engine.send_queue().rise();
        let received = self.drive_until(deadline);
        self.engine.send_queue().leave();
        received
    }

    fn drive_until(&mut self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        loop {
            let is_dry = match self.poll() {
                Polled::Event(event) => return Ok(event),
                Polled::Ended => return Err(RecvTimeoutError::Ended),
                Polled::Busy => false,
                Polled::Nothing => true,
            };
            if is_dry {
                // Before it rests: what this thread sends wakes nobody.
                self.engine.send_queue().driven_by_this_thread();
            }
            if deadline.is_some_and(|deadline| deadline <= self.now()) {
                return Err(RecvTimeoutError::Timeout);
            }
            if is_dry {
                self.wait(deadline);
            }
        }
    }

    /// The next event that can be had without waiting.
    pub(crate) fn poll(&mut self) -> Polled {
        if let Some(message) = self.message() {
            return Polled::Event(message);
        }
        loop {
            // Before the turn, for a dial that has succeeded beats its deadline.
            if self.engine.dialing().is_some()
                && let Some(Some((conn, result))) = self.guard(Reactor::dialed)
            {
                self.engine.dialed(conn, result, &self.reactor);
            }
            match self.engine.turn(&self.reactor) {
                Turn::Event(event) => return Polled::Event(event),
                Turn::Dial(dial) => drop(self.guard(|reactor| reactor.dial(&dial))),
                Turn::Again => return Polled::Busy,
                Turn::Ended => return Polled::Ended,
                Turn::Idle => {
                    if self.engine.dialing().is_none() {
                        // Given up, or come to its end.
                        self.guard(Reactor::cancel_dial);
                    }
                    return Polled::Nothing;
                }
            }
        }
    }

    /// Waits until polling again makes sense, at most until `deadline`.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) {
        if self.notices_hang_up() {
            return;
        }
        if self.engine.send_queue().rest() {
            self.wait_at_rest(deadline);
            self.notices_hang_up();
        }
        self.engine.send_queue().rise();
    }

    /// True if the connection's end has come while nothing is read from it.
    fn notices_hang_up(&mut self) -> bool {
        let has_come = self.engine.watches_hang_up()
            && self.guard(|reactor| reactor.hung_up()).unwrap_or_default();
        if has_come {
            self.engine.hung_up();
        }
        has_come
    }

    fn wait_at_rest(&mut self, deadline: Option<Instant>) {
        let wake = self.engine.wake();
        let until = match (wake, deadline) {
            (Some(wake), Some(deadline)) => Some(wake.min(deadline)),
            (wake, deadline) => wake.or(deadline),
        };
        let (reactor, socket) = (&mut self.reactor, self.engine.socket_mut());
        let waited = self.sender.guard(REACTOR, || reactor.wait(socket, until));
        if let Some(Err(error)) = self.unless_panicked(waited) {
            // The poll itself is broken: it cannot be mended from here, but must not spin either.
            tracing::error!(parent: self.engine.log_span(), %error, "cannot wait for the socket");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets the reactor do something. `None`: it has panicked, and the client has ended.
    fn guard<T>(&mut self, f: impl FnOnce(&mut R) -> T) -> Option<T> {
        let reactor = &mut self.reactor;
        let done = self.sender.guard(REACTOR, || f(reactor));
        self.unless_panicked(done)
    }

    fn unless_panicked<T>(&mut self, done: Result<T, Panicked>) -> Option<T> {
        done.map_err(|panicked| self.engine.panicked(&panicked, &self.reactor))
            .ok()
    }

    fn now(&mut self) -> Instant {
        self.guard(|reactor| reactor.now()).unwrap_or_default()
    }

    /// From now on it is driven by `poll` and `wait` alone, without a pause.
    pub(crate) fn is_driven(&self) {
        self.engine.send_queue().rise();
    }

    pub(crate) fn shared_stats(&self) -> &Arc<SharedStats> {
        self.engine.shared_stats()
    }

    pub(crate) fn pause_reading(&mut self) {
        self.engine.pause_reading(&self.reactor);
    }

    pub(crate) fn resume_reading(&mut self) {
        self.engine.resume_reading(&self.reactor);
    }

    pub(crate) fn withhold_dials(&mut self, withheld: bool) {
        self.engine.withhold_dials(withheld);
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.engine.overflow()
    }
}

impl<R: Reactor> Iterator for InPlace<R> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}
