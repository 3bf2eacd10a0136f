//! The shared stats: figures that the engine publishes for other threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use heartbeat_core::{Phase, Stats};

use super::connected::{Connected, NotConnected, Until};
use super::explain::Recorder;
use super::traffic::Traffic;
use crate::http::Response;
use crate::log::Log;
use crate::queue::AtomicU64;

/// A client's figures since its creation. Implements `Serialize` with the feature `serde`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientStats {
    /// The client's name ([`Options::name`](crate::Options::name)).
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_text"))]
    pub name: Arc<str>,
    /// The client's phase.
    pub phase: Phase,
    /// The connection is open and its session is ready.
    pub ready: bool,
    /// Dials, losses, pings, round trips: the machine's own figures.
    pub machine: Stats,
    /// Messages received, including those that wait for the application or were dropped.
    pub messages_received: u64,
    /// Application messages wholly handed to the operating system.
    pub messages_sent: u64,
    /// Bytes read since the upgrade, including TLS and WebSocket framing.
    pub bytes_received: u64,
    /// Bytes written since the upgrade, likewise.
    pub bytes_sent: u64,
    /// Messages handed back, unsent or expired.
    pub unsent: u64,
    /// Messages that wait to be written, including held ones.
    pub waiting: usize,
    /// The bytes of the waiting messages.
    pub waiting_bytes: usize,
    /// When reading was paused, by the wall clock, because as many messages wait for the application as
    /// [`Options::queue`](crate::Options::queue) allows. `None` while the client reads.
    pub reading_paused_since: Option<SystemTime>,
    /// How often reading was paused.
    pub reading_pauses: u64,
    /// Messages dropped because the application did not take them: the sum over all
    /// [`Event::Lagged`](crate::Event::Lagged).
    pub messages_dropped: u64,
    /// Heartbeat events (pings, pongs, checks) that were left out because the application was behind.
    pub heartbeat_events_dropped: u64,
    /// Messages that were handed back, and dropped because the application did not take them. Always 0 with
    /// [`Overflow::Pause`](crate::Overflow::Pause).
    pub unsent_dropped: u64,
}

#[cfg(feature = "serde")]
fn as_text<S: serde::Serializer>(name: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name)
}

/// The last published figures. Figures that change with every message are a few plain stores. The others are
/// behind a lock, which is taken only when they change.
#[derive(Debug)]
pub struct SharedStats {
    seldom: Mutex<(Phase, bool, Stats)>,
    /// Traffic of ended connections.
    before: [AtomicU64; 4],
    /// Traffic of the current connection.
    present: [AtomicU64; 4],
    unsent: AtomicU64,
    /// Messages, heartbeat events and handed-back messages that the application did not take.
    dropped: [AtomicU64; 3],
    /// Since when reading is paused, and how often it was.
    paused: Mutex<(Option<SystemTime>, u64)>,
    pub(crate) connected: Connected,
    /// The client's identity in the log.
    pub(crate) log: Log,
    /// Boxed, because it is large and most clients have none.
    recorder: Option<Box<Mutex<Recorder>>>,
}

impl Default for SharedStats {
    fn default() -> Self {
        Self {
            seldom: Mutex::new((Phase::Waiting, false, Stats::default())),
            before: Default::default(),
            present: Default::default(),
            unsent: AtomicU64::new(0),
            dropped: Default::default(),
            paused: Mutex::default(),
            connected: Connected::default(),
            log: Log::default(),
            recorder: None,
        }
    }
}

impl SharedStats {
    pub(crate) fn new(log: Log, recorder: Option<Recorder>) -> Self {
        Self {
            connected: Connected::new(&log.name),
            log,
            recorder: recorder.map(|recorder| Box::new(Mutex::new(recorder))),
            ..Self::default()
        }
    }

