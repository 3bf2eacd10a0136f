//! The event queue: events from a client with its own task or thread to the application.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tracing::{Span, debug, warn};

use super::send_queue::Notify;
use super::sync::{AtomicBool, Condvar, Mutex, MutexGuard};
use crate::event::{Event, Seconds};
use crate::message::Unsent;
use crate::stats::{SharedStats, WaitEnd};

/// The most heartbeat events that wait. They take no room from messages. If 64 of them wait, the application is too far
/// behind to use more.
const NOTES: usize = 64;

/// The most beginnings and ends of connections that wait before whole dials among them are folded into one
/// event.
const CONTROLS: usize = 256;

/// The most bytes of messages beyond the queue that arrived before an end: 16 MiB, where a message counts as
/// its length plus [`OVERHEAD`]. This is more than a socket's receive buffer holds, unless its messages are
/// tiny.
const BEYOND: usize = 16 << 20;

/// The most bytes of handed-back messages that the application has not taken: 16 MiB, counted likewise.
const HANDED_BACK: usize = 16 << 20;

/// The memory of a message besides its payload, in bytes.
const OVERHEAD: usize = 128;

/// The policy for messages when [`Options::queue`] messages wait for the application.
///
/// Beginnings and ends of connections, and the messages that they hand back, are delivered under every policy.
///
/// [`Options::queue`]: crate::Options::queue
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// Reading pauses until the application takes events. Nothing is lost. The server's pings wait too, because
    /// they stand behind messages that the application has not taken. The default.
    #[default]
    Pause,
    /// The oldest message is dropped. [`Event::Lagged`] takes its place.
    DropOldest,
    /// The newest message is dropped. [`Event::Lagged`] takes its place.
    DropNewest,
    /// No message is delivered, for programs that only send. Heartbeats are read and answered, and `on_connect`
    /// sees the messages that make its session ready. Applies to clients in place, too.
    Discard,
}

/// A bounded queue of events.
///
/// When `capacity` messages wait, [`Overflow`] decides about the next one. Heartbeat events (checks, pings,
/// pongs) do not count: at most 64 of them wait, and none is added to a full queue. Beginnings and ends of
/// connections are always reported. Once 256 wait, whole dials among them become one [`Event::Skipped`].
pub struct EventQueue {
    state: Mutex<State>,
    /// The driver waits for room.
    starved: AtomicBool,
    /// Signals a thread that waits for events.
    arrived: Condvar,
    capacity: usize,
    overflow: Overflow,
    shared_stats: Arc<SharedStats>,
    wake_driver: Notify,
    on_event: Notify,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Event>,
    counts: Counts,
    /// No further event will come.
    ended: bool,
    lagging: Lagging,
    /// Threads that wait for events. Without any, the notification (a system call) is skipped.
    receivers: usize,
}

/// Counts of the queue's contents.
#[derive(Debug)]
struct Counts {
    messages: usize,
    notes: usize,
    /// Bytes of messages beyond the capacity.
    beyond: usize,
    /// Bytes of handed-back messages.
    handed_back: usize,
    /// The number of beginnings and ends at which they are folded next.
    fold_at: usize,
}

impl Counts {
    const NONE: Self = Self {
        messages: 0,
        notes: 0,
        beyond: 0,
        handed_back: 0,
        fold_at: CONTROLS,
    };
}

/// Dropped messages, for the log: a warning at the first drop of a connection, and one when the application
/// takes events again.
#[derive(Debug)]
struct Lagging {
    /// A warning about this connection was logged.
    is_told: bool,
    /// Since the application last took events: when dropping began, how many were dropped, and whether a
    /// warning was logged.
    since: Option<(Instant, u64, bool)>,
}

impl Lagging {
    const fn new() -> Self {
        Self {
            is_told: false,
            since: None,
        }
    }

    fn dropped(&mut self, count: u64, client: &Span) {
        let is_new = self.since.is_none();
        let warns = is_new && !std::mem::replace(&mut self.is_told, true);
        if warns {
            warn!(
                parent: client,
                "messages are dropped: the application takes no events, and the queue is full; take events sooner, or \
                 choose a larger Options::queue"
            );
        }
        let (_, all, _) = self
            .since
            .get_or_insert((crate::clock::instant(), 0, warns));
        *all += count;
    }

