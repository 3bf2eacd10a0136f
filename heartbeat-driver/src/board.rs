//! Where the engine writes its figures, for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use heartbeat_core::{Phase, Stats};

use crate::outbox::Outbox;
use crate::recorder::Recorder;
use crate::session::Traffic;

/// A client's figures since it was made. With the feature `serde` it can be serialized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClientStats {
    /// Where the client stands.
    pub phase: Phase,
    /// Open, and the session ready.
    pub ready: bool,
    /// Dials, losses, pings, round trips: the machine's own figures.
    pub machine: Stats,
    /// Messages handed out to the application, or about to be.
    pub messages_received: u64,
    /// The application's messages wholly handed to the operating system.
    pub messages_sent: u64,
    /// Bytes read, TLS and WebSocket framing included, from the upgrade on.
    pub bytes_received: u64,
    /// Bytes written, likewise.
    pub bytes_sent: u64,
    /// Messages handed back: unsent or expired.
    pub unsent: u64,
    /// Messages that wait to be written, held ones among them.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
}

/// The figures as last written. What changes with every message is a handful of plain stores, and
/// what changes seldom is under a lock that is then taken once.
#[derive(Debug)]
pub struct Board {
    seldom: Mutex<(Phase, bool, Stats)>,
    /// Of connections that have ended.
    before: [AtomicU64; 4],
    /// Of the present one.
    present: [AtomicU64; 4],
    unsent: AtomicU64,
    /// Boxed: most clients have none, and it is large.
    recorder: Option<Box<Mutex<Recorder>>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            seldom: Mutex::new((Phase::Waiting, false, Stats::default())),
            before: Default::default(),
            present: Default::default(),
            unsent: AtomicU64::new(0),
            recorder: None,
        }
    }
}

impl Board {
    pub(crate) fn new(recorder: Option<Recorder>) -> Self {
        Self {
            recorder: recorder.map(|recorder| Box::new(Mutex::new(recorder))),
            ..Self::default()
        }
    }

    pub(crate) fn recorder(&self) -> Option<MutexGuard<'_, Recorder>> {
        let recorder = self.recorder.as_ref()?;
        Some(recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last events of the machine as a trace for `replay`, if any are kept.
    pub fn explain(&self) -> Option<String> {
        self.recorder().map(|recorder| recorder.explain())
    }

    /// What stands there now.
    pub fn stats(&self, outbox: &Outbox) -> ClientStats {
        let (phase, ready, machine) = *self.seldom.lock().unwrap_or_else(PoisonError::into_inner);
        let (waiting, waiting_bytes) = outbox.waiting();
        let [messages_received, messages_sent, bytes_received, bytes_sent] = self.totals();
        ClientStats {
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
        }
    }

    /// Messages received and sent, bytes received and sent.
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

    /// The present connection's traffic so far. Only the engine writes.
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
