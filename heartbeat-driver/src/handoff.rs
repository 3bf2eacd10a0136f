//! The way out: events from a client that is driven on its own to the application that takes them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::message::Event;
use crate::outbox::Notify;
use crate::sync::{AtomicBool, Condvar, Mutex, MutexGuard};

/// Room for the few events of a connection's beginning and end, beyond the messages.
const EXTRA: usize = 1024;

/// A bounded queue of events.
///
/// When `capacity` events wait, the driver stops reading (and tells the machine so); notes (checks,
/// pings, pongs) are left out then. Beginnings and ends of connections are still told, up to another
/// 1024; an application that leaves those, too, gets no further connection until it takes some.
pub struct Handoff {
    state: Mutex<State>,
    /// The driver waits for room.
    starved: AtomicBool,
    /// For a thread that waits for events.
    arrived: Condvar,
    capacity: usize,
    wake_driver: Notify,
    on_event: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Event>,
    /// No further event will come.
    ended: bool,
    /// Threads that wait for events: to tell none of them is a system call.
    receivers: usize,
}

/// So few events at once are a client's that is quiet.
const QUIET: usize = 4;

impl State {
    /// Gives all that waits away, and with it the memory that it is in. What `batch` was in is kept for
    /// what comes next, unless the client is quiet: it may stay so.
    fn hand_over(&mut self, batch: &mut VecDeque<Event>) {
        if !batch.is_empty() {
            batch.append(&mut self.queue);
        } else if self.queue.len() > QUIET {
            std::mem::swap(batch, &mut self.queue);
        } else if !self.queue.is_empty() {
            *batch = std::mem::take(&mut self.queue);
        }
    }
}

/// How much room is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Read on, until this many more events are there (at least one).
    Free(usize),
    /// Read no more; go on with everything else.
    Full,
    /// Do nothing until the application takes something.
    Exhausted,
}

impl Room {
    /// How many events an adapter may collect before it passes them on, `most` at the most. While
    /// nothing is read, none of what there is to tell is held back.
    #[must_use]
    pub fn batch(self, most: usize) -> usize {
        match self {
            Self::Free(left) => left.min(most),
            Self::Full | Self::Exhausted => most,
        }
    }
}

impl Handoff {
    /// An empty queue. `wake_driver` is called when there is room again, `on_event` when something arrived.
    #[must_use]
    pub fn new(capacity: usize, wake_driver: Notify, on_event: Notify) -> Self {
        Self {
            state: Mutex::default(),
            starved: AtomicBool::new(false),
            arrived: Condvar::new(),
            capacity,
            wake_driver,
            on_event,
        }
    }

    /// Passes a batch of events on, and says how much room is left.
    pub fn push(&self, batch: &mut VecDeque<Event>) -> Room {
        let (room, waited_for) = {
            let mut state = self.lock();
            if state.queue.is_empty() && batch.len() <= self.capacity {
                std::mem::swap(&mut state.queue, batch);
            }
            for event in batch.drain(..) {
                if state.queue.len() < self.capacity || !is_note(&event) {
                    state.queue.push_back(event);
                }
            }
            (self.room(&state), state.receivers > 0)
        };
        self.tell_arrived(waited_for);
        room
    }

    /// How much room is left. If it is none, the driver is woken when that changes.
    pub fn has_room(&self) -> Room {
        self.room(&self.lock())
    }

    fn room(&self, state: &State) -> Room {
        let waiting = state.queue.len();
        let room = match waiting {
            _ if waiting < self.capacity => Room::Free(self.capacity - waiting),
            _ if waiting < self.capacity + EXTRA => Room::Full,
            _ => Room::Exhausted,
        };
        let starved = !matches!(room, Room::Free(_));
        self.starved.store(starved, Ordering::Release);
        room
    }

    /// No further event will come.
    pub fn end(&self) {
        let waited_for = {
            let mut state = self.lock();
            state.ended = true;
            state.receivers > 0
        };
        self.tell_arrived(waited_for);
    }

    fn tell_arrived(&self, waited_for: bool) {
        if waited_for {
            self.arrived.notify_all();
        }
        (self.on_event)();
    }

    /// Takes all that waits into `batch`. True if more may come.
    pub fn take(&self, batch: &mut VecDeque<Event>) -> bool {
        let more = {
            let mut state = self.lock();
            state.hand_over(batch);
            !state.ended
        };
        self.tell_room();
        more
    }

    /// The same, but waits until something is there, at most until `deadline`.
    pub fn take_until(&self, batch: &mut VecDeque<Event>, deadline: Option<Instant>) -> bool {
        let more = {
            let mut state = self.lock();
            state.receivers += 1;
            while state.queue.is_empty() && !state.ended {
                state = match deadline {
                    None => self
                        .arrived
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner),
                    Some(deadline) => {
                        let Some(left) = deadline.checked_duration_since(crate::clock::instant())
                        else {
                            break;
                        };
                        self.arrived
                            .wait_timeout(state, left)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                    }
                };
            }
            state.receivers -= 1;
            state.hand_over(batch);
            !state.ended
        };
        self.tell_room();
        more
    }

    fn tell_room(&self) {
        if self.starved.swap(false, Ordering::AcqRel) {
            (self.wake_driver)();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an application can do without when it is behind.
const fn is_note(event: &Event) -> bool {
    matches!(
        event,
        Event::Check { .. }
            | Event::PingSent { .. }
            | Event::PongSent { .. }
            | Event::PongReceived { .. }
    )
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use heartbeat_core::ConnId;

    use super::*;

    const CONN: ConnId = ConnId::new(1);

    fn message() -> Event {
        Event::Message {
            conn: CONN,
            message: "x".into(),
        }
    }

    #[test]
    fn when_it_is_full_notes_are_left_out_and_ends_are_not() {
        let woken = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&woken);
        let wake = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let handoff = Handoff::new(2, wake, Box::new(|| {}));
        assert_eq!(handoff.push(&mut [message()].into()), Room::Free(1));
        assert_eq!(handoff.push(&mut [message()].into()), Room::Full);
        let note = Event::Check {
            conn: CONN,
            idle: Duration::ZERO,
        };
        let end = Event::Stopped {
            unsent: crate::message::Unsent::default(),
        };
        assert_eq!(handoff.push(&mut [note, end.clone()].into()), Room::Full);

        let mut taken = VecDeque::new();
        assert!(handoff.take(&mut taken));
        assert_eq!(taken, [message(), message(), end]);
        assert_eq!(
            woken.load(Ordering::Relaxed),
            1,
            "the driver waited for room"
        );
        assert_eq!(handoff.has_room(), Room::Free(2));
    }

    #[test]
    fn even_ends_are_bounded() {
        let handoff = Handoff::new(1, Box::new(|| {}), Box::new(|| {}));
        let mut room = Room::Free(1);
        for count in 1..=1 + EXTRA {
            room = handoff.push(
                &mut [Event::Stopped {
                    unsent: crate::message::Unsent::default(),
                }]
                .into(),
            );
            assert_eq!(room == Room::Exhausted, count == 1 + EXTRA);
        }
        assert_eq!(room, Room::Exhausted);
    }

    #[test]
    fn the_end_is_told_to_a_thread_that_waits() {
        let handoff = Handoff::new(1, Box::new(|| {}), Box::new(|| {}));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| handoff.take_until(&mut VecDeque::new(), None));
            handoff.end();
            assert!(!waiting.join().unwrap());
        });
    }
}