    pub(crate) fn recorder(&self) -> Option<MutexGuard<'_, Recorder>> {
        let recorder = self.recorder.as_ref()?;
        Some(recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a connection in the state `until`, and returns the server's answer to its upgrade. A caller
    /// that is `inside` the client's own code gets an error at once.
    pub fn poll_connected(
        &self,
        until: Until,
        inside: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<Response>, NotConnected>> {
        self.connected.poll(until, inside, cx)
    }

    /// Like [`poll_connected`](Self::poll_connected), but blocks up to `timeout`.
    ///
    /// # Errors
    /// [`NotConnected`] says why there is no such connection.
    pub fn wait_connected(
        &self,
        until: Until,
        inside: bool,
        timeout: Duration,
    ) -> Result<Arc<Response>, NotConnected> {
        self.connected.wait(until, inside, timeout)
    }

    /// Returns the machine's last events as a trace for `replay`, if any are kept.
    pub fn explain(&self) -> Option<String> {
        self.recorder().map(|recorder| recorder.explain())
    }

    /// Returns the published figures, with the messages and bytes that [wait](crate::SendQueue::waiting) to be
    /// sent.
    pub fn stats(&self, (waiting, waiting_bytes): (usize, usize)) -> ClientStats {
        let (phase, ready, machine) = *self.seldom.lock().unwrap_or_else(PoisonError::into_inner);
        let [messages_received, messages_sent, bytes_received, bytes_sent] = self.totals();
        let (reading_paused_since, reading_pauses) =
            *self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        ClientStats {
            name: Arc::clone(&self.log.name),
            phase,
            ready,
            machine,
            messages_received,
            messages_sent,
            bytes_received,
            bytes_sent,
            unsent: self.unsent.load(Ordering::Relaxed),
            waiting,
            waiting_bytes,
            reading_paused_since,
            reading_pauses,
            messages_dropped: self.messages_dropped(),
            heartbeat_events_dropped: self.heartbeat_events_dropped(),
            unsent_dropped: self.dropped[2].load(Ordering::Relaxed),
        }
    }

    pub(crate) fn messages_dropped(&self) -> u64 {
        self.dropped[0].load(Ordering::Relaxed)
    }

    pub(crate) fn heartbeat_events_dropped(&self) -> u64 {
        self.dropped[1].load(Ordering::Relaxed)
    }

    /// Counts messages, heartbeat events and handed-back messages that the application did not take.
    pub(crate) fn dropped(&self, messages: u64, notes: u64, unsent: u64) {
        for (counter, more) in self.dropped.iter().zip([messages, notes, unsent]) {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// Reports a pause of reading, or its end.
    pub(crate) fn reading(&self, paused_since: Option<SystemTime>) {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused.1 += u64::from(paused_since.is_some());
        paused.0 = paused_since;
    }

    /// Returns messages received and sent, and bytes received and sent.
    pub(crate) fn totals(&self) -> [u64; 4] {
        let total = |index: usize| {
            let of = |counters: &[AtomicU64; 4]| counters[index].load(Ordering::Relaxed);
            of(&self.before).saturating_add(of(&self.present))
        };
        [total(0), total(1), total(2), total(3)]
    }

    pub(crate) fn publish(&self, phase: Phase, ready: bool, machine: Stats) {
        *self.seldom.lock().unwrap_or_else(PoisonError::into_inner) = (phase, ready, machine);
    }

    /// Reports that the client is no longer driven, whatever phase the machine was in.
    pub(crate) fn ended(&self) {
        let mut seldom = self.seldom.lock().unwrap_or_else(PoisonError::into_inner);
        (seldom.0, seldom.1) = (Phase::Stopped, false);
    }

    /// Publishes the current connection's traffic so far. Only the engine calls this.
    pub(crate) fn traffic(&self, traffic: Traffic) {
        let figures = [
            traffic.messages_received,
            traffic.messages_sent,
            traffic.bytes_received,
            traffic.bytes_sent,
        ];
        for (counter, figure) in self.present.iter().zip(figures) {
            counter.store(figure, Ordering::Relaxed);
        }
    }

    pub(crate) fn connection_ended(&self) {
        for (before, present) in self.before.iter().zip(&self.present) {
            let last = present.swap(0, Ordering::Relaxed);
            before.fetch_add(last, Ordering::Relaxed);
        }
    }

    pub(crate) fn handed_back(&self, messages: usize) {
        self.unsent.fetch_add(messages as u64, Ordering::Relaxed);
    }
}
