//! A client that is driven by its owner's polling: no task, no hand-off.

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

/// Their names where those of the application's panic.
const DIALER: &str = "the dialer";
const STREAM: &str = "the byte stream";

/// Events between two looks at tokio's cooperative budget. A budget of 128 then lets at most 2048
/// messages through, a few hundred microseconds, before other tasks get their turn.
const EVENTS_PER_BUDGET: u32 = 16;

/// A client that lives only while it is polled: take its events in a loop that never waits long for
/// anything else, or heartbeats are late. Nothing is spawned and nothing is queued; dropping it
/// closes the socket.
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
    /// Where it was made, and where its timer is.
    runtime: Handle,
    clock: TokioClock,
    /// Something was waited for since the last look at the clock.
    waited: bool,
    /// The task that drives this, for whoever puts something into the send_queue.
    waker: Arc<AtomicWaker>,
    sender: Sender,
    events: u32,
    /// Others are to have their turn.
    yields: bool,
    look: Look,
}

impl InPlace {
    /// A client over TCP. It dials when it is first polled.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, and outside of a tokio runtime.
    pub fn new(options: Options) -> Result<Self, StartError> {
        Self::with_dialer(options.proxy_by_default(), TcpDialer)
    }

    /// A client over byte streams of another kind.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, and outside of a tokio runtime.
    pub fn with_dialer(
        options: Options,
        dialer: impl Dialer + 'static,
    ) -> Result<Self, StartError> {
        let runtime = Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let clock = TokioClock::start();
        // tokio panics where a runtime has no timer, and there is no way to ask.
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

    /// The next event; `None` after [`Event::Stopped`].
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The next event that is no message; `None` after [`Event::Stopped`]. Each message that comes before is lent to
    /// `look`: for those who parse and forget, it is the cheapest way to receive.
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

    /// A handle to send messages with, from any task.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Ends the client gracefully, as [`Client::stop`](crate::Client::stop) does, driving it meanwhile.
    pub async fn stop(mut self) -> Unsent {
        self.sender.stop();
        let mut unsent = Unsent::default();
        while let Some(event) = self.next().await {
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

    /// A connection is not ready before its session is.
    pub(crate) fn asks_for_session(&self) -> bool {
        self.machine().config().session_timeout().is_some()
    }

    pub(crate) fn withhold_dials(&mut self, withheld: bool) {
        self.engine.withhold_dials(withheld);
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.engine.overflow()
    }

    /// The next event. Registers the task for whatever comes first.
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

    /// The same, where it is more than one message of many.
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

    /// Where a step will judge a deadline, the operating system is asked, and not what tokio knew before a suspend.
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

    /// Ready when other tasks had their turn and tokio has looked at its poller: who sends without pause wakes this task
    /// before that.
    #[inline(never)]
    fn poll_others(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.look.poll(cx));
        self.yields = false;
        Poll::Ready(())
    }

    /// Before the turn, for a dial that has succeeded beats its deadline.
    fn poll_dial(&mut self, cx: &mut Context<'_>) {
        let Some((conn, _)) = self.dialing else {
            return;
        };
        let wanted = self.engine.dialing() == Some(conn);
        let dialing = &mut self.dialing;
        let polled = self.sender.guard(DIALER, || {
            let polled = match dialing {
                Some((_, dialing)) if wanted => dialing.as_mut().poll(cx).map(Some),
                // Given up: dropping the future closes what it has opened so far.
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

    /// `None`: code of the application's has panicked, and the client has ended.
    fn unless_panicked<T>(&mut self, done: Result<T, Panicked>) -> Option<T> {
        done.map_err(|panicked| self.engine.panicked(&panicked, &self.clock))
            .ok()
    }

    /// Ready as soon as another turn makes sense.
    fn poll_readiness(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.engine.send_queue().is_pending() {
            return Poll::Ready(());
        }
        let (read, write) = (self.engine.wants_read(), self.engine.wants_write());
        let watches_hang_up = self.engine.watches_hang_up();
        if let Some(socket) = self.engine.socket_mut() {
            let ready = self.sender.guard(STREAM, || {
                // All are asked, so that all are registered.
                let readable = read && socket.poll_read_ready(cx).is_ready();
                let writable = write && socket.poll_write_ready(cx).is_ready();
                let hung_up = watches_hang_up && socket.poll_hang_up(cx).is_ready();
                (readable || writable, hung_up)
            });
            // After a panic there is something to tell.
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
