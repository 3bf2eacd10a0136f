//! The same world for both adapters: scripted servers over in-memory streams, in virtual time.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(
    clippy::disallowed_methods,
    reason = "it is tokio's clock that is virtual here"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use heartbeat_kit::peer::{Act, End, Peer, Reception, Visit, pipe};
use heartbeat_tokio::core::trace::{Header, answer, event_line};
use heartbeat_tokio::core::{Clock, Config, ConnId, Instant};
use heartbeat_tokio::{Dial, Event, Options};

/// Bytes that an in-memory stream holds in each direction, like a small socket buffer.
const CAPACITY: usize = 64 * 1024;

/// Jitter of every run.
const SEED: u64 = 7;

/// A client's life against scripted servers.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) config: Config,
    /// The result of each dial, in order. Further dials are refused.
    pub(crate) visits: Vec<Visit>,
    /// The user's actions (send a text, kick, stop), and the host's mishaps.
    pub(crate) user: Vec<(Duration, User)>,
    /// When the world ends.
    pub(crate) until: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum User {
    Send(&'static str),
    Kick,
    Stop,
    /// The host does nothing for this long: the process was stopped, or the machine slept.
    Stall(Duration),
}

/// The record of the run.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Log {
    /// The application's events with their times.
    pub(crate) events: Vec<(Duration, Event)>,
    /// The trace: a line for each event of the machine, and one for its answer.
    pub(crate) trace: Vec<(String, String)>,
}

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The wall clock is not virtual, so its values are left out.
fn without_wall_time(mut event: Event) -> Event {
    if let Event::Gap { since, .. } = &mut event {
        *since = std::time::SystemTime::UNIX_EPOCH;
    }
    event
}

/// A connection that is upgraded, and what the server does on it.
pub(crate) fn visit(acts: impl IntoIterator<Item = (f64, Act)>) -> Visit {
    let acts = acts
        .into_iter()
        .map(|(at, act)| (seconds(at), act))
        .collect();
    Visit {
        reception: Reception::Upgrade,
        acts,
    }
}

/// A dial with another result.
pub(crate) fn turned_away(reception: Reception) -> Visit {
    Visit {
        reception,
        acts: Vec::new(),
    }
}

type Trace = Arc<Mutex<Vec<(String, String)>>>;

fn options(script: &Script, trace: &Trace) -> Options {
    let trace = Arc::clone(trace);
    Options::new("ws://server.test/")
        .expect("a URL")
        .config(script.config.clone())
        .seed(SEED)
        .observer(move |at, event, step, phase| {
            trace
                .lock()
                .expect("no panic")
                .push((event_line(at, event), answer(at, step, phase)));
        })
}

/// Replays the events of a log through the core alone.
pub(crate) fn replay(script: &Script, log: &Log) -> Vec<(String, String)> {
    let mut header = Header::default();
    header.config = script.config.clone();
    header.seed = SEED;
    let mut machine = header.heartbeat();
    let replayed = log.trace.iter().map(|(line, _)| {
        let event =
            heartbeat_tokio::core::trace::read_event(line).expect("a line that was written");
        let step = machine.step(event.at, event.event());
        (line.clone(), answer(event.at, &step, machine.phase()))
    });
    replayed.collect()
}

// ---- tokio, its clock paused -----------------------------------------------------------------------

struct MemoryTransport(End);

impl io::Read for MemoryTransport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for MemoryTransport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl heartbeat_tokio::Transport for MemoryTransport {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_read_ready(cx.waker())
    }

    fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_write_ready(cx.waker())
    }
}

pub(crate) fn run_on_tokio(script: &Script) -> Log {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime
        .expect("a runtime")
        .block_on(live_on_tokio(script.clone()))
}

