//! A client that drives itself in a thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heartbeat_driver::{
    ClientStats, Event, EventQueue, NotConnected, Options, Response, Room, SharedStats, StartError,
    Unsent, Until,
};

use crate::clock::std_deadline;
use crate::error::RecvTimeoutError;
use crate::in_place::{InPlace, Polled};
use crate::reactor::Reactor;
use crate::sender::Sender;

/// Events that are handed over at once, so that the application is woken once for them: about as many as one
/// large read brings.
const BATCH: usize = 512;

/// A client in a thread of its own: pings are answered and silence is noticed while the application
/// does something else.
///
/// Messages wait in a bounded queue ([`Options::queue`]). When it is full the client stops reading, so
/// that the server's pings wait, too; it goes on with its own, does not take the silence that it
/// caused itself for the server's, and notices an end that reaches this host. [`Options::overflow`] has other
/// ways: to drop messages, or to want none. Dropping the client ends the thread and closes the socket before
/// it returns.
///
/// ```no_run
/// use heartbeat_blocking::{Client, Event, Opening, Options, Progress};
///
/// let options = Options::new("wss://example.org/feed")?.on_connect(|opening: &mut Opening<'_>| {
///     opening.send(r#"{"op":"subscribe"}"#); // first on each connection
///     Progress::Ready
/// });
/// let mut client = Client::spawn(options)?;
/// while let Some(event) = client.recv() {
///     match event {
///         Event::Message { message, .. } => println!("{}", message.as_text().unwrap_or("(binary)")),
///         _ => {}
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping the client ends it"]
pub struct Client {
    event_queue: Arc<EventQueue>,
    /// Events that were taken out of the hand-off together.
    taken: VecDeque<Event>,
    more: bool,
    sender: Sender,
    shared_stats: Arc<SharedStats>,
    abandoned: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts a client over TCP. It begins to dial at once.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or if the operating system has
    /// no room for a poll or a thread.
    pub fn spawn(options: Options) -> Result<Self, StartError> {
        let capacity = options.queue_len();
        Self::drive(InPlace::new(options)?, capacity)
    }

    /// Puts a client that was made otherwise, in another world say, into a thread. At most `capacity`
    /// events (one at the least) wait for the application.
    ///
    /// # Errors
    /// [`StartError`] if the operating system has no room for a thread.
    pub fn drive<R>(driver: InPlace<R>, capacity: usize) -> Result<Self, StartError>
    where
        R: Reactor + Send + 'static,
        R::Socket: Send,
    {
        let wake = driver.reactor().waker();
        let wake_driver = Arc::clone(&wake);
        let event_queue = Arc::new(EventQueue::new(
            capacity.max(1),
            driver.overflow(),
            Arc::clone(driver.shared_stats()),
            Box::new(move || wake_driver()),
            Box::new(|| {}),
        ));
        let sender = driver.sender().clone();
        let shared_stats = Arc::clone(driver.shared_stats());
        let abandoned = Arc::new(AtomicBool::new(false));
        let (theirs, flag) = (EndOnDrop(Arc::clone(&event_queue)), Arc::clone(&abandoned));
        let thread = thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || run(driver, &theirs.0, &flag))?;
        Ok(Self {
            event_queue,
            taken: VecDeque::new(),
            more: true,
            sender,
            shared_stats,
            abandoned,
            wake,
            thread: Some(thread),
        })
    }

    /// Waits for the next event; `None` after [`Event::Stopped`], and where no event can come before the caller
    /// returns ([`RecvTimeoutError::Inside`]).
    pub fn recv(&mut self) -> Option<Event> {
        self.recv_until(None).ok()
    }

    /// Waits until a connection is open, for `timeout` at most, and gives what the server answered to the upgrade; at
    /// once if a connection is open now. Takes no event: those of the dials and of the connection come from
    /// [`recv`](Self::recv) as ever.
    ///
    /// The session need not be ready yet: [`ready`](Self::ready) waits for that, too.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use heartbeat_blocking::{Client, Options};
    ///
    /// let client = Client::spawn(Options::new("wss://example.org/feed")?)?;
    /// let response = client.connected(Duration::from_secs(10))?;
    /// println!("connected, subprotocol {:?}", response.subprotocol());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`NotConnected`] says why there is no connection, and how the last dial ended. After a
    /// [`Timeout`](crate::WaitEnd::Timeout) the client goes on dialling.
    pub fn connected(&self, timeout: Duration) -> Result<Arc<Response>, NotConnected> {
        self.wait(Until::Open, timeout)
    }

    /// Waits as [`connected`](Self::connected) does, and until messages are accepted: with
    /// [`Options::on_connect`](crate::Options::on_connect) or a session of the application's until [`Event::Ready`],
    /// otherwise until [`Event::Connected`]. At once if the client is ready now.
    ///
    /// A connection whose session fails is an attempt as any: the wait goes on. With
    /// [`Options::session_by_application`](crate::Options::session_by_application) another thread must say
    /// [`Sender::ready`] meanwhile.
    ///
    /// ```no_run
    /// # fn run(options: heartbeat_blocking::Options) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use heartbeat_blocking::Client;
    ///
    /// let client = Client::spawn(options)?; // with a login, say
    /// client.ready(Duration::from_secs(20))?;
    /// client.sender().send(r#"{"op":"order","id":7}"#)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`connected`](Self::connected). After a [`Timeout`](crate::WaitEnd::Timeout) `open` says whether the
    /// client is connected and lacks the session alone.
    pub fn ready(&self, timeout: Duration) -> Result<Arc<Response>, NotConnected> {
        self.wait(Until::Ready, timeout)
    }

    fn wait(&self, until: Until, timeout: Duration) -> Result<Arc<Response>, NotConnected> {
        let inside = self.sender.is_inside();
        self.shared_stats.wait_connected(until, inside, timeout)
    }

    /// Waits for the next event, at most for `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if there was none, [`RecvTimeoutError::Ended`] after [`Event::Stopped`],
    /// [`RecvTimeoutError::Inside`] at once if there is none and the client's own thread asks.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        self.recv_until(std_deadline(timeout))
    }

    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        let inside = self.sender.is_inside();
        if self.taken.is_empty() && self.more {
            self.more = if inside {
                self.event_queue.take(&mut self.taken)
            } else {
                self.event_queue.take_until(&mut self.taken, deadline)
            };
        }
        match self.taken.pop_front() {
            Some(event) => Ok(event),
            None if self.more && inside => Err(RecvTimeoutError::Inside),
            None if self.more => Err(RecvTimeoutError::Timeout),
            None => Err(RecvTimeoutError::Ended),
        }
    }

    /// A handle to send messages with, from any thread.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }
}