    fn caught_up(&mut self, client: &Span) {
        let Some((since, count, warned)) = self.since.take() else {
            return;
        };
        let lasted = Seconds(crate::clock::instant().saturating_duration_since(since));
        if warned {
            warn!(parent: client, "{count} messages were dropped in {lasted}; the application takes events again");
        } else {
            debug!(parent: client, "{count} messages were dropped in {lasted}");
        }
    }
}

/// At or below this many events at once, the client counts as quiet and the spare buffer is freed.
const QUIET: usize = 4;

impl State {
    const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            counts: Counts::NONE,
            ended: false,
            lagging: Lagging::new(),
            receivers: 0,
        }
    }

    /// Moves all events into `batch`, together with their buffer. The old buffer of `batch` is kept for the
    /// next events, unless the client is quiet and may stay quiet.
    fn hand_over(&mut self, batch: &mut VecDeque<Event>) {
        if !batch.is_empty() {
            batch.append(&mut self.queue);
        } else if self.queue.len() > QUIET {
            std::mem::swap(batch, &mut self.queue);
        } else if !self.queue.is_empty() {
            *batch = std::mem::take(&mut self.queue);
        }
        self.counts = Counts::NONE;
    }
}

/// The room left in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Messages that may still be read. At 0 reading pauses, and everything else goes on.
    pub messages: usize,
    /// A dial may begin, and held messages may expire, because there is room for the messages that this hands back.
    pub dials: bool,
}

impl Room {
    /// Returns the room of an empty queue.
    #[must_use]
    pub const fn of(capacity: usize) -> Self {
        Self {
            messages: capacity,
            dials: true,
        }
    }

    /// Returns true if the driver need not wait for anything.
    #[must_use]
    pub const fn is_free(self) -> bool {
        self.messages > 0 && self.dials
    }

    /// Returns how many events an adapter may collect, up to `most`, before it passes them on. While reading is
    /// paused the adapter passes every event on at once.
    #[must_use]
    pub fn batch(self, most: usize) -> usize {
        match self.messages {
            0 => most,
            left => left.min(most),
        }
    }
}

impl EventQueue {
    /// Creates an empty queue. Its figures go to `board`. `wake_driver` is called when there is room again,
    /// `on_event` when an event arrived.
    #[must_use]
    pub fn new(
        capacity: usize,
        overflow: Overflow,
        shared_stats: Arc<SharedStats>,
        wake_driver: Notify,
        on_event: Notify,
    ) -> Self {
        Self {
            state: Mutex::new(State::new()),
            starved: AtomicBool::new(false),
            arrived: Condvar::new(),
            capacity: capacity.max(1),
            overflow,
            shared_stats,
            wake_driver,
            on_event,
        }
    }

    /// Adds a batch of events, and returns the room left.
    pub fn push(&self, batch: &mut VecDeque<Event>) -> Room {
        let (room, waited_for) = {
            let mut state = self.lock();
            self.accept(&mut state, batch);
            (self.room(&state), state.receivers > 0)
        };
        self.tell_arrived(waited_for);
        room
    }

    fn accept(&self, state: &mut State, batch: &mut VecDeque<Event>) {
        let fits = state.counts.messages + batch.len() <= self.capacity;
        if fits && batch.iter().all(is_message) {
            state.counts.messages += batch.len();
            if state.queue.is_empty() {
                std::mem::swap(&mut state.queue, batch);
            } else {
                state.queue.append(batch);
            }
            return;
        }
        let (mut dropped, mut left_out) = (0, 0);
        for event in batch.drain(..) {
            state.lagging.is_told &= !matches!(event, Event::Connected { .. });
            let counts = &mut state.counts;
            match &event {
                Event::Message { message, .. } => {
                    let is_full = counts.messages >= self.capacity;
                    match self.overflow {
                        // Under `Pause` the driver reads on only towards a known end.
                        Overflow::Pause if is_full && counts.beyond < BEYOND => {
                            counts.beyond += message.len() + OVERHEAD;
                        }
                        Overflow::Pause | Overflow::DropNewest if is_full => {
                            dropped += 1;
                            miss(&mut state.queue);
                            continue;
                        }
                        Overflow::Discard => continue,
                        Overflow::Pause | Overflow::DropNewest | Overflow::DropOldest => {}
                    }
                    counts.messages += 1;
                    state.queue.push_back(event);
                    if is_full && self.overflow == Overflow::DropOldest {
                        dropped += 1;
                        left_out += state.drop_oldest();
                    }
                }
                event if is_note(event) => {
                    if counts.notes >= NOTES || counts.messages >= self.capacity {
                        left_out += 1;
                        continue;
                    }
                    counts.notes += 1;
                    state.queue.push_back(event.clone());
                }
                Event::Disconnected { unsent, .. }
                | Event::Expired { unsent }
                | Event::Stopped { unsent, .. } => {
                    counts.handed_back += weight(unsent);
                    state.queue.push_back(event);
                }
                _ => state.queue.push_back(event),
            }
        }
        if dropped > 0 {
            state.lagging.dropped(dropped, &self.shared_stats.log.span);
        }
        let Counts {
            messages, notes, ..
        } = state.counts;
        if state.queue.len() - messages - notes > state.counts.fold_at {
            left_out += state.fold();
        }
        let unsent = self.forget_unsent(state);
        self.shared_stats.dropped(dropped, left_out, unsent);
    }

