//! A client that runs in its own thread.

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

/// The most events handed to the application at a time, with one wake-up: about as many as one large read brings.
const BATCH: usize = 512;

/// A client in its own thread. It answers pings and notices silence while the application does something else.
///
/// Messages wait in a bounded queue ([`Options::queue`]). When the queue is full, the client stops reading, so the
/// server's pings wait too. The client still sends its own pings, does not count the silence that its own pause
/// caused, and notices when the connection's end reaches this host. [`Options::overflow`] can drop messages instead, or
/// deliver none. Dropping the client ends the thread and closes the socket before `drop` returns.
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
    /// Events taken from the queue as one batch.
    taken: VecDeque<Event>,
    more: bool,
    sender: Sender,
    shared_stats: Arc<SharedStats>,
    abandoned: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts a client over TCP. The client dials at once.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or if the operating system refuses a poll
    /// instance or a thread.
    pub fn spawn(options: Options) -> Result<Self, StartError> {
        let capacity = options.queue_len();
        Self::drive(InPlace::new(options)?, capacity)
    }

    /// Runs an [`InPlace`] in a thread, for example one with your own reactor. At most `capacity` events (at least 1)
    /// wait for the application.
    ///
    /// # Errors
    /// [`StartError`] if the operating system refuses a thread.
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

    /// Waits for the next event. Returns `None` after [`Event::Stopped`]. Also returns `None` in code that the client
    /// runs (`on_connect`, a factory, a decoder, an observer): no event can come before that code returns.
    pub fn recv(&mut self) -> Option<Event> {
        self.recv_until(None).ok()
    }

    /// Waits up to `timeout` until a connection is open, and returns the server's answer to the upgrade. Returns at
    /// once if a connection is open already. Takes no event: [`recv`](Self::recv) still returns all of them.
    ///
    /// The session may not be ready yet. [`ready`](Self::ready) waits for the session too.
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
    /// [`Timeout`](crate::WaitEnd::Timeout) the client keeps dialling.
    pub fn connected(&self, timeout: Duration) -> Result<Arc<Response>, NotConnected> {
        self.wait(Until::Open, timeout)
    }

    /// Like [`connected`](Self::connected), but waits until the client accepts messages. With
    /// [`Options::on_connect`](crate::Options::on_connect) or a session opened by the application, that is
    /// [`Event::Ready`]; otherwise it is [`Event::Connected`]. Returns at once if the client is ready already.
    ///
    /// If the session of a connection fails, the wait goes on with the next connection. With
    /// [`Options::session_by_application`](crate::Options::session_by_application) another thread must call
    /// [`Sender::ready`] meanwhile.
    ///
    /// ```no_run
    /// # fn run(options: heartbeat_blocking::Options) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use heartbeat_blocking::Client;
    ///
    /// let client = Client::spawn(options)?; // for example with a login
    /// client.ready(Duration::from_secs(20))?;
    /// client.sender().send(r#"{"op":"order","id":7}"#)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`connected`](Self::connected). After a [`Timeout`](crate::WaitEnd::Timeout), `open` is true if the client is
    /// connected and only the session is missing.
    pub fn ready(&self, timeout: Duration) -> Result<Arc<Response>, NotConnected> {
        self.wait(Until::Ready, timeout)
    }

    fn wait(&self, until: Until, timeout: Duration) -> Result<Arc<Response>, NotConnected> {
        let inside = self.sender.is_inside();
        self.shared_stats.wait_connected(until, inside, timeout)
    }

    /// Waits up to `timeout` for the next event.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if no event came in time, [`RecvTimeoutError::Ended`] after [`Event::Stopped`],
    /// [`RecvTimeoutError::Inside`] at once if no event waits and the call came from code that the client runs.
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

    /// Returns a handle that sends messages, from any thread.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }
}

impl Client {
    /// Returns the client's figures. They are updated each time the client has nothing left to do, so they are only
    /// behind while the client is busy.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.sender.stats(&self.shared_stats)
    }

    /// Returns the machine's last events as a trace, if the client records them ([`Options::explain`]). The program
    /// `heartbeat explain` (heartbeat-cli) describes in sentences what the machine did at each event, and why it
    /// reconnected.
    #[must_use]
    pub fn explain(&self) -> Option<String> {
        self.shared_stats.explain()
    }

    /// Stops the client gracefully: accepted messages are written, and the connection is closed within
    /// `close_timeout`. Returns the messages that were handed back in events that the application has not taken.
    ///
    /// Received messages that the application has not taken are dropped, and so is the count of messages in doubt of
    /// [`Event::Stopped`]. To get these, call [`Sender::stop`] and take events to the end.
    ///
    /// Code that the client runs (`on_connect`, a factory, a decoder, an observer) cannot wait for the end: a call from
    /// there tells the client to stop and returns at once, and unsent messages are lost.
    ///
    /// ```no_run
    /// # use heartbeat_blocking::{Client, Options};
    /// let client = Client::spawn(Options::new("wss://example.org/feed")?)?;
    /// let unsent = client.stop();
    /// println!("{} messages were not sent", unsent.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[allow(clippy::must_use_candidate, reason = "most callers only want to stop")]
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
            // The thread ends once woken. If it panicked, the panic was reported already.
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

/// Ends the event queue, even if the thread panics.
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
            // There is more to do, the batch was full, or the push changed what the driver waits for.
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
