//! The clients under test in the world: both adapters' own code, on virtual time and in-memory streams.

use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use heartbeat_core::{Clock, Config, ConnId, Instant, PermanentErrors};
use heartbeat_driver::{Dial, Event, Message, Options, Overflow, SendError};

use super::faults::Offer;
use super::plan::{Flaw, Host, Plan, S};
use super::world::{Commands, Shared, World, lock};

/// Lets one client live in the world to its end.
pub(crate) fn live(world: &Shared) {
    let plan = lock(world).plan.clone();
    match plan.host {
        Host::BlockingInPlace => blocking_in_place(world, &plan),
        Host::BlockingClient => blocking_client(world, &plan),
        Host::TokioInPlace | Host::TokioClient => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime");
            runtime.block_on(on_tokio(world, &plan));
        }
    }
    let mut world = lock(world);
    if let Some(link) = world.link.as_ref().filter(|link| !link.dropped) {
        let conn = link.conn;
        world
            .oracle
            .fail(format!("connection {conn} outlives its client"));
    }
    world.oracle.ends();
}

fn options(world: &Shared, plan: &Plan) -> Options {
    let observer = Arc::clone(world);
    let (messages, bytes) = plan.send_queue;
    let count = plan.endpoints.len() - usize::from(plan.flaw == Some(Flaw::ForgetsAnEndpoint));
    let urls: Vec<_> = (0..count.max(1))
        .map(|endpoint| format!("ws://s{endpoint}.test/feed?token=s3cr3t"))
        .collect();
    let options = match &urls[..] {
        [url] => Options::new(url),
        urls => Options::endpoints(urls.iter().map(String::as_str)),
    };
    let overflow = match plan.flaw {
        Some(Flaw::PausesAnyway) if plan.overflow != Overflow::Discard => Overflow::Pause,
        _ => plan.overflow,
    };
    options
        .expect("URLs")
        .overflow(overflow)
        .heartbeat_events(plan.heartbeat_events)
        .config(believed(plan))
        .seed(plan.seed)
        .queue(plan.queue)
        .send_queue(messages, bytes)
        .max_message_size(8 << 20)
        .observer(move |at, event, step, phase| lock(&observer).observe(at, event, step, phase))
}

/// The configuration that the client gets. It differs from what its user believes if that is the planted
/// defect.
pub(crate) fn believed(plan: &Plan) -> Config {
    let config = &plan.config;
    let (base, cap, jitter) = config.backoff();
    let builder = config.to_builder();
    let builder = match plan.flaw {
        Some(Flaw::SleepsTooLong) => builder
            .idle_timeout(config.idle_timeout() * 2)
            .pong_timeout(config.pong_timeout().map(|timeout| timeout * 2)),
        Some(Flaw::GivesUpHopeTooSoon) => builder.pong_timeout(Duration::from_millis(1)),
        Some(Flaw::DialsTooSoon) => builder.backoff(base / 10, cap / 10, jitter),
        Some(Flaw::IgnoresAStuckWrite) => {
            builder.write_timeout(config.write_timeout().map(|timeout| timeout * 8))
        }
        Some(Flaw::BelievesEveryone) => builder.permanent_errors(PermanentErrors::GiveUp),
        Some(Flaw::BelievesNobody) => builder.permanent_errors(PermanentErrors::Retry),
        Some(Flaw::DialsTooLate) => builder.backoff(cap * 3, cap * 3, 0),
        _ => return config.clone(),
    };
    builder.build().expect("consistent")
}

// ---- the client's socket -----------------------------------------------------------------------------------

pub(crate) struct Socket {
    world: Shared,
    conn: u64,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.world).read(self.conn, buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.world).write(self.conn, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        if world.plan.flaw != Some(Flaw::KeepsTheOldSocket) {
            world.drop_link(self.conn);
        }
    }
}

/// As in tokio: an operation is only tried if it is known to be ready.
struct Known {
    socket: Socket,
    ready: bool,
    in_doubt: bool,
}

impl From<Socket> for Known {
    fn from(socket: Socket) -> Self {
        Self {
            socket,
            ready: true,
            in_doubt: false,
        }
    }
}

impl Read for Known {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.ready && !self.in_doubt {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.socket.read(buffer);
        // As on Linux, a short read is the last one until more arrives. An end stays known.
        let mut world = lock(&self.socket.world);
        let has_ended = world
            .current(self.socket.conn)
            .is_some_and(|link| link.end.is_some());
        self.ready = has_ended || read.as_ref().is_ok_and(|&count| count == buffer.len());
        self.in_doubt &= read.is_ok();
        read
    }
}

