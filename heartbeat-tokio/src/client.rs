//! A client that runs in its own task or thread.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use atomic_waker::AtomicWaker;
use futures_core::Stream;
use heartbeat_driver::{
    ClientStats, Event, EventQueue, NotConnected, Options, Response, Room, SharedStats, StartError,
    Unsent, Until,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinHandle};

use crate::in_place::InPlace;
use crate::sender::Sender;

/// The most events handed to the application at a time, with one wake-up: about as many as one large read brings.
const BATCH: usize = 512;

/// Bytes of work per unit of tokio's cooperative budget. tokio's budget of 128 units then lets at most 2048 events or
/// 32 MiB through before other tasks get a turn.
const WORK_PER_BUDGET: usize = 256 * 1024;
/// Bytes that each event counts for, in addition to the length of its message.
const EVENT: usize = 16 * 1024;

/// A client in its own task or [thread](Self::spawn_thread). It answers pings and notices silence while the
/// application does something else.
///
/// Messages wait in a bounded queue ([`Options::queue`]). When the queue is full, the client stops reading, so the
/// server's pings wait too. The client still sends its own pings, does not count the silence that its own pause
/// caused, and notices when the connection's end reaches this host. [`Options::overflow`] can drop messages instead, or
/// deliver none. Dropping the client ends the task and closes the socket. Accepted messages that are not yet written
/// are lost then.
///
/// The task needs a worker thread of the runtime. If the application's tasks may block all workers for seconds, use
/// [`spawn_thread`](Self::spawn_thread) to keep the heartbeats on time.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use heartbeat_tokio::{Client, Event, Opening, Options, Progress};
///
/// let options = Options::new("wss://example.org/feed")?.on_connect(|opening: &mut Opening<'_>| {
///     opening.send(r#"{"op":"subscribe"}"#); // first on each connection
///     Progress::Ready
/// });
/// let mut client = Client::spawn(options)?;
/// while let Some(event) = client.next().await {
///     match event {
///         Event::Message { message, .. } => println!("{}", message.as_text().unwrap_or("(binary)")),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the client ends it"]
pub struct Client {
    event_queue: Arc<EventQueue>,
    /// The task that waits for events.
    reader: Arc<AtomicWaker>,
    /// Events taken from the queue as one batch.
    taken: VecDeque<Event>,
    /// Bytes of work since tokio's budget was last charged.
    work: usize,
    more: bool,
    sender: Sender,
    shared_stats: Arc<SharedStats>,
    asks_for_session: bool,
    task: AbortHandle,
}

impl Client {
    /// Starts a client over TCP in a task of the current runtime. The client dials at once.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or outside of a tokio runtime.
    pub fn spawn(options: Options) -> Result<Self, StartError> {
        let capacity = options.queue_len();
        Ok(Self::drive(InPlace::new(options)?, capacity))
    }

    /// Starts a client over TCP in its own thread, with its own small runtime. Heartbeats then go on while the
    /// application's tasks block every worker of their runtime. The client dials at once.
    ///
    /// The client is used like any other: events and sends can be awaited in any runtime, or outside of one.
    /// Callbacks in the options (`on_connect`, a factory, a decoder) run in that thread. Nothing waits for the thread
    /// to end: not dropping the client, not the shutdown of the application's runtime, and not the end of `main`.
    ///
    /// The cost is a thread, and two thread switches for each batch of events. Use it for a few connections that must
    /// not be lost, not for thousands.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use heartbeat_tokio::{Client, Options};
    ///
    /// let mut client = Client::spawn_thread(Options::new("wss://example.org/feed")?)?;
    /// while let Some(event) = client.next().await {
    ///     // Pings are answered even if this blocks for seconds.
    ///     println!("{event:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or if the operating system refuses a poll
    /// instance or a thread.
    pub fn spawn_thread(options: Options) -> Result<Self, StartError> {
        let capacity = options.queue_len();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let runtime = OwnRuntime(Some(runtime));
        let (client, task) = {
            let _inside = runtime.0.as_ref().map(Runtime::enter);
            Self::start(InPlace::new(options)?, capacity)
        };
        let thread = thread::Builder::new().name("heartbeat".into());
        thread.spawn(move || {
            if let Some(runtime) = &runtime.0 {
                // Runs until the client has ended or was dropped.
                let _ = runtime.block_on(task);
            }
        })?;
        Ok(client)
    }

    /// Runs an [`InPlace`] in a task, for example one with your own dialer. At most `capacity` events (at least 1) wait
    /// for the application.
    ///
    /// The task runs in the runtime of the caller. Outside of a runtime, the task runs in the one in which `driver` was
    /// created.
    pub fn drive(driver: InPlace, capacity: usize) -> Self {
        Self::start(driver, capacity).0
    }