    /// Forgets handed-back messages that nobody took, the oldest first, under policies that let the application
    /// fall behind. The newest ones stay.
    fn forget_unsent(&self, state: &mut State) -> u64 {
        if self.overflow == Overflow::Pause || state.counts.handed_back < HANDED_BACK {
            return 0;
        }
        let mut forgotten = 0;
        let mut events = state.queue.iter_mut().filter_map(unsent_of).peekable();
        while state.counts.handed_back >= HANDED_BACK
            && let Some(unsent) = events.next()
            && events.peek().is_some()
        {
            state.counts.handed_back -= weight(unsent);
            forgotten += std::mem::take(unsent).len() as u64;
        }
        forgotten
    }

    /// Returns the room left. If there is none, the driver is woken when that changes.
    pub fn has_room(&self) -> Room {
        self.room(&self.lock())
    }

    fn room(&self, state: &State) -> Room {
        let room = match self.overflow {
            Overflow::Pause => Room {
                messages: self.capacity.saturating_sub(state.counts.messages),
                dials: state.counts.handed_back < HANDED_BACK,
            },
            Overflow::DropOldest | Overflow::DropNewest | Overflow::Discard => Room::of(usize::MAX),
        };
        self.starved.store(!room.is_free(), Ordering::Release);
        room
    }

    /// Ends the queue. No further event will come.
    pub fn end(&self) {
        let waited_for = {
            let mut state = self.lock();
            state.ended = true;
            state.receivers > 0
        };
        self.shared_stats.connected.ended(WaitEnd::Stopped);
        self.shared_stats.ended();
        self.tell_arrived(waited_for);
    }

    fn tell_arrived(&self, waited_for: bool) {
        if waited_for {
            self.arrived.notify_all();
        }
        (self.on_event)();
    }

    /// Takes all waiting events into `batch`. Returns true if more may come.
    pub fn take(&self, batch: &mut VecDeque<Event>) -> bool {
        let more = {
            let mut state = self.lock();
            state.hand_over(batch);
            state.lagging.caught_up(&self.shared_stats.log.span);
            !state.ended
        };
        self.tell_room();
        more
    }