impl Write for Known {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl heartbeat_tokio::Transport for Known {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match lock(&self.socket.world).current(self.socket.conn) {
            Some(link) if !link.is_readable() => {
                link.read_waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => {
                self.ready = true;
                Poll::Ready(())
            }
        }
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut world = lock(&self.socket.world);
        let capacity = world.plan.capacity;
        match world.current(self.socket.conn) {
            Some(link) if !link.is_writable(capacity) => {
                link.write_waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut world = lock(&self.socket.world);
        if world.plan.flaw == Some(Flaw::OverlooksAnEnd) {
            return Poll::Pending;
        }
        match world.current(self.socket.conn) {
            Some(link) if link.end.is_none() => {
                link.hang_up_waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => {
                self.ready = true;
                Poll::Ready(())
            }
        }
    }

    fn doubt_readiness(&mut self) {
        self.in_doubt = true;
    }
}

// ---- blocking ----------------------------------------------------------------------------------------------

struct BlockingCommands(heartbeat_blocking::Sender);

impl Commands for BlockingCommands {
    fn send(&self, message: Message) -> Result<(), SendError> {
        self.0.try_send(message)
    }

    fn kick(&self) {
        self.0.kick();
    }

    fn stop(&self) {
        self.0.stop();
    }
}

/// A client with a thread, and how it gets to the reactor and back.
struct Owned {
    client: ManuallyDrop<heartbeat_blocking::Client>,
    back: SyncSender<ManuallyDrop<heartbeat_blocking::Client>>,
}

type Slot = (
    heartbeat_blocking::Client,
    SyncSender<ManuallyDrop<heartbeat_blocking::Client>>,
);

/// A reactor in which waiting lets the world go on.
struct Virtual {
    world: Shared,
    woken: Arc<AtomicBool>,
    dialing: Option<ConnId>,
    /// The thread's own client, whose application lives in here, too.
    slot: Option<Receiver<Slot>>,
    owned: Option<Owned>,
}

impl Clock for Virtual {
    fn now(&self) -> Instant {
        let world = lock(&self.world);
        // After the end nothing moves any more, so a client that waits for a time must see that time come.
        Instant::from_nanos(if world.over {
            u64::MAX / 2
        } else {
            world.clock()
        })
    }
}

impl Virtual {
    fn new(world: &Shared, slot: Option<Receiver<Slot>>) -> Self {
        Self {
            world: Arc::clone(world),
            woken: Arc::new(AtomicBool::new(false)),
            dialing: None,
            slot,
            owned: None,
        }
    }

    /// The application takes the available events.
    fn app_turns(&mut self) {
        let Some(owned) = &mut self.owned else { return };
        loop {
            {
                let world = lock(&self.world);
                if world.now < world.app_away_until || world.host_is_away() {
                    return;
                }
            }
            match owned.client.recv_timeout(Duration::ZERO) {
                Ok(event) => drop(lock(&self.world).app_hears(event)),
                Err(_) => return,
            }
        }
    }

    /// The world has ended. Its client goes back to the thread that will drop it, and nothing more happens
    /// here.
    fn leave(&mut self) {
        if let Some(owned) = self.owned.take() {
            // If nobody waits for the client any more, it stays where it is.
            let _ = owned.back.send(owned.client);
        }
        if self.slot.is_some() {
            while !self.woken.load(Ordering::Acquire) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
    }
}

impl heartbeat_blocking::Reactor for Virtual {
    type Socket = Socket;

    fn dial(&mut self, dial: &Dial) {
        self.dialing = Some(dial.conn);
        lock(&self.world).dial(dial.conn.get(), &dial.host);
    }

    fn cancel_dial(&mut self) {
        if let Some(conn) = self.dialing.take() {
            lock(&self.world).drop_link(conn.get());
        }
    }

    fn dialed(&mut self) -> Option<(ConnId, io::Result<Socket>)> {
        let conn = self.dialing?;
        let outcome = lock(&self.world).collect_dial(conn.get())?;
        self.dialing = None;
        let world = Arc::clone(&self.world);
        let socket = Socket {
            world,
            conn: conn.get(),
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        if outcome {
            Some((conn, Ok(socket)))
        } else {
            // It was never given.
            std::mem::forget(socket);
            Some((conn, Err(refused())))
        }
    }

    fn wait(&mut self, _: Option<&mut Socket>, until: Option<Instant>) -> io::Result<()> {
        if self.owned.is_none()
            && let Some(slot) = &self.slot
            && let Ok((client, back)) = slot.recv()
        {
            let client = ManuallyDrop::new(client);
            self.owned = Some(Owned { client, back });
        }
        let until = {
            let mut world = lock(&self.world);
            world.client_waits();
            match until {
                Some(until) if world.plan.flaw != Some(Flaw::IgnoresTimers) => {
                    let late = world.plan.wake_late;
                    let late = world.dice.between(0, late);
                    world
                        .when_clock_shows(until.as_nanos())
                        .saturating_add(late)
                }
                _ => u64::MAX,
            }
        };
        loop {
            self.app_turns();
            if self.woken.swap(false, Ordering::AcqRel) && !lock(&self.world).host_is_away() {
                return Ok(());
            }
            let mut world = lock(&self.world);
            if world.over {
                drop(world);
                self.leave();
                return Ok(());
            }
            if world.host_is_away() {
                let next = world.next().unwrap_or(u64::MAX);
                let next = next.min(world.host_away_until);
                world.advance(next);
                continue;
            }
            if std::mem::take(&mut world.stirred) || until <= world.now {
                return Ok(());
            }
            let next = world.next().unwrap_or(u64::MAX).min(until);
            if next == u64::MAX {
                world.oracle.fail("nobody has anything to wait for");
                world.over = true;
                continue;
            }
            world.advance(next);
        }
    }

    fn hung_up(&self) -> bool {
        let world = lock(&self.world);
        let end = world.link.as_ref().and_then(|link| link.end);
        end.is_some() && world.plan.flaw != Some(Flaw::OverlooksAnEnd)
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let woken = Arc::clone(&self.woken);
        Arc::new(move || woken.store(true, Ordering::Release))
    }
}

fn blocking_in_place(world: &Shared, plan: &Plan) {
    let reactor = Virtual::new(world, None);
    let mut client = heartbeat_blocking::InPlace::with_reactor(options(world, plan), reactor)
        .expect("no TLS, no error");
    lock(world).commands = Some(Box::new(BlockingCommands(client.sender().clone())));
    loop {
        // At the end, the client looks once in a virtual second whether everything is over.
        let left = {
            let world = lock(world);
            if world.over {
                break;
            }
            let stopping =
                world.oracle.stopping || world.next().is_none_or(|next| next >= plan.life);
            if stopping {
                S
            } else {
                plan.life.saturating_sub(world.now).max(S)
            }
        };
        match client.recv_timeout(Duration::from_nanos(left)) {
            Ok(event) => {
                let offer = lock(world).app_hears(event);
                say(world, offer, |message| client.try_send(message));
            }
            Err(heartbeat_blocking::RecvTimeoutError::Ended) => break,
            Err(_) => {}
        }
    }
    lock(world).commands = None;
}

/// The application's messages, sent for the client.
fn say(world: &Shared, offer: Option<Offer>, send: impl FnOnce(Message) -> Result<(), SendError>) {
    let Some(offer) = offer else { return };
    if send(offer.message).is_err() {
        lock(world).refused(offer.number);
    }
}

fn blocking_client(world: &Shared, plan: &Plan) {
    let (give, slot) = mpsc::sync_channel(1);
    let (back, returned) = mpsc::sync_channel(1);
    let reactor = Virtual::new(world, Some(slot));
    let driver = heartbeat_blocking::InPlace::with_reactor(options(world, plan), reactor)
        .expect("no TLS, no error");
    lock(world).commands = Some(Box::new(BlockingCommands(driver.sender().clone())));
    let client = heartbeat_blocking::Client::drive(driver, plan.queue).expect("a thread");
    give.send((client, back)).expect("a slot for one");
    match returned.recv() {
        Ok(client) => {
            lock(world).commands = None;
            let mut client = ManuallyDrop::into_inner(client);
            while let Ok(event) = client.recv_timeout(Duration::ZERO) {
                drop(lock(world).app_hears(event));
            }
            drop(client);
        }
        Err(_) => lock(world).oracle.fail("the client's thread has panicked"),
    }
}

impl Drop for Virtual {
    fn drop(&mut self) {
        if let Some(conn) = self.dialing.take() {
            lock(&self.world).drop_link(conn.get());
        }
        // The client's thread has come to its end, or panics. In both cases it cannot wait for itself.
        if let Some(owned) = self.owned.take()
            && !std::thread::panicking()
        {
            let _ = owned.back.send(owned.client);
        }
    }
}

// ---- tokio -------------------------------------------------------------------------------------------------

struct TokioCommands(heartbeat_tokio::Sender);

impl Commands for TokioCommands {
    fn send(&self, message: Message) -> Result<(), SendError> {
        self.0.try_send(message)
    }

    fn kick(&self) {
        self.0.kick();
    }

    fn stop(&self) {
        self.0.stop();
    }
}

#[allow(clippy::large_enum_variant, reason = "there is one")]
enum TokioClient {
    InPlace(heartbeat_tokio::InPlace),
    Client(heartbeat_tokio::Client),
}

impl TokioClient {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self {
            Self::InPlace(client) => client.poll_event(cx),
            Self::Client(client) => client.poll_event(cx),
        }
    }
}

/// A dial in progress. Dropping it gives it up.
struct Dialing {
    world: Shared,
    conn: u64,
    ended: bool,
}

impl Future for Dialing {
    type Output = io::Result<Box<dyn heartbeat_tokio::Transport>>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let conn = self.conn;
        let outcome = {
            let mut world = lock(&self.world);
            let outcome = world.collect_dial(conn);
            if outcome.is_none()
                && let Some(link) = world.current(conn)
            {
                link.dial_waker = Some(cx.waker().clone());
            }
            outcome
        };
        let Some(given) = outcome else {
            return Poll::Pending;
        };
        self.ended = true;
        let world = Arc::clone(&self.world);
        Poll::Ready(if given {
            Ok(Box::new(Known::from(Socket { world, conn })))
        } else {
            Err(io::ErrorKind::ConnectionRefused.into())
        })
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.world).drop_link(self.conn);
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "it is tokio's clock that is virtual here"
)]
async fn on_tokio(world: &Shared, plan: &Plan) {
    let start = tokio::time::Instant::now();
    lock(world).tokio_start = Some(start);
    let dials = Arc::clone(world);
    let dialer = move |dial: &Dial| -> heartbeat_tokio::Dialing {
        let conn = dial.conn.get();
        lock(&dials).dial(conn, &dial.host);
        Box::pin(Dialing {
            world: Arc::clone(&dials),
            conn,
            ended: false,
        })
    };
    let driver = heartbeat_tokio::InPlace::with_dialer(options(world, plan), dialer)
        .expect("no TLS, no error");
    lock(world).commands = Some(Box::new(TokioCommands(driver.sender().clone())));
    let mut client = if plan.host == Host::TokioClient {
        TokioClient::Client(heartbeat_tokio::Client::drive(driver, plan.queue))
    } else {
        TokioClient::InPlace(driver)
    };
    let mut timer = Box::pin(tokio::time::sleep_until(start));
    loop {
        let (leap, takes) = {
            let mut world = lock(world);
            world.sync();
            if world.over {
                break;
            }
            let takes = world.now >= world.app_away_until;
            (world.leap.take(), takes)
        };
        if let Some(span) = leap {
            tokio::time::advance(Duration::from_nanos(span)).await;
            continue;
        }
        let told = std::future::poll_fn(|cx| {
            lock(world).sleeps_until = 0;
            if takes && let Poll::Ready(event) = client.poll_event(cx) {
                return Poll::Ready(Some(event));
            }
            let next = {
                let mut world = lock(world);
                if world.leap.is_some() || world.over {
                    return Poll::Ready(None);
                }
                world.sleeps_until = world.next().unwrap_or(u64::MAX);
                world.sleeper = Some(cx.waker().clone());
                world.sleeps_until
            };
            let next = start + Duration::from_nanos(next);
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            timer.as_mut().poll(cx).map(|()| None)
        });
        match told.await {
            Some(Some(event)) => {
                let offer = {
                    let mut world = lock(world);
                    world.sync();
                    world.app_hears(event)
                };
                if let TokioClient::InPlace(client) = &mut client {
                    say(world, offer, |message| client.try_send(message));
                }
            }
            Some(None) => break,
            None => {}
        }
    }
    drop(client);
    // A task that was told to end does so at its next turn.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    lock(world).commands = None;
}

/// A world behind a lock, for the client, its socket and its application.
pub(crate) fn share(world: World) -> Shared {
    Arc::new(Mutex::new(world))
}