    fn start(driver: InPlace, capacity: usize) -> (Self, JoinHandle<()>) {
        let reader = Arc::new(AtomicWaker::new());
        let (wake_driver, wake_reader) = (Arc::clone(driver.waker()), Arc::clone(&reader));
        let capacity = capacity.max(1);
        let event_queue = Arc::new(EventQueue::new(
            capacity,
            driver.overflow(),
            Arc::clone(driver.shared_stats()),
            Box::new(move || wake_driver.wake()),
            Box::new(move || wake_reader.wake()),
        ));
        let sender = driver.sender().clone();
        let shared_stats = Arc::clone(driver.shared_stats());
        let asks_for_session = driver.asks_for_session();
        let runtime = Handle::try_current().unwrap_or_else(|_| driver.runtime().clone());
        let task = Drive {
            driver,
            event_queue: EndOnDrop(Arc::clone(&event_queue)),
            batch: VecDeque::new(),
            room: Room::of(capacity),
        };
        let task = runtime.spawn(task);
        let client = Self {
            event_queue,
            reader,
            taken: VecDeque::new(),
            work: 0,
            more: true,
            sender,
            shared_stats,
            asks_for_session,
            task: task.abort_handle(),
        };
        (client, task)
    }

    /// Waits for the next event. Returns `None` after [`Event::Stopped`]. Also returns `None` in code that the client
    /// runs (`on_connect`, a factory, a decoder, an observer): no event can come before that code returns.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Waits until a connection is open, and returns the server's answer to the upgrade. Returns at once if a
    /// connection is open already. Takes no event: [`next`](Self::next) still returns all of them.
    ///
    /// The session may not be ready yet. [`ready`](Self::ready) waits for the session too.
    ///
    /// A client dials until it is connected, unless its configuration ends it sooner
    /// ([`max_attempts`](crate::core::ConfigBuilder::max_attempts), or a cause that is not retried). Limit the wait
    /// with `tokio::time::timeout`. The guide `connecting` shows how to end a program whose first dial fails.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use heartbeat_tokio::{Client, Options};
    ///
    /// let client = Client::spawn(Options::new("wss://example.org/feed")?)?;
    /// let response = client.connected().await?;
    /// println!("connected, subprotocol {:?}", response.subprotocol());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`NotConnected`] says why no connection will come, and how the last dial ended.
    pub async fn connected(&self) -> Result<Arc<Response>, NotConnected> {
        self.wait(Until::Open).await
    }

    /// Like [`connected`](Self::connected), but waits until the client accepts messages. With
    /// [`Options::on_connect`](crate::Options::on_connect) or a session opened by the application, that is
    /// [`Event::Ready`]; otherwise it is [`Event::Connected`]. Returns at once if the client is ready already.
    ///
    /// If the session of a connection fails, the wait goes on with the next connection. With
    /// [`Options::session_by_application`](crate::Options::session_by_application) another task must call
    /// [`Sender::ready`] meanwhile.
    ///
    /// ```no_run
    /// # async fn run(options: heartbeat_tokio::Options) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use heartbeat_tokio::Client;
    /// use tokio::time::timeout;
    ///
    /// let client = Client::spawn(options)?; // for example with a login
    /// timeout(Duration::from_secs(20), client.ready()).await??;
    /// client.sender().send(r#"{"op":"order","id":7}"#).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// See [`connected`](Self::connected).
    pub async fn ready(&self) -> Result<Arc<Response>, NotConnected> {
        self.wait(Until::Ready).await
    }

    async fn wait(&self, until: Until) -> Result<Arc<Response>, NotConnected> {
        poll_fn(|cx| (self.shared_stats).poll_connected(until, self.sender.is_inside(), cx)).await
    }

    /// Polls for the next event, for hand-written futures.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        // A driver in another thread can be faster than the application, so that events never run out.
        if self.work >= WORK_PER_BUDGET {
            ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
            self.work = 0;
        }
        if let Some(event) = self.taken.pop_front() {
            return Poll::Ready(Some(self.counted(event)));
        }
        if self.more {
            self.reader.register(cx.waker());
            self.more = self.event_queue.take(&mut self.taken);
        }
        match self.taken.pop_front() {
            None if self.more && self.sender.is_inside() => Poll::Ready(None),
            None if self.more => Poll::Pending,
            event => Poll::Ready(event.map(|event| self.counted(event))),
        }
    }

    fn counted(&mut self, event: Event) -> Event {
        self.work += EVENT;
        if let Event::Message { message, .. } = &event {
            self.work += message.len();
        }
        event
    }

    /// Returns a handle that sends messages, from any task.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Returns true if messages can be sent after this event.
    pub(crate) fn is_ready_by(&self, event: &Event) -> bool {
        match event {
            Event::Ready { .. } => true,
            Event::Connected { .. } => !self.asks_for_session,
            _ => false,
        }
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
    /// Dropping the future ends the client at once, like dropping the client. Code that the client runs (`on_connect`,
    /// a factory, a decoder, an observer) cannot wait for the end: a call from there ends the client at once, and
    /// unsent messages are lost.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
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
            .field("event_queue", &self.event_queue)
            .finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The runtime of a client's own thread. Its drop does not wait for tasks that the application's factory left behind.
/// tokio panics on such a wait inside another runtime, where a client that failed to start is dropped.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The client's task. It moves events from the driver to the application's queue, in batches.
struct Drive {
    driver: InPlace,
    event_queue: EndOnDrop,
    batch: VecDeque<Event>,
    room: Room,
}

/// Ends the event queue, even if the task panics or its runtime shuts down.
struct EndOnDrop(Arc<EventQueue>);

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
                this.set_room(this.event_queue.0.has_room());
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
                let room = this.event_queue.0.push(&mut this.batch);
                let changed = room.is_free() != this.room.is_free();
                this.set_room(room);
                if changed {
                    // The driver must be polled again, because it now waits for something else.
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
