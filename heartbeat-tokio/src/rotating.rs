//! A client that is replaced by its successor before the service ends its connection.

use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::catch_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use heartbeat_driver::core::{
    Cause, Clock, Generation, Instant, Rotation, RotationTimes, Turnover,
};
use heartbeat_driver::{
    Event, InvalidClose, Message, RequestError, SendError, StartError, Unsent, catch,
};
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};
use tracing::{Span, error, error_span};

use crate::client::Client;
use crate::clock::TokioClock;
use crate::sender::Sender;

type Make = Box<dyn FnMut(Generation) -> Result<Client, StartError> + Send>;

/// Two clients at most, and two only while rotating: for services that end every connection after 24 h
/// (Binance), after 2 h, or at a maintenance that they announce.
///
/// The successor connects first; when its session is ready it is used, and the old one is closed
/// gracefully a little later: what it has accepted is written, what it has read is told. *When* is
/// decided by [`Rotation`], and heartbeats, backoff and verdicts are each [`Client`]'s own.
///
/// Let the session be ready when the subscriptions are ([`Options::on_connect`](crate::Options::on_connect)
/// with an answer that is waited for): a hand-over to a client that is not subscribed is a gap. Where no session is
/// asked for, a client is ready once it is connected. While
/// both are there, both bring the same messages; the [`Generation`] tells them apart, and sequence
/// numbers, order ids or the like tell which is which.
///
/// In the log each client's lines are in a span `rotating` with its generation, within the span in which the rotating
/// client was made.
///
/// The clients go on whether this is polled or not, but nothing rotates meanwhile.
///
/// ```no_run
/// use std::time::Duration;
/// use heartbeat_tokio::RotationTimes;
/// use heartbeat_tokio::{
///     Client, Event, Message, OnConnect, Opening, Options, Progress, Rotating, RotatingEvent,
/// };
///
/// struct Subscribe;
///
/// impl OnConnect for Subscribe {
///     fn connected(&mut self, opening: &mut Opening<'_>) -> Progress {
///         opening.send(r#"{"op":"subscribe","channel":"trades"}"#);
///         Progress::Pending
///     }
///
///     fn message(&mut self, message: &Message, _: &mut Opening<'_>) -> Progress {
///         match message.as_text() {
///             Some(r#"{"subscribed":"trades"}"#) => Progress::Ready,
///             _ => Progress::Pending,
///         }
///     }
/// }
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let times = RotationTimes::before(Duration::from_secs(24 * 3600))?;
/// let mut client = Rotating::spawn(times, |_| {
///     Client::spawn(Options::new("wss://example.org/feed")?.on_connect(Subscribe))
/// })?;
/// while let Some(event) = client.next().await {
///     match event {
///         RotatingEvent::Client { generation, event: Event::Message { message, .. } } => {
///             if message.as_text() == Some(r#"{"maintenance":"10m"}"#) {
///                 client.rotate_within(generation, Duration::from_secs(600));
///             }
///         }
///         RotatingEvent::HandedOver { to, seamless: false, .. } => {
///             println!("fetch again when {to} is ready");
///         }
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Rotating {
    rotation: Rotation,
    make: Make,
    /// In which this was made: each client's log is in a span of its generation within it.
    span: Span,
    /// The oldest first; two at most.
    clients: Vec<(Generation, Client)>,
    /// Which of them is asked first, so that none starves.
    turn: usize,
    sender: RotatingSender,
    clock: TokioClock,
    timer: Pin<Box<Sleep>>,
    stopping: bool,
}

/// What happens to a [`Rotating`] client.
#[derive(Debug)]
#[non_exhaustive]
pub enum RotatingEvent {
    /// What happened to one of its clients.
    Client {
        /// Which one.
        generation: Generation,
        /// What happened.
        event: Event,
    },
    /// Messages are sent by `to` from now on.
    HandedOver {
        /// The client that was used until now; its last events are still to come.
        from: Generation,
        /// The client that is used from now on.
        to: Generation,
        /// Nothing was lost in between. If not, the old connection was lost while its successor was under
        /// way: what came between its last byte ([`Event::Disconnected`] says how long that is ago) and
        /// the successor's [`Event::Ready`] (without a session its [`Event::Connected`]) may be missing. No [`Event::Gap`] tells that: for the
        /// successor it is the first connection.
        seamless: bool,
    },
    /// A successor could not be made; another one follows later. If it is for a panic of what makes them, none
    /// does, and the clients that are there are stopped.
    NotMade {
        /// The one that is not.
        generation: Generation,
        /// Why.
        error: StartError,
    },
}