    /// Like [`take`](Self::take), but waits for an event until `deadline`.
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
            state.lagging.caught_up(&self.shared_stats.log.span);
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

/// Returns true for a heartbeat event, which an application that is behind can do without.
const fn is_note(event: &Event) -> bool {
    matches!(
        event,
        Event::Check { .. }
            | Event::PingSent { .. }
            | Event::PongSent { .. }
            | Event::PongReceived { .. }
    )
}

const fn is_message(event: &Event) -> bool {
    matches!(event, Event::Message { .. })
}

fn unsent_of(event: &mut Event) -> Option<&mut Unsent> {
    match event {
        Event::Disconnected { unsent, .. }
        | Event::Expired { unsent }
        | Event::Skipped { unsent, .. }
        | Event::Stopped { unsent, .. } => Some(unsent),
        _ => None,
    }
}

/// Returns the bytes that waiting messages take until they are taken back.
fn weight(unsent: &Unsent) -> usize {
    unsent
        .iter()
        .map(|returned| returned.message.len() + OVERHEAD)
        .sum()
}

/// Records one dropped message at the end of the queue.
fn miss(queue: &mut VecDeque<Event>) {
    match queue.back_mut() {
        Some(Event::Lagged { dropped }) => *dropped += 1,
        _ => queue.push_back(Event::Lagged { dropped: 1 }),
    }
}

impl State {
    /// Replaces the oldest message with [`Event::Lagged`]. Returns how many heartbeat events before it were
    /// dropped, too.
    fn drop_oldest(&mut self) -> u64 {
        let (mut at, mut left_out) = (0, 0);
        loop {
            match self.queue.get(at) {
                None => return left_out,
                Some(event) if is_message(event) => break,
                Some(event) if is_note(event) => {
                    self.queue.remove(at);
                    self.counts.notes -= 1;
                    left_out += 1;
                }
                Some(_) => at += 1,
            }
        }
        self.counts.messages -= 1;
        if let Some(before) = at.checked_sub(1)
            && let Event::Lagged { dropped } = &mut self.queue[before]
        {
            *dropped += 1;
            self.queue.remove(at);
        } else {
            self.queue[at] = Event::Lagged { dropped: 1 };
        }
        left_out
    }

