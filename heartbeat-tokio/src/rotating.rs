//! A client that hands over to a successor before the service ends its connection.

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

/// A client that replaces its connection without a gap. Use it for services that end every connection after 24 h
/// (Binance) or 2 h, or at a maintenance that they announce.
///
/// It holds one [`Client`], and two while rotating. The successor connects first. When its session is ready, it is used
/// from then on. The old client is closed gracefully a little later: its accepted messages are written, and its received
/// messages are delivered. [`Rotation`] decides the times of these steps. Each [`Client`] has its own heartbeats, backoff
/// and verdicts.
///
/// Make the session ready only when the subscriptions are, with an [`Options::on_connect`](crate::Options::on_connect)
/// that waits for the answer. A hand-over to a client that is not subscribed is a gap. If no session is configured, a
/// client is ready once it is connected.
///
/// While both clients are open, both deliver the same messages. The [`Generation`] of an event says which client
/// delivered it. Use the service's sequence numbers or order ids to drop duplicates.
///
/// Each client's log lines are in a span `rotating` with its generation, inside the span in which the rotating client was
/// created.
///
/// The clients keep running if this is not polled, but they do not rotate meanwhile.
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
    /// The span in which this was created. Each client's log is in a child span.
    span: Span,
    /// At most two, the oldest first.
    clients: Vec<(Generation, Client)>,
    /// Index of the client that was polled last. The other one is polled first next time, so that none starves.
    turn: usize,
    sender: RotatingSender,
    clock: TokioClock,
    timer: Pin<Box<Sleep>>,
    stopping: bool,
}

/// An event of a [`Rotating`] client.
#[derive(Debug)]
#[non_exhaustive]
pub enum RotatingEvent {
    /// An event of one of the clients.
    Client {
        /// The client.
        generation: Generation,
        /// The event.
        event: Event,
    },
    /// From now on `to` sends the messages.
    HandedOver {
        /// The client used until now. Its last events are still to come.
        from: Generation,
        /// The client used from now on.
        to: Generation,
        /// True if no message was missed. Otherwise the old connection was lost before its successor was ready, and
        /// messages of the time between may be missing. That time begins with the old connection's last byte
        /// ([`Event::Disconnected`] says how long ago). It ends with the successor's [`Event::Ready`], or with its
        /// [`Event::Connected`] if no session is configured. No [`Event::Gap`] reports this, because it is the
        /// successor's first connection.
        seamless: bool,
    },
    /// A successor could not be created. Another one follows later. If `make` panicked, none follows, and the running
    /// clients are stopped.
    NotMade {
        /// The successor that could not be created.
        generation: Generation,
        /// Why.
        error: StartError,
    },
}

impl Rotating {
    /// Creates the first client with `make`, and later each successor when it is due.
    ///
    /// # Errors
    /// The error of `make` for the first client, or [`StartError::NoRuntime`] outside of a tokio runtime. A later error of
    /// `make` is reported as [`RotatingEvent::NotMade`].
    pub fn spawn(
        times: RotationTimes,
        mut make: impl FnMut(Generation) -> Result<Client, StartError> + Send + 'static,
    ) -> Result<Self, StartError> {
        let clock = TokioClock::start();
        Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let now = clock.to_tokio(clock.now());
        // tokio panics if the runtime has no timer, and offers no way to check first.
        let timer = catch_unwind(|| sleep_until(now)).map_err(|_| StartError::NoRuntime)?;
        let mut rotation = Rotation::new(times, RandomState::new().build_hasher().finish());
        let first = rotation.current();
        // The rotation's first request is to start the first client, which happens here.
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

    /// Waits for the next event. Returns `None` when all clients have ended.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<RotatingEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Returns a handle that sends messages through the current client, from any task.
    #[must_use]
    pub fn sender(&self) -> &RotatingSender {
        &self.sender
    }

    /// Returns the generation of the current client.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.rotation.current()
    }

    /// Returns the client of this generation, if it has not ended. Use it for the client's figures, and for its own sender
    /// ([`Sender::send_opening`] and [`Sender::ready`]).
    #[must_use]
    pub fn client(&self, generation: Generation) -> Option<&Client> {
        let mut clients = self.clients.iter();
        clients.find_map(|(known, client)| (*known == generation).then_some(client))
    }

    /// Reports that the service announced the end of this client's connection within this time. The successor starts in
    /// the first half of the time. See [`Rotation::rotate_within`].
    pub fn rotate_within(&mut self, generation: Generation, within: Duration) {
        self.rotation
            .rotate_within(generation, within, self.clock.now());
    }

    /// Stops all clients gracefully. Take their last events with [`next`](Self::next).
    pub fn begin_stop(&mut self) {
        self.stopping = true;
        for (_, client) in &self.clients {
            client.sender().stop();
        }
    }

    /// Like [`begin_stop`](Self::begin_stop), but with this code and reason in the Close frames instead of 1000.
    ///
    /// # Errors
    /// [`InvalidClose`] as for [`Sender::stop_with`]. The clients then go on.
    pub fn begin_stop_with(&mut self, code: u16, reason: &str) -> Result<(), InvalidClose> {
        for (_, client) in &self.clients {
            client.sender().stop_with(code, reason)?;
        }
        self.stopping = true;
        Ok(())
    }

    /// Stops all clients gracefully, like [`Client::stop`], and returns the unsent messages.
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

    /// Polls for the next event, for hand-written futures.
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
            // If a client has just ended, the rotation may have something to do.
            if self.clients.len() == clients && !self.poll_timer(until, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Performs the rotation's requests. Returns the time until which to wait, or an event to report.
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

    /// Returns the next event of a client. Returns `None` if none has an event, or if one has ended.
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
                        // The successor must take over before this client renews its connection.
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

    /// Returns true if the time has come. Otherwise the task is woken then.
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

/// Creates the span of a client's log. Its level is ERROR, so that no filter drops the span of a line that it keeps.
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

/// Sends messages through the current client. Cheap to clone.
///
/// Each message goes to one client, which writes it or hands it back. See [`Sender`].
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

    /// Queues a message. Waits for room while the queue is full. Cancel-safe, like [`Sender::send`].
    ///
    /// # Errors
    /// [`SendError`] hands the message back, as for [`Sender::send`].
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

    /// Queues a message, or refuses it at once.
    ///
    /// # Errors
    /// [`SendError`] hands the message back, as for [`Sender::try_send`].
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.used().1.try_send(message)
    }

    /// Reports that the network is back. See [`Sender::kick`].
    pub fn kick(&self) {
        self.used().1.kick();
    }

    fn hand_over(&self, generation: Generation, sender: Sender) {
        *self.used() = (generation, sender);
    }

    fn used(&self) -> MutexGuard<'_, (Generation, Sender)> {
        // No code under this lock can panic half-way, so a poisoned value is still intact.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
