//! A client that runs only while its owner polls it, without a task or a queue of events.

use std::future::poll_fn;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use atomic_waker::AtomicWaker;
use futures_core::Stream;
use heartbeat_driver::core::{Clock as _, Config, ConnId, Heartbeat};
use heartbeat_driver::{
    ClientStats, Engine, Event, Message, MessageRef, Options, Overflow, Panicked, SendError,
    SharedDialect, SharedStats, StartError, Turn, Unsent,
};
use tokio::runtime::Handle;

use crate::clock::{Alarm, Look, TokioClock};
use crate::dial::{Dialer, Dialing, TcpDialer};
use crate::sender::Sender;
use crate::transport::Transport;

/// Names of the application's code, for the report of a panic in it.
const DIALER: &str = "the dialer";
const STREAM: &str = "the byte stream";

/// Events per unit of tokio's cooperative budget. tokio's budget of 128 units then lets at most 2048 messages through (a
/// few hundred microseconds) before other tasks get a turn.
const EVENTS_PER_BUDGET: u32 = 16;

/// A client that runs only while it is polled. Take its events in a loop that never waits long for anything else,
/// or heartbeats are late. The client spawns nothing and queues no events. Dropping it closes the socket.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use heartbeat_tokio::{Event, InPlace, Options};
///
/// let mut client = InPlace::new(Options::new("wss://example.org/feed")?)?;
/// while let Some(event) = client.next().await {
///     if let Event::Message { message, .. } = event {
///         println!("{message:?}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `next` is awaited"]
pub struct InPlace {
    engine: Engine<Box<dyn Transport>>,
    dialer: Box<dyn Dialer>,
    dialing: Option<(ConnId, Dialing)>,
    timer: Alarm,
    /// The runtime in which this was created, and which runs its timer.
    runtime: Handle,
    clock: TokioClock,
    /// The task has waited since the clock was last refreshed.
    waited: bool,
    /// The task that polls this client. Senders wake it.
    waker: Arc<AtomicWaker>,
    sender: Sender,
    /// Events since tokio's budget was last charged.
    events: u32,
    /// Other tasks must get a turn before this one goes on.
    yields: bool,
    look: Look,
}

impl InPlace {
    /// Creates a client over TCP. It dials when first polled.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or outside of a tokio runtime.
    pub fn new(options: Options) -> Result<Self, StartError> {
        Self::with_dialer(options.proxy_by_default(), TcpDialer)
    }

    /// Creates a client over the byte streams of your own dialer.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or outside of a tokio runtime.
    pub fn with_dialer(
        options: Options,
        dialer: impl Dialer + 'static,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let clock = TokioClock::start();
        // tokio panics if the runtime has no timer, and offers no way to check first.
        let timer = catch_unwind(|| Alarm::new(clock)).map_err(|_| StartError::NoRuntime)?;
        let waker = Arc::new(AtomicWaker::new());
        let wake = Arc::clone(&waker);
        let now = clock.now();
        let engine = Engine::new(options, now, Box::new(move || wake.wake()))?;
        let sender = Sender::new(Arc::clone(engine.send_queue()));
        Ok(Self {
            engine,
            dialer: Box::new(dialer),
            dialing: None,
            timer,
            runtime,
            clock,
            waited: false,
            waker,
            sender,
            events: 0,
            yields: false,
            look: Look::default(),
        })
    }