    /// Folds whole dials and connections that came and went into one event, where no message lies between them.
    /// Returns how many heartbeat events were dropped with them.
    fn fold(&mut self) -> u64 {
        let notes = self.counts.notes;
        let mut folded = VecDeque::new();
        let mut run = Vec::new();
        for event in std::mem::take(&mut self.queue) {
            if is_message(&event) {
                fold_run(&mut run, &mut folded);
                folded.push_back(event);
            } else {
                run.push(event);
            }
        }
        fold_run(&mut run, &mut folded);
        self.queue = folded;
        self.counts.notes = self.queue.iter().filter(|event| is_note(event)).count();
        let controls = self.queue.len() - self.counts.messages - self.counts.notes;
        // Events between messages stay. There are no more such runs than messages, so the queue stays bounded.
        self.counts.fold_at = CONTROLS.max(2 * controls);
        (notes - self.counts.notes) as u64
    }
}

/// Folds a run of events without messages. If the run has more than two ends, the first and the last stay, with
/// the events that led to them. Everything between becomes one event.
fn fold_run(run: &mut Vec<Event>, folded: &mut VecDeque<Event>) {
    let is_end = |event: &Event| matches!(event, Event::Disconnected { .. });
    let first = run.iter().position(is_end);
    let last = run.iter().rposition(is_end);
    let (Some(first), Some(last)) = (first, last) else {
        return folded.extend(run.drain(..));
    };
    let Some(before_last) = run[..last].iter().rposition(is_end) else {
        return folded.extend(run.drain(..));
    };
    let (mut ends, mut missing_since, mut all) = (0, None, Unsent::default());
    let (mut missed, mut in_doubt) = (0, 0_usize);
    for (index, event) in run.drain(..).enumerate() {
        if index <= first || index > before_last {
            folded.push_back(event);
        } else {
            match event {
                Event::Disconnected {
                    unsent,
                    in_doubt: more,
                    ..
                } => {
                    ends += 1;
                    all = all.and(unsent);
                    in_doubt = in_doubt.saturating_add(more);
                }
                Event::Skipped {
                    ends: more,
                    since,
                    unsent,
                    in_doubt: more_in_doubt,
                } => {
                    in_doubt = in_doubt.saturating_add(more_in_doubt);
                    ends += more;
                    missing_since = missing_since.or(since);
                    all = all.and(unsent);
                }
                Event::Gap { since, .. } => missing_since = missing_since.or(Some(since)),
                Event::Expired { unsent } => all = all.and(unsent),
                Event::Lagged { dropped } => missed += dropped,
                _ => {}
            }
        }
        if index == before_last && ends > 0 {
            if missed > 0 {
                folded.push_back(Event::Lagged { dropped: missed });
            }
            folded.push_back(Event::Skipped {
                ends,
                since: missing_since,
                unsent: std::mem::take(&mut all),
                in_doubt,
            });
        }
    }
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventQueue")
            .field("capacity", &self.capacity)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::{Duration, SystemTime};

    use heartbeat_core::{Cause, ConnId};

    use super::*;
    use crate::event::Reason;
    use crate::message::Message;

    const CONN: ConnId = ConnId::new(1);

    fn queue(capacity: usize, overflow: Overflow) -> EventQueue {
        let shared_stats = Arc::new(SharedStats::default());
        EventQueue::new(
            capacity,
            overflow,
            shared_stats,
            Box::new(|| {}),
            Box::new(|| {}),
        )
    }

    fn message(text: &str) -> Event {
        Event::Message {
            conn: CONN,
            message: text.into(),
        }
    }

    const fn note() -> Event {
        Event::Check {
            conn: CONN,
            idle: Duration::ZERO,
        }
    }

    fn lost(unsent: &[&str]) -> Event {
        Event::Disconnected {
            conn: CONN,
            reason: Reason::Cause(Cause::Eof),
            detail: None,
            response: None,
            idle: Duration::ZERO,
            open: Duration::ZERO,
            unsent: Unsent::new(None, unsent.iter().map(|text| Message::from(*text))),
            in_doubt: unsent.len(),
        }
    }

    const fn dial(attempt: u32) -> Event {
        Event::Connecting {
            conn: CONN,
            attempt,
        }
    }

    fn push(event_queue: &EventQueue, events: impl IntoIterator<Item = Event>) -> Room {
        event_queue.push(&mut events.into_iter().collect())
    }

    /// Describes the waiting events.
    fn taken(event_queue: &EventQueue) -> Vec<String> {
        let mut taken = VecDeque::new();
        event_queue.take(&mut taken);
        let tell = |event| match event {
            Event::Message { message, .. } => message.as_text().unwrap_or("?").to_owned(),
            Event::Lagged { dropped } => format!("{dropped} dropped"),
            Event::Check { .. } => "note".into(),
            Event::Connecting { attempt, .. } => format!("dial {attempt}"),
            Event::Disconnected { unsent, .. } => format!("lost, {} unsent", unsent.len()),
            Event::Skipped {
                ends,
                since,
                unsent,
                in_doubt,
            } => format!(
                "{ends} skipped, missing {}, {} unsent, {in_doubt} in doubt",
                since.is_some(),
                unsent.len()
            ),
            other => format!("{other:?}"),
        };
        taken.into_iter().map(tell).collect()
    }

    #[test]
    fn notes_never_fill_the_queue_and_the_65th_is_left_out() {
        let event_queue = queue(2, Overflow::Pause);
        let room = push(&event_queue, (0..1000).map(|_| note()));
        assert_eq!(room, Room::of(2), "the messages' room is theirs");
        assert_eq!(push(&event_queue, [message("a"), note()]), Room::of(1));
        assert_eq!(taken(&event_queue), [&["note"; NOTES][..], &["a"]].concat());
        assert_eq!(
            event_queue.shared_stats.heartbeat_events_dropped(),
            1000 - 64 + 1
        );
    }

    #[test]
    fn when_it_is_full_notes_are_left_out_and_ends_are_not() {
        let woken = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&woken);
        let wake = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let shared_stats = Arc::new(SharedStats::default());
        let event_queue = EventQueue::new(2, Overflow::Pause, shared_stats, wake, Box::new(|| {}));
        assert_eq!(push(&event_queue, [message("a")]).messages, 1);
        assert_eq!(push(&event_queue, [message("b")]).messages, 0);
        assert_eq!(push(&event_queue, [note(), lost(&[])]).messages, 0);
        assert_eq!(taken(&event_queue), ["a", "b", "lost, 0 unsent"]);
        assert_eq!(
            woken.load(Ordering::Relaxed),
            1,
            "the driver waited for room"
        );
        assert_eq!(event_queue.has_room(), Room::of(2));
    }

    #[test]
    fn what_came_before_an_end_finds_room_beyond_the_queue_up_to_a_bound_and_the_rest_is_counted() {
        let event_queue = queue(2, Overflow::Pause);
        let large = "x".repeat((4 << 20) - OVERHEAD);
        push(&event_queue, [message("a"), message("b")]);
        push(&event_queue, (0..6).map(|_| message(&large)));
        assert_eq!(
            push(&event_queue, [lost(&[])]),
            Room {
                messages: 0,
                dials: true
            }
        );
        let taken = taken(&event_queue);
        assert_eq!(taken.len(), 2 + 4 + 2);
        assert_eq!(taken[6..], ["2 dropped", "lost, 0 unsent"]);
        assert_eq!(
            push(&event_queue, [message("a")]).messages,
            1,
            "begins anew"
        );
    }