async fn live_on_tokio(script: Script) -> Log {
    let start = tokio::time::Instant::now();
    let trace = Trace::default();
    let mut visits = VecDeque::from(script.visits.clone());
    let dialer = move |_: &Dial| -> heartbeat_tokio::Dialing {
        let visit = visits
            .pop_front()
            .unwrap_or_else(|| turned_away(Reception::Refused));
        Box::pin(async move {
            if visit.reception == Reception::Refused {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = pipe(CAPACITY);
            tokio::spawn(serve(Peer::new(visit, theirs)));
            Ok(Box::new(MemoryTransport(ours)) as Box<dyn heartbeat_tokio::Transport>)
        })
    };
    let mut client = heartbeat_tokio::InPlace::with_dialer(options(&script, &trace), dialer)
        .expect("no TLS, no error");
    let sender = client.sender().clone();
    let user = script.user.clone();
    tokio::spawn(async move {
        for (at, act) in user {
            tokio::time::sleep_until(start + at).await;
            match act {
                User::Send(text) => sender.try_send(text).unwrap_or_default(),
                User::Kick => sender.kick(),
                User::Stop => sender.stop(),
                User::Stall(span) => tokio::time::advance(span).await,
            }
        }
    });
    let mut events = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout_at(start + script.until, client.next()).await {
        events.push((start.elapsed(), without_wall_time(event)));
    }
    drop(client);
    Log {
        events,
        trace: std::mem::take(&mut *trace.lock().expect("no panic")),
    }
}

async fn serve(mut peer: Peer) {
    let start = tokio::time::Instant::now();
    loop {
        let next = peer.turn(start.elapsed());
        let arrived = std::future::poll_fn(|cx| match peer.end() {
            Some(end) => end.poll_read_ready(cx.waker()),
            None => Poll::Pending,
        });
        match next {
            Some(next) => drop(tokio::time::timeout_at(start + next, arrived).await),
            None if peer.end().is_none() => return std::future::pending().await,
            None => arrived.await,
        }
    }
}

// ---- blocking, with a clock that is moved by hand ----------------------------------------------------

/// A world in which waiting moves the clock.
pub(crate) struct Virtual {
    now: Rc<RefCell<Duration>>,
    visits: VecDeque<Visit>,
    peers: Vec<(Duration, Peer)>,
    dialed: Option<(ConnId, io::Result<End>)>,
    user: VecDeque<(Duration, User)>,
    sender: Rc<RefCell<Option<heartbeat_blocking::Sender>>>,
    until: Duration,
}

impl Clock for Virtual {
    fn now(&self) -> Instant {
        Instant::ORIGIN.saturating_add(*self.now.borrow())
    }
}

impl Virtual {
    /// The next moment at which someone other than the client acts.
    fn run_the_others(&mut self) -> Duration {
        let now = *self.now.borrow();
        let mut next = self.until;
        for (start, peer) in &mut self.peers {
            if let Some(at) = peer.turn(now - *start) {
                next = next.min(*start + at);
            }
        }
        while self.user.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, act)) = self.user.pop_front() else {
                break;
            };
            let sender = self.sender.borrow();
            let sender = sender.as_ref().expect("set before the first wait");
            match act {
                User::Send(text) => sender.try_send(text).unwrap_or_default(),
                User::Kick => sender.kick(),
                User::Stop => sender.stop(),
                User::Stall(span) => *self.now.borrow_mut() += span,
            }
        }
        self.user.front().map_or(next, |(at, _)| next.min(*at))
    }
}

impl heartbeat_blocking::Reactor for Virtual {
    type Socket = End;

    fn dial(&mut self, dial: &Dial) {
        let visit = self
            .visits
            .pop_front()
            .unwrap_or_else(|| turned_away(Reception::Refused));
        let result = if visit.reception == Reception::Refused {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            let (ours, theirs) = pipe(CAPACITY);
            let now = *self.now.borrow();
            self.peers.push((now, Peer::new(visit, theirs)));
            Ok(ours)
        };
        self.dialed = Some((dial.conn, result));
    }

    fn cancel_dial(&mut self) {
        self.dialed = None;
    }

    fn dialed(&mut self) -> Option<(ConnId, io::Result<End>)> {
        self.dialed.take()
    }

    fn wait(&mut self, socket: Option<&mut End>, until: Option<Instant>) -> io::Result<()> {
        let before = socket.as_ref().map(|end| end.seen());
        let users = self.user.len();
        let next = self.run_the_others();
        if socket.map(|end| end.seen()) != before || self.user.len() != users {
            return Ok(());
        }
        // tokio's timers and the operating system's polls count whole milliseconds, rounded up.
        let millis = |until: Instant| {
            until
                .saturating_duration_since(Instant::ORIGIN)
                .as_nanos()
                .div_ceil(1_000_000)
        };
        let next = until.map_or(next, |until| {
            next.min(Duration::from_millis(millis(until) as u64))
        });
        let mut now = self.now.borrow_mut();
        *now = (*now).max(next);
        drop(now);
        self.run_the_others();
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        Arc::new(|| {})
    }
}

pub(crate) fn run_on_blocking(script: &Script) -> Log {
    let trace = Trace::default();
    let now = Rc::new(RefCell::new(Duration::ZERO));
    let slot = Rc::new(RefCell::new(None));
    let world = Virtual {
        now: Rc::clone(&now),
        visits: script.visits.clone().into(),
        peers: Vec::new(),
        dialed: None,
        user: script.user.clone().into(),
        sender: Rc::clone(&slot),
        until: script.until,
    };
    let mut client = heartbeat_blocking::InPlace::with_reactor(options(script, &trace), world)
        .expect("no TLS, no error");
    *slot.borrow_mut() = Some(client.sender().clone());
    let mut events = Vec::new();
    loop {
        let left = script.until.saturating_sub(*now.borrow());
        match client.recv_timeout(left) {
            Ok(event) => events.push((*now.borrow(), without_wall_time(event))),
            Err(_) => break,
        }
    }
    drop(client);
    Log {
        events,
        trace: std::mem::take(&mut *trace.lock().expect("no panic")),
    }
}