impl Rotating {
    /// Makes the first client, and a successor whenever it is time for one.
    ///
    /// # Errors
    /// What `make` says of the first client. Of a later one: [`RotatingEvent::NotMade`]. [`StartError::NoRuntime`]
    /// outside of a tokio runtime.
    pub fn spawn(
        times: RotationTimes,
        mut make: impl FnMut(Generation) -> Result<Client, StartError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let clock = TokioClock::start();
        Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let now = clock.to_tokio(clock.now());
        // tokio panics where a runtime has no timer, and there is no way to ask.
        let timer = catch_unwind(|| sleep_until(now)).map_err(|_| StartError::NoRuntime)?;
        let mut rotation = Rotation::new(times, RandomState::new().build_hasher().finish());
        let first = rotation.current();
        // The one that it asks for first.
        let _ = rotation.next(clock.now());
        let span = Span::current();
        let client = of_generation(&span, first).in_scope(|| make(first))?;
        Ok(Self {
            span,
            rotation,
            make: Box::new(make),
            sender: RotatingSender::new(first, client.sender().clone()),
            clients: vec![(first, client)],
            turn: 0,
            timer: Box::pin(timer),
            clock,
            stopping: false,
        })
    }

    /// The next event; `None` when all clients have ended.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<RotatingEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// A handle to send messages with, from any task: by the client that is in use.
    #[must_use]
    pub fn sender(&self) -> &RotatingSender {
        &self.sender
    }

