//! A client that runs only inside its owner's calls, without a thread or a queue of events.

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

/// A client that runs only inside its `recv` methods. Call them in a loop that never waits long for anything else,
/// or heartbeats are late. The client spawns nothing and queues no events. Dropping it closes the socket.
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

/// Name of the application's code, for the report of a panic in it.
const REACTOR: &str = "the reactor";

/// The outcome of [`InPlace::poll`].
#[derive(Debug)]
pub(crate) enum Polled {
    Event(Event),
    /// There is more to do, but no event yet.
    Busy,
    /// Nothing to do before [`InPlace::wait`].
    Nothing,
    Ended,
}

impl InPlace {
    /// Creates a client over TCP. It dials in the first call of a `recv` method.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or if the operating system refuses a poll
    /// instance.
    pub fn new(options: Options) -> Result<Self, StartError> {
        Self::with_reactor(options.proxy_by_default(), Net::new()?)
    }
}

impl<R: Reactor> InPlace<R> {
    /// Creates a client over your own reactor.
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

    /// Waits for the next event. Returns `None` after [`Event::Stopped`].
    #[inline]
    pub fn recv(&mut self) -> Option<Event> {
        self.message().or_else(|| self.recv_until(None).ok())
    }

    /// Waits up to `timeout` for the next event.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if no event came in time, [`RecvTimeoutError::Ended`] after [`Event::Stopped`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        let deadline = self.now().saturating_add(timeout);
        self.recv_until(Some(deadline))
    }

    /// Waits for the next event that is not a message. Returns `None` after [`Event::Stopped`]. Each message that comes
    /// before is lent to `look`. This is the cheapest way to receive if you parse messages and do not keep them.
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

    /// Queues a message and writes as much of it as the socket takes now. The rest goes out while the client runs.
    /// This is the shortest way to send one message. To send many at once, call [`Sender::try_send`] for each, then run
    /// the client: it writes them together.
    ///
    /// As with [`Sender`], an accepted message is either written or handed back. Messages already queued there go first.
    ///
    /// # Errors
    /// [`SendError`] hands the message back; [`SendErrorKind::Full`](crate::SendErrorKind::Full) if the queue is full.
    #[inline]
    pub fn try_send(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        self.engine.try_send(message.into())
    }

    /// Returns a handle that sends messages, from any thread.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Stops the client gracefully and runs it until it has ended. Otherwise like [`Client::stop`](crate::Client::stop).
    #[allow(clippy::must_use_candidate, reason = "most callers only want to stop")]
    pub fn stop(mut self) -> Unsent {
        self.sender.stop();
        let mut unsent = Unsent::default();
        while let Some(event) = self.recv() {
            unsent = unsent.and(event.into_unsent());
        }
        unsent
    }

    /// Returns the machine's last events as a trace. See [`Client::explain`](crate::Client::explain).
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        self.engine.shared_stats().explain()
    }

    /// Returns the client's current figures.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.engine.stats()
    }

    /// Returns the machine, which holds the phase, the figures and the configuration.
    #[must_use]
    pub fn machine(&self) -> &Heartbeat<Arc<Config>, SharedDialect> {
        self.engine.machine()
    }

    /// Returns the reactor.
    #[must_use]
    pub fn reactor(&self) -> &R {
        &self.reactor
    }

    /// Returns the next message if it can be had at once and no other event comes first.
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
                // From here on, only this thread makes room. So `Sender::send` must not wait for room in it.
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

    /// Works without waiting until there is an event, or nothing left to do.
    pub(crate) fn poll(&mut self) -> Polled {
        if let Some(message) = self.message() {
            return Polled::Event(message);
        }
        loop {
            // Checks the dial before the turn, so that a dial that succeeded beats its deadline.
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
                        // The machine gave the dial up, or the dial has ended.
                        self.guard(Reactor::cancel_dial);
                    }
                    return Polled::Nothing;
                }
            }
        }
    }

    /// Waits until there is something to poll for, at most until `deadline`.
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

    /// Returns true if the connection ended while reading is paused.
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
            // The poll itself is broken. Nothing here can repair it, but the loop must not spin.
            tracing::error!(parent: self.engine.log_span(), %error, "cannot wait for the socket");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Calls the reactor. Returns `None` if it panicked, which ends the client.
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

    /// Marks this client as driven by a loop of `poll` and `wait`, without pauses.
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