impl Client {
    /// The client's figures, as of the last time that it came to rest: a moment ago, unless it is busy.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.sender.stats(&self.shared_stats)
    }

    /// The last events of the machine as a trace, if any are kept ([`Options::explain`]). The program
    /// `heartbeat explain` (heartbeat-cli) tells in sentences what the machine did at each, and so why it reconnected.
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        self.shared_stats.explain()
    }

    /// Ends the client gracefully: what was accepted is written, the connection is closed within
    /// `close_timeout`. Returns what was handed back and not taken as an event yet. Messages that arrived and were
    /// not taken are dropped, and so is the last event's count of messages that are in doubt
    /// ([`Event::Stopped`]). Whoever wants these says [`Sender::stop`] and takes events to the end.
    ///
    /// Code that the client itself runs (`on_connect`, a factory, a decoder, an observer) cannot wait for that end:
    /// there it tells the client to stop and returns at once, and what is not sent is lost.
    ///
    /// ```no_run
    /// # use heartbeat_blocking::{Client, Options};
    /// let client = Client::spawn(Options::new("wss://example.org/feed")?)?;
    /// let unsent = client.stop();
    /// println!("{} messages were not sent", unsent.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[allow(clippy::must_use_candidate, reason = "to stop is enough for most")]
    pub fn stop(mut self) -> Unsent {
        self.sender.stop();
        let mut unsent = Unsent::default();
        while let Some(event) = self.recv() {
            unsent = unsent.and(event.into_unsent());
        }
        unsent
    }
}

impl Iterator for Client {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Release);
        (self.wake)();
        if let Some(thread) = self.thread.take()
            && !self.sender.is_inside()
        {
            // It waits for nothing but the waker; a panic of its own has been reported by then.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("event_queue", &self.event_queue)
            .finish_non_exhaustive()
    }
}

/// Tells the application that nothing more comes, even if the thread ends by a panic.
struct EndOnDrop(Arc<EventQueue>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn run<R: Reactor>(mut driver: InPlace<R>, event_queue: &EventQueue, abandoned: &AtomicBool) {
    driver.is_driven();
    let mut batch = VecDeque::new();
    let mut room = event_queue.has_room();
    while !abandoned.load(Ordering::Acquire) {
        if !room.is_free() {
            room = event_queue.has_room();
            set_room(&mut driver, room);
        }
        let mut last = Polled::Nothing;
        while batch.len() < room.batch(BATCH) {
            match driver.poll() {
                Polled::Event(event) => batch.push_back(event),
                other => {
                    last = other;
                    break;
                }
            }
        }
        let idle = batch.is_empty();
        if !idle {
            room = event_queue.push(&mut batch);
            set_room(&mut driver, room);
        }
        match last {
            Polled::Ended => return,
            Polled::Nothing if idle => driver.wait(None),
            // There is more, a batch was full, or has changed what is waited for.
            Polled::Busy | Polled::Nothing | Polled::Event(_) => {}
        }
    }
}

fn set_room<R: Reactor>(driver: &mut InPlace<R>, room: Room) {
    if room.messages > 0 {
        driver.resume_reading();
    } else {
        driver.pause_reading();
    }
    driver.withhold_dials(!room.dials);
}