    #[test]
    fn the_oldest_or_the_newest_goes_and_one_event_stands_where_messages_are_missing() {
        let numbered = |range: std::ops::Range<u32>| range.map(|n| message(&n.to_string()));
        let oldest = queue(3, Overflow::DropOldest);
        assert!(push(&oldest, numbered(0..2)).messages > 1000);
        push(&oldest, [note(), lost(&[]), dial(1)]);
        push(&oldest, numbered(2..4));
        let expected = ["1 dropped", "1", "lost, 0 unsent", "dial 1", "2", "3"];
        assert_eq!(
            taken(&oldest)
                .iter()
                .filter(|word| *word != "note")
                .collect::<Vec<_>>(),
            expected
        );
        push(&oldest, numbered(0..2));
        push(&oldest, [lost(&[]), dial(1)]);
        push(&oldest, numbered(2..10));
        assert_eq!(
            taken(&oldest),
            [
                "2 dropped",
                "lost, 0 unsent",
                "dial 1",
                "5 dropped",
                "7",
                "8",
                "9"
            ]
        );
        assert_eq!(oldest.shared_stats.messages_dropped(), 8);

        let newest = queue(3, Overflow::DropNewest);
        assert!(push(&newest, numbered(0..5)).messages > 1000);
        push(&newest, [note(), lost(&[]), dial(1)]);
        push(&newest, numbered(5..8));
        assert_eq!(
            taken(&newest),
            [
                "0",
                "1",
                "2",
                "2 dropped",
                "lost, 0 unsent",
                "dial 1",
                "3 dropped"
            ]
        );
        assert_eq!(push(&newest, numbered(0..1)).messages, usize::MAX);
        assert_eq!(taken(&newest), ["0"], "begins anew");
        assert_eq!(newest.shared_stats.messages_dropped(), 5);
    }

    #[test]
    fn days_of_dials_take_no_more_room_than_a_few_and_no_message_that_was_handed_back_is_lost() {
        let event_queue = queue(4, Overflow::Pause);
        push(&event_queue, [message("a")]);
        for attempt in 0..100_000 {
            push(&event_queue, [dial(attempt), lost(&[])]);
            if attempt == 500 {
                let gap = Event::Gap {
                    conn: CONN,
                    since: SystemTime::UNIX_EPOCH,
                    down_for: Duration::ZERO,
                    cause: Reason::Cause(Cause::Eof),
                    attempts: 1,
                    unsent: 0,
                    in_doubt: 0,
                };
                push(&event_queue, [dial(attempt), gap, lost(&["x", "y"])]);
            }
            assert!(event_queue.lock().queue.len() <= 2 * CONTROLS);
        }
        push(&event_queue, [dial(100_000)]);
        let taken = taken(&event_queue);
        assert_eq!(taken[..3], ["a", "dial 0", "lost, 0 unsent"]);
        assert!(
            taken[3].ends_with("skipped, missing true, 2 unsent, 2 in doubt"),
            "{}",
            taken[3]
        );
        assert_eq!(taken[taken.len() - 1], "dial 100000");
    }

    #[test]
    fn messages_handed_back_that_nobody_takes_hold_dials_or_are_forgotten_the_oldest_first() {
        let large = "x".repeat(1 << 20);
        for (overflow, dials, kept) in [
            (Overflow::Pause, false, 40),
            (Overflow::DropNewest, true, 15),
            (Overflow::Discard, true, 15),
        ] {
            let event_queue = queue(4, overflow);
            let mut room = Room::of(4);
            for _ in 0..40 {
                room = push(&event_queue, [lost(&[&large])]);
            }
            assert_eq!(room.dials, dials, "{overflow:?}");
            let mut all = VecDeque::new();
            event_queue.take(&mut all);
            let unsent: usize = all.into_iter().map(|event| event.into_unsent().len()).sum();
            assert_eq!(unsent, kept, "{overflow:?}");
            assert!(event_queue.has_room().dials);
        }
    }

    #[test]
    fn the_end_is_told_to_a_thread_that_waits() {
        let event_queue = queue(1, Overflow::Pause);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| event_queue.take_until(&mut VecDeque::new(), None));
            event_queue.end();
            assert!(!waiting.join().unwrap());
        });
    }
}
