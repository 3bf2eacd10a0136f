//! A client that drives itself in a task.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use futures_core::Stream;
use heartbeat_driver::{Board, ClientStats, Event, Handoff, Options, RequestError, Room, Unsent};
use tokio::task::JoinHandle;

use crate::in_place::InPlace;
use crate::sender::Sender;

/// Events that are handed over at once, so that the application is woken once for them: about as many as one
/// large read brings.
const BATCH: usize = 512;

/// A client in a task of its own: pings are answered and silence is noticed while the application
/// does something else.
///
/// Messages wait in a bounded queue ([`Options::queue`]). When it is full the client stops reading, so
/// that the server's pings wait, too; it goes on with its own, does not take the silence that it
/// caused itself for the server's, and notices an end that reaches this host. [`Options::overflow`] has other
/// ways: to drop messages, or to want none. Dropping the client ends the task and closes the socket.
///
/// ```no_run
/// # async fn run() -> Result<(), heartbeat_tokio::RequestError> {
/// use heartbeat_tokio::{Client, Event, Options};
///
/// let mut client = Client::spawn(Options::new("wss://example.org/feed")?)?;
/// while let Some(event) = client.next().await {
///     match event {
///         Event::Connected { .. } => {
///             // If the connection is gone again already, the message is handed back.
///             let _ = client.sender().try_send(r#"{"op":"subscribe"}"#);
///         }
///         Event::Message { message, .. } => println!("{}", message.as_text().unwrap_or("(binary)")),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Client {
    handoff: Arc<Handoff>,
    /// Who waits for events.
    reader: Arc<AtomicWaker>,
    /// Events that were taken out of the hand-off together.
    taken: VecDeque<Event>,
    more: bool,
    sender: Sender,
    board: Arc<Board>,
    asks_for_session: bool,
    task: JoinHandle<()>,
}

impl Client {
    /// Starts a client over TCP. It begins to dial at once.
    ///
    /// # Errors
    /// [`RequestError`] if TLS is needed and no trusted roots are found.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as [`tokio::spawn`] does.
    pub fn spawn(options: Options) -> Result<Self, RequestError> {
        let capacity = options.queue_len();
        Ok(Self::drive(InPlace::new(options)?, capacity))
    }

    /// Puts a client that was made otherwise, with a dialer of your own say, into a task. At most
    /// `capacity` events wait for the application.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as [`tokio::spawn`] does.
    #[must_use]
    pub fn drive(driver: InPlace, capacity: usize) -> Self {
        let reader = Arc::new(AtomicWaker::new());
        let (wake_driver, wake_reader) = (Arc::clone(driver.waker()), Arc::clone(&reader));
        let handoff = Arc::new(Handoff::new(
            capacity,
            driver.overflow(),
            Arc::clone(driver.board()),
            Box::new(move || wake_driver.wake()),
            Box::new(move || wake_reader.wake()),
        ));
        let sender = driver.sender().clone();
        let board = Arc::clone(driver.board());
        let asks_for_session = driver.asks_for_session();
        let task = Drive {
            driver,
            handoff: EndOnDrop(Arc::clone(&handoff)),
            batch: VecDeque::new(),
            room: Room::of(capacity),
        };
        Self {
            handoff,
            reader,
            taken: VecDeque::new(),
            more: true,
            sender,
            board,
            asks_for_session,
            task: tokio::spawn(task),
        }
    }

    /// The next event; `None` after [`Event::Stopped`].
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The next event, for hand-written futures.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(event) = self.taken.pop_front() {
            return Poll::Ready(Some(event));
        }
        if self.more {
            self.reader.register(cx.waker());
            self.more = self.handoff.take(&mut self.taken);
        }
        match self.taken.pop_front() {
            None if self.more => Poll::Pending,
            event => Poll::Ready(event),
        }
    }

    /// A handle to send messages with, from any task.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Whether this event says that messages can be sent.
    pub(crate) fn is_ready_by(&self, event: &Event) -> bool {
        match event {
            Event::Ready { .. } => true,
            Event::Connected { .. } => !self.asks_for_session,
            _ => false,
        }
    }
}

impl Client {
    /// The client's figures, as of the last time that it came to rest: a moment ago, unless it is busy.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.sender.stats(&self.board)
    }

    /// The last events of the machine as a trace, if any are kept ([`Options::explain`]). The example
    /// `replay` of heartbeat-core says what the machine did at each, and so why it reconnected.
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        self.board.explain()
    }

    /// Ends the client gracefully: what was accepted is written, the connection is closed within
    /// `close_timeout`. Returns what was handed back and not taken as an event yet; messages that arrived
    /// and were not taken are dropped. Who wants those says [`Sender::stop`] and takes events to the end.
    ///
    /// Dropping the future ends the client at once, as dropping the client does.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), heartbeat_tokio::RequestError> {
    /// # use heartbeat_tokio::{Client, Options};
    /// let client = Client::spawn(Options::new("wss://example.org/feed")?)?;
    /// let unsent = client.stop().await;
    /// println!("{} messages were not sent", unsent.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn stop(mut self) -> Unsent {
        self.sender.stop();
        let mut unsent = Unsent::default();
        while let Some(event) = self.next().await {
            unsent = unsent.and(event.into_unsent());
        }
        unsent
    }
}

impl Stream for Client {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("handoff", &self.handoff)
            .finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task: takes events from the driver, a batch at a time, and hands them over.
struct Drive {
    driver: InPlace,
    handoff: EndOnDrop,
    batch: VecDeque<Event>,
    room: Room,
}

/// Tells the application that nothing more comes, even if the task ends by a panic or by its runtime.
struct EndOnDrop(Arc<Handoff>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if !this.room.is_free() {
                this.driver.waker().register(cx.waker());
                this.set_room(this.handoff.0.has_room());
            }
            let mut polled = Poll::Ready(());
            let mut ended = false;
            while this.batch.len() < this.room.batch(BATCH) {
                match this.driver.poll_event(cx) {
                    Poll::Ready(Some(event)) => this.batch.push_back(event),
                    Poll::Ready(None) => {
                        ended = true;
                        break;
                    }
                    Poll::Pending => {
                        polled = Poll::Pending;
                        break;
                    }
                }
            }
            if !this.batch.is_empty() {
                let room = this.handoff.0.push(&mut this.batch);
                let changed = room.is_free() != this.room.is_free();
                this.set_room(room);
                if changed {
                    // What is waited for has changed with it.
                    continue;
                }
            }
            if ended {
                return Poll::Ready(());
            }
            if polled.is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drive {
    fn set_room(&mut self, room: Room) {
        self.room = room;
        if room.messages > 0 {
            self.driver.resume_reading();
        } else {
            self.driver.pause_reading();
        }
        self.driver.withhold_dials(!room.dials);
    }
}