    /// The client in use.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.rotation.current()
    }

    /// The client of this generation, while it is there: its own sender (for
    /// [`Sender::send_opening`] and [`Sender::ready`]), its figures.
    #[must_use]
    pub fn client(&self, generation: Generation) -> Option<&Client> {
        let mut clients = self.clients.iter();
        clients.find_map(|(known, client)| (*known == generation).then_some(client))
    }

    /// The service has announced on this client's connection that it will end it within this time: the
    /// successor is started in the first half of it. See [`Rotation::rotate_within`].
    pub fn rotate_within(&mut self, generation: Generation, within: Duration) {
        self.rotation
            .rotate_within(generation, within, self.clock.now());
    }

    /// Ends all clients gracefully. Their last events are still to be taken.
    pub fn begin_stop(&mut self) {
        self.stopping = true;
        for (_, client) in &self.clients {
            client.sender().stop();
        }
    }

    /// Like [`begin_stop`](Self::begin_stop), but tells the peers this code and reason instead of 1000.
    ///
    /// # Errors
    /// [`InvalidClose`], as [`Sender::stop_with`]. The clients go on then.
    pub fn begin_stop_with(&mut self, code: u16, reason: &str) -> Result<(), InvalidClose> {
        for (_, client) in &self.clients {
            client.sender().stop_with(code, reason)?;
        }
        self.stopping = true;
        Ok(())
    }

    /// Ends all clients gracefully, as [`Client::stop`] does, and returns what was not sent.
    pub async fn stop(mut self) -> Unsent {
        self.begin_stop();
        let mut unsent = Unsent::default();
        while let Some(event) = self.next().await {
            if let RotatingEvent::Client { event, .. } = event {
                unsent = unsent.and(event.into_unsent());
            }
        }
        unsent
    }

    /// The next event, for hand-written futures.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<RotatingEvent>> {
        self.clock.refresh();
        loop {
            let until = match self.turn_over() {
                Ok(until) => until,
                Err(event) => return Poll::Ready(Some(event)),
            };
            if self.clients.is_empty() {
                return Poll::Ready(None);
            }
            let clients = self.clients.len();
            if let Some(event) = self.poll_clients(cx) {
                return Poll::Ready(Some(event));
            }
            // The end of a client may be what was waited for.
            if self.clients.len() == clients && !self.poll_timer(until, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Does what the rotation wants, until that is to wait or something is to be told.
    fn turn_over(&mut self) -> Result<Option<Instant>, RotatingEvent> {
        if self.stopping {
            return Ok(None);
        }
        loop {
            match self.rotation.next(self.clock.now()) {
                Turnover::Start(generation) => match self.make(generation) {
                    Ok(client) => self.clients.push((generation, client)),
                    Err(error) => {
                        self.rotation.ended(generation, self.clock.now());
                        return Err(RotatingEvent::NotMade { generation, error });
                    }
                },
                Turnover::HandOver { from, to, seamless } => {
                    if let Some(client) = self.client(to) {
                        self.sender.hand_over(to, client.sender().clone());
                    }
                    return Err(RotatingEvent::HandedOver { from, to, seamless });
                }
                Turnover::Close(generation) => {
                    if let Some(client) = self.client(generation) {
                        client.sender().stop();
                    }
                }
                Turnover::Until(at) => return Ok(Some(at)),
                Turnover::Wait | Turnover::Over => return Ok(None),
            }
        }
    }

    fn make(&mut self, generation: Generation) -> Result<Client, StartError> {
        let span = of_generation(&self.span, generation);
        let made = catch("the maker of clients", || {
            span.in_scope(|| (self.make)(generation))
        });
        made.unwrap_or_else(|panicked| {
            error!(parent: &span, "{panicked}");
            self.begin_stop();
            Err(RequestError::failed(Cause::Io, panicked).into())
        })
    }

    /// The next event of a client, unless one has ended.
    fn poll_clients(&mut self, cx: &mut Context<'_>) -> Option<RotatingEvent> {
        for _ in 0..self.clients.len() {
            self.turn = (self.turn + 1) % self.clients.len();
            let (generation, client) = &mut self.clients[self.turn];
            let generation = *generation;
            match client.poll_event(cx) {
                Poll::Pending => {}
                Poll::Ready(None) => {
                    drop(self.clients.remove(self.turn));
                    self.rotation.ended(generation, self.clock.now());
                    return None;
                }
                Poll::Ready(Some(event)) => {
                    if client.is_ready_by(&event) {
                        self.rotation.ready(generation, self.clock.now());
                    } else if let Event::Ending { .. } = event {
                        // Its successor takes over before this one renews itself.
                        self.rotation
                            .rotate_within(generation, Duration::ZERO, self.clock.now());
                    } else if let Event::Disconnected { .. } = event {
                        self.rotation.lost(generation, self.clock.now());
                    }
                    return Some(RotatingEvent::Client { generation, event });
                }
            }
        }
        None
    }

    /// Whether that time has come.
    fn poll_timer(&mut self, until: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(until) = until else {
            return false;
        };
        let until = self.clock.to_tokio(until);
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        self.timer.as_mut().poll(cx).is_ready()
    }
}

/// The span of a client's log. It has the level ERROR, so that a filter that lets a line pass lets its span pass.
fn of_generation(parent: &Span, generation: Generation) -> Span {
    error_span!(parent: parent, "rotating", %generation)
}

impl Stream for Rotating {
    type Item = RotatingEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RotatingEvent>> {
        self.poll_event(cx)
    }
}

impl std::fmt::Debug for Rotating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotating")
            .field("rotation", &self.rotation)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

/// Hands messages to the client that is in use. Cheap to clone.
///
/// Each message goes to one client, which writes it or hands it back, as [`Sender`] says.
#[derive(Clone, Debug)]
pub struct RotatingSender {
    used: Arc<Mutex<(Generation, Sender)>>,
}

impl RotatingSender {
    fn new(generation: Generation, sender: Sender) -> Self {
        Self {
            used: Arc::new(Mutex::new((generation, sender))),
        }
    }

    /// Hands a message over; waits while too much waits already. Cancel-safe, as [`Sender::send`].
    ///
    /// # Errors
    /// [`SendError`] hands the message back, as [`Sender::send`] does.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        loop {
            let (generation, sender) = self.used().clone();
            match sender.send(message).await {
                Err(error) if self.used().0 != generation => message = error.message,
                result => return result,
            }
        }
    }

    /// Hands a message over without waiting.
    ///
    /// # Errors
    /// [`SendError`] hands the message back, as [`Sender::try_send`] does.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.used().1.try_send(message)
    }

    /// The same as [`Sender::kick`].
    pub fn kick(&self) {
        self.used().1.kick();
    }

    fn hand_over(&self, generation: Generation, sender: Sender) {
        *self.used() = (generation, sender);
    }

    fn used(&self) -> MutexGuard<'_, (Generation, Sender)> {
        // Nothing in there can panic half-way.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