    /// Waits for the next event. Returns `None` after [`Event::Stopped`].
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Waits for the next event that is not a message. Returns `None` after [`Event::Stopped`]. Each message that comes
    /// before is lent to `look`. This is the cheapest way to receive if you parse messages and do not keep them.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use heartbeat_tokio::{Event, InPlace, MessageRef, Options};
    ///
    /// let mut client = InPlace::new(Options::new("wss://example.org/feed")?)?;
    /// let mut bytes = 0;
    /// let mut look = |_conn, message: MessageRef<'_>| bytes += message.len();
    /// while let Some(event) = client.next_lent(&mut look).await {
    ///     println!("{event:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next_lent(
        &mut self,
        mut look: impl FnMut(ConnId, MessageRef<'_>),
    ) -> Option<Event> {
        poll_fn(|cx| {
            loop {
                if self.events >= EVENTS_PER_BUDGET {
                    ready!(self.poll_budget(cx));
                }
                if !self.waited && !self.has_to_yield() {
                    let most = EVENTS_PER_BUDGET - self.events;
                    let lent = self.engine.lend(&self.clock, most, &mut look);
                    self.events += lent;
                    if lent > 0 {
                        continue;
                    }
                }
                match ready!(self.poll_turn(cx)) {
                    Some(Event::Message { conn, message }) => look(conn, message.lend()),
                    event => return Poll::Ready(event),
                }
            }
        })
        .await
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

    /// Returns a handle that sends messages, from any task.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Stops the client gracefully and runs it until it has ended. Otherwise like [`Client::stop`](crate::Client::stop).
    pub async fn stop(mut self) -> Unsent {
        self.sender.stop();
        let mut unsent = Unsent::default();
        while let Some(event) = self.next().await {
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

    pub(crate) fn shared_stats(&self) -> &Arc<SharedStats> {
        self.engine.shared_stats()
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn waker(&self) -> &Arc<AtomicWaker> {
        &self.waker
    }

    pub(crate) fn pause_reading(&mut self) {
        self.doubt_readiness_when_due();
        self.engine.pause_reading(&self.clock);
    }

    pub(crate) fn resume_reading(&mut self) {
        self.doubt_readiness_when_due();
        self.engine.resume_reading(&self.clock);
    }

    /// Returns true if a session is configured, so that a connection is not ready before its session.
    pub(crate) fn asks_for_session(&self) -> bool {
        self.machine().config().session_timeout().is_some()
    }

    pub(crate) fn withhold_dials(&mut self, withheld: bool) {
        self.engine.withhold_dials(withheld);
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.engine.overflow()
    }

    /// Polls for the next event. Registers the task to be woken for it.
    #[inline]
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.events >= EVENTS_PER_BUDGET {
            ready!(self.poll_budget(cx));
        }
        if !self.waited
            && !self.has_to_yield()
            && let Some((conn, message)) = self.engine.message(&self.clock)
        {
            self.events += 1;
            return Poll::Ready(Some(Event::Message { conn, message }));
        }
        self.poll_turn(cx)
    }

    #[inline(never)]
    fn poll_budget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        self.events = 0;
        Poll::Ready(())
    }

    /// The slow path of [`poll_event`](Self::poll_event). The fast path returns only messages that are ready.
    #[inline(never)]
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.has_to_yield() {
            ready!(self.poll_others(cx));
        }
        if std::mem::take(&mut self.waited) {
            self.clock.refresh();
        }
        loop {
            self.poll_dial(cx);
            self.doubt_readiness_when_due();
            match self.engine.turn(&self.clock) {
                Turn::Event(event) => {
                    self.events += 1;
                    return Poll::Ready(Some(event));
                }
                Turn::Dial(dial) => {
                    let dialer = &mut self.dialer;
                    let dialing = self.sender.guard(DIALER, || dialer.dial(&dial));
                    self.dialing = self
                        .unless_panicked(dialing)
                        .map(|dialing| (dial.conn, dialing));
                }
                Turn::Again if self.has_to_yield() => ready!(self.poll_others(cx)),
                Turn::Again => ready!(tokio::task::coop::poll_proceed(cx)).made_progress(),
                Turn::Ended => return Poll::Ready(None),
                Turn::Idle => {
                    self.waited = true;
                    ready!(self.poll_readiness(cx));
                    if self.has_to_yield() {
                        ready!(self.poll_others(cx));
                    }
                }
            }
        }
    }

    /// If the next step judges a deadline, makes the socket ask the operating system for data. tokio's record of
    /// readiness may be older than a suspend.
    fn doubt_readiness_when_due(&mut self) {
        if let Some(socket) = self.engine.due_socket(self.clock.now()) {
            let doubted = self.sender.guard(STREAM, || socket.doubt_readiness());
            self.unless_panicked(doubted);
        }
    }

    fn has_to_yield(&mut self) -> bool {
        self.yields |= self.engine.has_worked();
        self.yields
    }

    /// Ready once other tasks had a turn and tokio has polled the operating system. A plain yield is not enough: a
    /// sender without pause would wake this task before that.
    #[inline(never)]
    fn poll_others(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.look.poll(cx));
        self.yields = false;
        Poll::Ready(())
    }

    /// Polls the dial. Called before the turn, so that a dial that succeeded beats its deadline.
    fn poll_dial(&mut self, cx: &mut Context<'_>) {
        let Some((conn, _)) = self.dialing else {
            return;
        };
        let wanted = self.engine.dialing() == Some(conn);
        let dialing = &mut self.dialing;
        let polled = self.sender.guard(DIALER, || {
            let polled = match dialing {
                Some((_, dialing)) if wanted => dialing.as_mut().poll(cx).map(Some),
                // The machine gave the dial up. Dropping the future closes its sockets.
                _ => Poll::Ready(None),
            };
            if polled.is_ready() {
                *dialing = None;
            }
            polled
        });
        if let Some(Poll::Ready(Some(result))) = self.unless_panicked(polled) {
            self.engine.dialed(conn, result, &self.clock);
        }
    }

    /// Returns `None` if the application's code panicked, which ends the client.
    fn unless_panicked<T>(&mut self, done: Result<T, Panicked>) -> Option<T> {
        done.map_err(|panicked| self.engine.panicked(&panicked, &self.clock))
            .ok()
    }

    /// Ready once there is something to do in another turn.
    fn poll_readiness(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.engine.send_queue().is_pending() {
            return Poll::Ready(());
        }
        let (read, write) = (self.engine.wants_read(), self.engine.wants_write());
        let watches_hang_up = self.engine.watches_hang_up();
        if let Some(socket) = self.engine.socket_mut() {
            let ready = self.sender.guard(STREAM, || {
                // Polls all of them without short-circuiting, so that each one registers the task.
                let readable = read && socket.poll_read_ready(cx).is_ready();
                let writable = write && socket.poll_write_ready(cx).is_ready();
                let hung_up = watches_hang_up && socket.poll_hang_up(cx).is_ready();
                (readable || writable, hung_up)
            });
            // After a panic there are events to report.
            let (ready, hung_up) = self.unless_panicked(ready).unwrap_or((true, false));
            if hung_up {
                self.engine.hung_up();
            }
            if ready || hung_up {
                return Poll::Ready(());
            }
        }
        self.timer.poll(cx, self.clock, self.engine.wake())
    }
}

impl Stream for InPlace {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl std::fmt::Debug for InPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InPlace")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}
