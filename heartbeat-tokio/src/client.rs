//! A client that drives itself in a task.

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

/// Events that are handed over at once, so that the application is woken once for them: about as many as one
/// large read brings.
const BATCH: usize = 512;

/// Work between two looks at tokio's cooperative budget, in bytes, and what an event counts besides its own. A budget of
/// 128 then lets at most 2048 events or 32 MiB through before other tasks get their turn.
const WORK_PER_BUDGET: usize = 256 * 1024;
const EVENT: usize = 16 * 1024;

/// A client in a task or a [thread](Self::spawn_thread) of its own: pings are answered and silence is noticed
/// while the application does something else.
///
/// Messages wait in a bounded queue ([`Options::queue`]). When it is full the client stops reading, so
/// that the server's pings wait, too; it goes on with its own, does not take the silence that it
/// caused itself for the server's, and notices an end that reaches this host. [`Options::overflow`] has other
/// ways: to drop messages, or to want none. Dropping the client ends the task and closes the socket; messages that
/// were accepted and not yet written are dropped with it.
///
/// A task needs a worker of the runtime's. Where the application's tasks may keep all of them busy for seconds,
/// [`spawn_thread`](Self::spawn_thread) keeps the heartbeat going.
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
    /// Who waits for events.
    reader: Arc<AtomicWaker>,
    /// Events that were taken out of the hand-off together.
    taken: VecDeque<Event>,
    /// What they cost since tokio's budget was asked.
    work: usize,
    more: bool,
    sender: Sender,
    shared_stats: Arc<SharedStats>,
    asks_for_session: bool,
    task: AbortHandle,
}

impl Client {
    /// Starts a client over TCP in a task. It begins to dial at once.
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, and outside of a tokio runtime.
    pub fn spawn(options: Options) -> Result<Self, StartError> {
        let capacity = options.queue_len();
        Ok(Self::drive(InPlace::new(options)?, capacity))
    }

    /// Starts a client over TCP in a thread of its own, which has a small runtime of its own: heartbeats go on
    /// while tasks of the application block every worker of its runtime. It begins to dial at once.
    ///
    /// The face is that of any client: events and sends are awaited in whichever runtime, or outside of any. What
    /// the options bring (`on_connect`, a factory, a decoder) runs in that thread. Dropping the client, or the end
    /// of the application's runtime or of `main`, waits for no thread.
    ///
    /// It costs a thread, and a switch to it and back for each batch of events: for a few connections that must not
    /// be lost, not for thousands.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use heartbeat_tokio::{Client, Options};
    ///
    /// let mut client = Client::spawn_thread(Options::new("wss://example.org/feed")?)?;
    /// while let Some(event) = client.next().await {
    ///     // Also if this takes seconds and blocks, pings are answered meanwhile.
    ///     println!("{event:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StartError`] if TLS is needed and no trusted roots are found, or if the operating system has no room for a
    /// poll or a thread.
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
                // Until the client has ended, or was dropped.
                let _ = runtime.block_on(task);
            }
        })?;
        Ok(client)
    }

    /// Puts a client that was made otherwise, with a dialer of your own say, into a task. At most
    /// `capacity` events (one at the least) wait for the application.
    ///
    /// The task belongs to the runtime in which this is called; outside of any, to that in which `driver` was made.
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

    /// The next event; `None` after [`Event::Stopped`], and in code that the client itself runs (`on_connect`, a
    /// factory, a decoder, an observer), before whose return none can come.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Waits for a connection and returns the server's answer to the upgrade; at once if one is open now. Takes no
    /// event: those of the dials and of the connection come from [`next`](Self::next) as ever.
    ///
    /// The session need not be ready yet: [`ready`](Self::ready) waits for that, too.
    ///
    /// A client dials until it is connected, unless its configuration ends it sooner
    /// ([`max_attempts`](crate::core::ConfigBuilder::max_attempts), a cause that no retry can mend). Bound the wait
    /// by `tokio::time::timeout`. The guide `connecting` shows how to end a program whose first dial fails.
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
    /// [`NotConnected`] says why there will be no connection, and how the last dial ended.
    pub async fn connected(&self) -> Result<Arc<Response>, NotConnected> {
        self.wait(Until::Open).await
    }

    /// Waits as [`connected`](Self::connected) does, and until messages are accepted: with
    /// [`Options::on_connect`](crate::Options::on_connect) or a session of the application's until [`Event::Ready`],
    /// otherwise until [`Event::Connected`]. At once if the client is ready now.
    ///
    /// A connection whose session fails is an attempt as any: the wait goes on. With
    /// [`Options::session_by_application`](crate::Options::session_by_application) another task must say
    /// [`Sender::ready`] meanwhile.
    ///
    /// ```no_run
    /// # async fn run(options: heartbeat_tokio::Options) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use heartbeat_tokio::Client;
    /// use tokio::time::timeout;
    ///
    /// let client = Client::spawn(options)?; // with a login, say
    /// timeout(Duration::from_secs(20), client.ready()).await??;
    /// client.sender().send(r#"{"op":"order","id":7}"#).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// As for [`connected`](Self::connected).
    pub async fn ready(&self) -> Result<Arc<Response>, NotConnected> {
        self.wait(Until::Ready).await
    }

    async fn wait(&self, until: Until) -> Result<Arc<Response>, NotConnected> {
        poll_fn(|cx| (self.shared_stats).poll_connected(until, self.sender.is_inside(), cx)).await
    }

    /// The next event, for hand-written futures.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        // A driver in another thread may bring events without end to an application that is slower.
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
    /// Dropping the future ends the client at once, as dropping the client does. Code that the client itself runs
    /// cannot wait for that end: there it ends the client at once, and what is not sent is lost.
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

/// The runtime of a client's own thread. What a factory of the application's leaves behind in it is not waited for; nor
/// would tokio let it be, where a client that cannot be started is dropped within another runtime.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The task: takes events from the driver, a batch at a time, and hands them over.
struct Drive {
    driver: InPlace,
    event_queue: EndOnDrop,
    batch: VecDeque<Event>,
    room: Room,
}

/// Tells the application that nothing more comes, even if the task ends by a panic or by its runtime.
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
