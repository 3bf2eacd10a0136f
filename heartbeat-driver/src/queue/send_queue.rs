//! The send queue: messages and commands from the application's threads or tasks to the engine.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use heartbeat_core::{ConnId, Failure, Instant, Values, Variables};

use super::ids::Ids;
use super::sync::{AtomicBool, Condvar, Mutex, MutexGuard};
use crate::dialect::Compute;
use crate::message::{CloseFrame, InvalidClose, Message, Unsent};
use crate::panics::{Inside, Panicked, catch, named};

/// The limits of what an application may queue before it must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) message_size: usize,
    /// Messages and bytes that may be held while no session is ready. `None` refuses messages instead.
    pub(crate) hold: Option<(usize, usize)>,
}

/// A callback that tells the other side of a change. Must not block.
pub type Notify = Box<dyn Fn() + Send + Sync>;

/// The queue of accepted messages and commands that the engine has not taken yet.
///
/// One lock guards both the state of the connection and the messages queued for it. So every message is either
/// written or handed back, whatever the timing of a disconnect.
pub struct SendQueue {
    state: Mutex<State>,
    /// Something waits for the engine. If nothing does, the engine need not take the lock.
    pending: AtomicBool,
    /// A message waits that the current connection may take. If none does, the engine need not take the lock.
    ready_to_go: AtomicBool,
    /// The engine is woken only while this is set. Waking a running engine would waste a system call.
    resting: AtomicBool,
    limits: Limits,
    wake_engine: Notify,
    /// The thread that waits for the client's events, if the client has no thread or task of its own.
    driver: std::sync::Mutex<Option<ThreadId>>,
    /// Variables that the application has set for the dialect's templates.
    variables: Mutex<Variables>,
    pub(crate) ids: Ids,
}

#[derive(Default)]
struct State {
    link: SessionState,
    /// There will be no further connection, so nothing is accepted any more.
    ended: bool,
    /// Messages that make the session ready. They go first.
    opening: Lane,
    queue: Lane,
    commands: Commands,
    /// Waiting senders in order of arrival, and the bytes of their messages.
    line: VecDeque<Arc<Ticket>>,
    line_bytes: usize,
    /// Messages and bytes reserved for senders that were called and have not come yet.
    reserved: (usize, usize),
}

/// The most senders that are called at a time. A hundred threads that wake together would keep the engine from
/// the processor. Each sender that comes makes room for the next call.
const CALLED: usize = 8;

/// A waiting sender's place in line.
struct Ticket {
    /// Length of the waiting message.
    len: usize,
    /// The sender must try again, because there is room or there never will be. Changed only under the lock of
    /// [`State`].
    is_called: AtomicBool,
    /// The waiting thread.
    thread: Condvar,
    /// The waiting task, if a task waits and not a thread.
    task: std::sync::Mutex<Option<Waker>>,
}

impl Ticket {
    fn new(len: usize) -> Self {
        Self {
            len,
            is_called: AtomicBool::new(false),
            thread: Condvar::new(),
            task: std::sync::Mutex::default(),
        }
    }

    fn is_called(&self) -> bool {
        self.is_called.load(Ordering::Relaxed)
    }

    /// Sets the task to wake.
    fn is_of(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    fn wake(&self) {
        // The lock is released before the call, because a waker is the application's code.
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match task {
            Some(task) => task.wake(),
            // Notifying without a waiting thread would still be a system call.
            None => self.thread.notify_all(),
        }
    }
}

/// Which messages may go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SessionState {
    #[default]
    Down,
    /// Only those that make the session ready.
    Opening(ConnId),
    /// All messages.
    Ready(ConnId),
}

/// The application's requests to the engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Commands {
    pub(crate) kick: bool,
    pub(crate) stop: bool,
    /// The Close frame of a stop. `None`: the machine's choice.
    pub(crate) goodbye: Option<CloseFrame>,
    /// The application's report on a connection's session.
    pub(crate) session: Option<(ConnId, Result<(), Failed>)>,
}

/// A session that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// The Close frame for the peer.
    pub(crate) goodbye: CloseFrame,
}

/// Messages that wait, in order.
#[derive(Default)]
struct Lane {
    messages: VecDeque<Waiting>,
    bytes: usize,
}

/// An accepted message.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) message: Message,
    /// Since when the message is held. [`Instant::NEVER`] until the engine has noted it.
    held: Instant,
    /// The message belongs to its connection, and is not held after the connection ends.
    for_session: bool,
}

impl Waiting {
    /// Creates an entry for a new message, for any connection.
    pub(crate) const fn now(message: Message) -> Self {
        Self {
            message,
            held: Instant::NEVER,
            for_session: false,
        }
    }
}

heartbeat_core::debug_as_display!(SendError);

/// A message that was not accepted, handed back with the reason. `Debug` and `Display` leave the message out,
/// because it may hold credentials.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message was not accepted: {reason}")]
pub struct SendError {
    /// Why.
    pub reason: SendErrorKind,
    /// The message.
    pub message: Message,
}

impl SendError {
    /// Changes the reason to [`SendErrorKind::Inside`], for a call that would wait for its own return.
    #[must_use]
    #[doc(hidden)]
    pub fn inside(self) -> Self {
        let reason = match self.reason {
            SendErrorKind::Full => SendErrorKind::Inside,
            other => other,
        };
        Self { reason, ..self }
    }
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// There is no open connection.
    #[error("there is no open connection")]
    NotConnected,
    /// A connection is open, but its session is not ready.
    #[error("the session is not ready")]
    NotReady,
    /// The queue is full of messages or bytes.
    #[error("too much waits to be sent")]
    Full,
    /// The message is larger than the limit.
    #[error("it has {len} bytes, at most {max} are allowed")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The queue is full, and the call came from code that the client runs (`on_connect`, a factory, a decoder,
    /// an observer), or from the thread that drives a blocking client in place. Waiting would block the only
    /// thread that makes room. `try_send` returns [`Full`](Self::Full) in that case, and `Opening::send` needs
    /// no room.
    #[error("the thread that drives the client cannot wait for room in it")]
    Inside,
    /// The client has ended.
    #[error("the client has ended")]
    Ended,
}

impl SendQueue {
    pub(crate) fn new(limits: Limits, ids: Ids, wake_engine: Notify) -> Self {
        Self {
            state: Mutex::default(),
            pending: AtomicBool::new(false),
            ready_to_go: AtomicBool::new(false),
            resting: AtomicBool::new(true),
            limits,
            wake_engine,
            driver: std::sync::Mutex::default(),
            variables: Mutex::default(),
            ids,
        }
    }

    /// Returns an id of this client's engine, for the threads that drive it.
    pub(crate) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Returns true if this thread is running code that the engine, or an adapter for it, has called
    /// (`on_connect`, a factory, an observer). Such code must not wait for the engine.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        Inside::is(self.id())
    }

    /// Notes that this thread drives the client by its own calls, and nothing drives the client between them.
    pub fn driven_by_this_thread(&self) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        *driver = Some(thread::current().id());
    }

    /// Returns true if only this thread makes room, so that waiting for room would never end.
    fn is_driver(&self) -> bool {
        let driver = *self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        driver.is_some_and(|driver| driver == thread::current().id())
    }

    /// Calls code of the adapter's user: a dialer, a reactor, a stream. Meanwhile this thread [is
    /// inside](Self::is_inside).
    ///
    /// # Errors
    /// The panic of that code. Pass it to [`Engine::panicked`](crate::Engine::panicked).
    pub fn guard<T>(&self, code: &'static str, f: impl FnOnce() -> T) -> Result<T, Panicked> {
        let _inside = Inside::enter(self.id());
        catch(code, f)
    }

    /// Sets a variable of the dialect's templates (Janus' `session`, say). The value is inserted verbatim, so a
    /// JSON string needs its quotes. A template's message is not sent until all of its variables are set.
    pub fn set_variable(&self, name: impl Into<String>, value: impl Into<String>) {
        let mut variables = self
            .variables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        variables.insert(name.into(), value.into());
    }

    /// Takes the next id of the sequence that the application shares with the dialect's own messages.
    pub fn take_id(&self) -> u64 {
        self.ids.take()
    }

    /// Queues a message, or hands it back at once.
    ///
    /// # Errors
    /// [`SendError`] holds the message and the reason.
    pub fn try_send(&self, message: Message) -> Result<(), SendError> {
        {
            let mut state = self.lock();
            state.accept(message, &self.limits, false)?;
            self.note(&state);
        }
        self.notify_engine();
        Ok(())
    }

    /// Queues a message that makes this connection's session ready. It goes out ahead of all others, and is
    /// handed back if the connection ends first.
    ///
    /// # Errors
    /// [`SendError`] holds the message and the reason. [`SendErrorKind::NotConnected`] if another connection is
    /// open, or none.
    pub fn send_opening(&self, conn: ConnId, message: Message) -> Result<(), SendError> {
        {
            let mut state = self.lock();
            state.accept_opening(conn, message, &self.limits)?;
            self.note(&state);
        }
        self.notify_engine();
        Ok(())
    }

    /// Reports that the session of this connection is ready, or how it failed. Has no effect if this is not the
    /// current connection, or if no session is configured.
    pub fn session(&self, conn: ConnId, outcome: Result<(), Failure>) {
        let outcome = outcome.map_err(|failure| Failed {
            failure,
            goodbye: CloseFrame::of(failure),
        });
        self.say_of_session(conn, outcome);
    }

    /// Like [`session`](Self::session) with a failure, but with this code and reason in the Close frame.
    ///
    /// # Errors
    /// [`InvalidClose`] names the code or the length, and the rule. The session is then unchanged.
    pub fn fail_session(
        &self,
        conn: ConnId,
        failure: Failure,
        code: u16,
        reason: &str,
    ) -> Result<(), InvalidClose> {
        let goodbye = CloseFrame::new(code, reason)?;
        self.say_of_session(conn, Err(Failed { failure, goodbye }));
        Ok(())
    }

    fn say_of_session(&self, conn: ConnId, outcome: Result<(), Failed>) {
        {
            let said = &mut self.lock().commands.session;
            // A report on an older connection must not replace one on the current connection, and `ready` must
            // not replace a failure.
            let counts = said
                .as_ref()
                .is_none_or(|(of, said)| *of < conn || (*of == conn && said.is_ok()));
            if counts {
                *said = Some((conn, outcome));
            }
        }
        self.notify_engine();
    }

    /// Like [`try_send`](Self::try_send), but blocks up to `timeout` for space. Waiting senders get space in
    /// order of arrival, and later senders queue behind them.
    ///
    /// # Errors
    /// [`SendError`] holds the message and the reason. [`SendErrorKind::Full`] after `timeout`;
    /// [`SendErrorKind::Inside`] at once, if the call would wait for its own return.
    pub fn send_timeout(&self, message: Message, timeout: Duration) -> Result<(), SendError> {
        if self.is_inside() {
            return self.try_send(message).map_err(SendError::inside);
        }
        let deadline = crate::clock::instant().checked_add(timeout);
        let (mut message, mut ticket) = (Some(message), None);
        let mut state = self.lock();
        let sent = loop {
            if let Some(sent) = self.attempt(&mut state, &mut message, &mut ticket) {
                break sent;
            }
            let Some(waiting) = ticket.clone() else {
                break Ok(());
            };
            if self.is_driver()
                && let Some(message) = message.take()
            {
                break Err(SendError {
                    reason: SendErrorKind::Inside,
                    message,
                });
            }
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(crate::clock::instant())
            });
            let not_called = |_: &mut State| !waiting.is_called();
            let waited = waiting.thread.wait_timeout_while(state, left, not_called);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !waiting.is_called()
                && let Some(message) = message.take()
            {
                // There may be room for which no sender was called yet.
                let sent = state.accept(message, &self.limits, true);
                self.note(&state);
                break sent;
            }
        };
        self.leave_line(state, ticket);
        if sent.is_ok() {
            self.notify_engine();
        }
        sent
    }

    /// Like [`send_timeout`](Self::send_timeout), for tasks. Cancel-safe: the message is accepted when the
    /// future completes, or not at all.
    pub fn send(&self, message: Message) -> Sending<'_> {
        Sending {
            send_queue: self,
            message: Some(message),
            ticket: None,
        }
    }

    /// Tries once to queue the message of a waiting sender. Returns `None` if the sender must wait on, with a
    /// ticket.
    fn attempt(
        &self,
        state: &mut State,
        message: &mut Option<Message>,
        ticket: &mut Option<Arc<Ticket>>,
    ) -> Option<Result<(), SendError>> {
        let was_called = match ticket {
            Some(ticket) if !ticket.is_called() => return None,
            Some(ticket) => {
                state.give_up_room(ticket.len);
                true
            }
            None => false,
        };
        let waits = message.take()?;
        let len = waits.len();
        let sent = state.accept(waits, &self.limits, was_called);
        self.note(state);
        match sent {
            Err(SendError {
                reason: SendErrorKind::Full,
                message: back,
            }) => {
                *message = Some(back);
                let new = Arc::new(Ticket::new(len));
                state.line_bytes += len;
                if was_called {
                    // The reserved room is no longer enough, but this sender stays the first.
                    state.line.push_front(Arc::clone(&new));
                } else {
                    state.line.push_back(Arc::clone(&new));
                }
                *ticket = Some(new);
                None
            }
            sent => {
                *ticket = None;
                Some(sent)
            }
        }
    }

    /// Removes a sender from the line, whether or not its message was accepted.
    fn leave_line(&self, mut state: MutexGuard<'_, State>, ticket: Option<Arc<Ticket>>) {
        if let Some(ticket) = ticket {
            if ticket.is_called() {
                state.give_up_room(ticket.len);
            } else {
                state.line.retain(|other| !Arc::ptr_eq(other, &ticket));
                state.line_bytes -= ticket.len;
            }
        }
        self.call_and_unlock(state);
    }

    /// Calls the senders that have room now, or never will.
    fn call_and_unlock(&self, mut state: MutexGuard<'_, State>) {
        if state.line.is_empty() {
            return;
        }
        let called = state.call(&self.limits);
        drop(state);
        for ticket in called {
            ticket.wake();
        }
    }

    /// Reports that the network is back: the engine dials now, or probes an open connection now.
    pub fn kick(&self) {
        self.lock().commands.kick = true;
        self.notify_engine();
    }

    /// Stops the client. Accepted messages are still written.
    pub fn stop(&self) {
        self.stop_saying(None);
    }

    /// Like [`stop`](Self::stop), but with this code and reason in the Close frame. The first stop counts.
    ///
    /// # Errors
    /// [`InvalidClose`] names the code or the length, and the rule. The client is then not stopped.
    pub fn stop_with(&self, code: u16, reason: &str) -> Result<(), InvalidClose> {
        self.stop_saying(Some(CloseFrame::new(code, reason)?));
        Ok(())
    }

    fn stop_saying(&self, goodbye: Option<CloseFrame>) {
        {
            let mut state = self.lock();
            if !state.ended {
                state.commands.goodbye = goodbye;
            }
            state.commands.stop = true;
            state.ended = true;
            self.call_and_unlock(state);
        }
        self.notify_engine();
    }

    pub(crate) fn notify_engine(&self) {
        // The first setter wakes the engine, which looks before it rests: one wake-up for a whole burst. The
        // thread that drives the engine is not waiting, unless its wait runs this code.
        if !self.pending.swap(true, Ordering::AcqRel)
            && self.resting.load(Ordering::Acquire)
            && (self.is_inside() || !self.is_driver())
        {
            (self.wake_engine)();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of the application runs under the lock, so a poisoned lock still guards a consistent state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the engine's side --------------------------------------------------------------------

    /// Calls `write` with the current values for a template. Variables that a dialect in Rust sets meanwhile
    /// apply from the next message.
    pub(crate) fn with_values<T>(
        &self,
        tracked: &Variables,
        computed: &[(Box<str>, Compute)],
        write: impl FnOnce(&Values<'_>) -> T,
    ) -> T {
        let variables = self
            .variables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let unix_ms = crate::clock::unix_ms();
        if variables.is_empty() && computed.is_empty() {
            drop(variables);
            return write(&Values {
                unix_ms,
                variables: tracked,
            });
        }
        let mut all = tracked.clone();
        all.extend(
            variables
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        drop(variables);
        // The lock is released before these calls, which may set variables. Each call sees the variables from
        // before all of them.
        let known = Values {
            unix_ms,
            variables: &all,
        };
        let made: Vec<_> = computed
            .iter()
            .map(|(name, compute)| {
                let value = named("a computed value", || compute(&known));
                (String::from(&**name), value)
            })
            .collect();
        all.extend(made);
        write(&Values {
            unix_ms,
            variables: &all,
        })
    }

    /// Returns true if something waits for the engine. An adapter must check again after registering its waker.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Returns true if no message or command waits that must be handled before a new message.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.is_pending() && !self.ready_to_go.load(Ordering::Acquire)
    }

    /// Marks the engine as about to wait, so that it is woken from now on. Returns false if something is
    /// pending already and the engine must not wait.
    ///
    /// For an adapter whose wake-ups are expensive. Call [`rise`](Self::rise) before driving the engine and
    /// after each wait, and [`leave`](Self::leave) when driving ends. An adapter that calls none of the three
    /// is always woken.
    pub fn rest(&self) -> bool {
        self.resting.store(true, Ordering::Relaxed);
        // A read-modify-write: a later setter of `pending` sees `resting`, and an earlier one is seen here.
        !self.pending.fetch_or(false, Ordering::AcqRel)
    }

    /// Marks the engine as not driven. It is woken from now on, and at once if something is pending.
    pub fn leave(&self) {
        if !self.rest() {
            (self.wake_engine)();
        }
    }

    /// Marks the engine as running. It looks at the send queue before it [rests](Self::rest).
    pub fn rise(&self) {
        self.resting.store(false, Ordering::Relaxed);
    }

    /// Makes the engine look at the queue again.
    pub(crate) fn poke(&self) {
        self.pending.store(true, Ordering::Release);
    }

    /// Takes the application's commands. If no session is ready, messages that came since the last call are
    /// held from `now`.
    pub(crate) fn commands(&self, now: Instant) -> Commands {
        // Cleared before the look, so that an arrival during the look wakes the engine again. The
        // read-modify-write also makes everything visible that was written before `pending` was set.
        self.pending.swap(false, Ordering::AcqRel);
        let mut state = self.lock();
        if !matches!(state.link, SessionState::Ready(_)) {
            state.queue.hold_since(now);
        }
        std::mem::take(&mut state.commands)
    }

    /// Returns true if a message waits that the current connection may take.
    pub(crate) fn is_ready_to_go(&self) -> bool {
        self.ready_to_go.load(Ordering::Acquire)
    }

    /// Passes messages that the connection may take to `take`, until `take` breaks.
    pub(crate) fn take(&self, mut take: impl FnMut(Waiting) -> ControlFlow<()>) {
        if !self.is_ready_to_go() {
            return;
        }
        let mut state = self.lock();
        while let Some(waiting) = state.next() {
            if take(waiting).is_break() {
                break;
            }
        }
        self.note(&state);
        self.call_and_unlock(state);
    }

    /// Takes messages until they have this many bytes, or none is left.
    #[cfg(test)]
    pub(crate) fn take_bytes(&self, mut bytes: usize) -> VecDeque<Waiting> {
        let mut taken = VecDeque::new();
        self.take(|waiting| {
            bytes = bytes.saturating_sub(waiting.message.len());
            taken.push_back(waiting);
            match bytes {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        taken
    }

    /// Opens the queue for a connection whose session is ready or not.
    pub(crate) fn open(&self, conn: ConnId, ready: bool) {
        let mut state = self.lock();
        state.link = if ready {
            SessionState::Ready(conn)
        } else {
            SessionState::Opening(conn)
        };
        self.note(&state);
        self.call_and_unlock(state);
    }

    /// Closes the queue while the connection still exists. New messages are held for the next connection, or
    /// refused.
    pub(crate) fn shut(&self, now: Instant) {
        let mut state = self.lock();
        state.link = SessionState::Down;
        state.queue.hold_since(now);
        self.note(&state);
        self.call_and_unlock(state);
    }

    /// Notes the end of the connection. `in_flight` are the messages that it did not write, in order; if `cut`,
    /// the first was partly written. Held messages stay, all others are returned.
    pub(crate) fn close(&self, cut: bool, in_flight: VecDeque<Waiting>, now: Instant) -> Unsent {
        let mut state = self.lock();
        state.link = SessionState::Down;
        let hold = self.limits.hold.filter(|_| !state.ended);
        let unsent = state.close(cut, in_flight, hold);
        state.queue.hold_since(now);
        self.note(&state);
        self.call_and_unlock(state);
        unsent
    }

    /// Hands back held messages for which `dead` is true, and returns since when the oldest of the others is
    /// held.
    pub(crate) fn expire(&self, dead: impl Fn(Instant) -> bool) -> (Unsent, Option<Instant>) {
        let mut expired = Vec::new();
        let mut state = self.lock();
        while let Some(first) = state.queue.messages.front()
            && first.held != Instant::NEVER
            && dead(first.held)
        {
            expired.extend(state.queue.pop().map(|waiting| waiting.message));
        }
        let oldest = state.queue.messages.front().map(|first| first.held);
        self.note(&state);
        self.call_and_unlock(state);
        let oldest = oldest.filter(|held| *held != Instant::NEVER);
        (Unsent::new(None, expired), oldest)
    }

    /// Returns how many messages, and how many bytes of messages, wait to be sent.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (
            state.opening.messages.len() + state.queue.messages.len(),
            state.opening.bytes + state.queue.bytes,
        )
    }

    /// Ends the queue. There will be no further connection.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.call_and_unlock(state);
    }

    /// Updates `ready_to_go` from the state, under its lock.
    fn note(&self, state: &State) {
        let ready = match state.link {
            SessionState::Down => false,
            SessionState::Opening(_) => !state.opening.messages.is_empty(),
            SessionState::Ready(_) => {
                !(state.opening.messages.is_empty() && state.queue.messages.is_empty())
            }
        };
        self.ready_to_go.store(ready, Ordering::Release);
    }
}

impl State {
    /// Queues a message. A sender that was not called queues behind the waiting ones, and is accepted only if
    /// there is room for all of them.
    fn accept(
        &mut self,
        message: Message,
        limits: &Limits,
        was_called: bool,
    ) -> Result<(), SendError> {
        let (mut messages, mut bytes) = self.reserved;
        if !was_called {
            messages += self.line.len();
            bytes += self.line_bytes;
        }
        let room = self.room(message.len(), limits, (messages, bytes));
        self.queue.accept(message, room, false)
    }

    /// Returns an error unless a message of this length fits beside the reserved room `kept`.
    fn room(&self, len: usize, limits: &Limits, kept: (usize, usize)) -> Result<(), SendErrorKind> {
        let limit = match (self.link, limits.hold) {
            _ if self.ended => return Err(SendErrorKind::Ended),
            (SessionState::Ready(_), _) => (limits.messages, limits.bytes),
            (SessionState::Down | SessionState::Opening(_), Some(held)) => held,
            (SessionState::Down, None) => return Err(SendErrorKind::NotConnected),
            (SessionState::Opening(_), None) => return Err(SendErrorKind::NotReady),
        };
        self.queue.room(len, limit, limits.message_size, kept)
    }

    /// Returns true if waiting senders should be called now. While messages flow this is not done for each
    /// taken message, so that a call finds room for several senders.
    fn is_time_to_call(&self, limits: &Limits) -> bool {
        self.ended
            || !matches!(self.link, SessionState::Ready(_))
            || (self.queue.messages.len() <= limits.messages / 4 * 3
                && self.queue.bytes <= limits.bytes / 4 * 3)
    }

    /// Removes from the line the senders that must try again, because there is room, or because they will be
    /// refused for another reason.
    fn call(&mut self, limits: &Limits) -> Vec<Arc<Ticket>> {
        let mut called = Vec::new();
        if !self.is_time_to_call(limits) {
            return called;
        }
        while let Some(first) = self.line.front() {
            match self.room(first.len, limits, self.reserved) {
                Ok(()) if self.reserved.0 < CALLED => {}
                Ok(()) | Err(SendErrorKind::Full) => break,
                Err(_) => {}
            }
            let Some(first) = self.line.pop_front() else {
                break;
            };
            first.is_called.store(true, Ordering::Relaxed);
            self.line_bytes -= first.len;
            self.reserved.0 += 1;
            self.reserved.1 += first.len;
            called.push(first);
        }
        called
    }

    /// Releases the room reserved for a called sender.
    fn give_up_room(&mut self, len: usize) {
        self.reserved.0 -= 1;
        self.reserved.1 -= len;
    }

    fn accept_opening(
        &mut self,
        conn: ConnId,
        message: Message,
        limits: &Limits,
    ) -> Result<(), SendError> {
        let limit = match self.link {
            _ if self.ended => Err(SendErrorKind::Ended),
            SessionState::Opening(open) | SessionState::Ready(open) if open == conn => {
                Ok((limits.messages, limits.bytes))
            }
            SessionState::Opening(_) | SessionState::Ready(_) | SessionState::Down => {
                Err(SendErrorKind::NotConnected)
            }
        };
        let len = message.len();
        let max = limits.message_size;
        let room = limit.and_then(|limit| self.opening.room(len, limit, max, (0, 0)));
        self.opening.accept(message, room, true)
    }

    /// Returns the next message for the connection.
    fn next(&mut self) -> Option<Waiting> {
        match self.link {
            SessionState::Down => None,
            SessionState::Opening(_) => self.opening.pop(),
            SessionState::Ready(_) => self.opening.pop().or_else(|| self.queue.pop()),
        }
    }

    fn close(
        &mut self,
        cut: bool,
        mut in_flight: VecDeque<Waiting>,
        hold: Option<(usize, usize)>,
    ) -> Unsent {
        let cut = if cut { in_flight.pop_front() } else { None };
        let (mut unsent, mut full) = (Vec::new(), false);
        let mut held = Lane::default();
        let opening = std::mem::take(&mut self.opening).messages;
        let queue = std::mem::take(&mut self.queue).messages;
        for waiting in in_flight.into_iter().chain(opening).chain(queue) {
            let len = waiting.message.len();
            let room = |limit| held.room(len, limit, usize::MAX, (0, 0)).is_ok();
            if waiting.for_session {
                unsent.push(waiting);
            } else if !full && hold.is_some_and(room) {
                held.push(waiting);
            } else {
                // Holding keeps the order: after a message without room, no later one is held.
                full = true;
                unsent.push(waiting);
            }
        }
        self.queue = held;
        let message = |waiting: Waiting| waiting.message;
        Unsent::new(cut.map(message), unsent.into_iter().map(message))
    }
}

impl Lane {
    /// Returns an error unless one more message fits beside the `reserved` room. A message larger than the
    /// whole limit may still wait alone.
    fn room(
        &self,
        len: usize,
        (messages, bytes): (usize, usize),
        max: usize,
        reserved: (usize, usize),
    ) -> Result<(), SendErrorKind> {
        if len > max {
            return Err(SendErrorKind::TooLarge { len, max });
        }
        let waiting = self.messages.len() + reserved.0;
        let full = waiting >= messages
            || self.bytes.saturating_add(reserved.1).saturating_add(len) > bytes;
        if full && waiting > 0 {
            return Err(SendErrorKind::Full);
        }
        Ok(())
    }

    fn accept(
        &mut self,
        message: Message,
        room: Result<(), SendErrorKind>,
        for_session: bool,
    ) -> Result<(), SendError> {
        if let Err(reason) = room {
            return Err(SendError { reason, message });
        }
        let waiting = Waiting::now(message);
        self.push(Waiting {
            for_session,
            ..waiting
        });
        Ok(())
    }

    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.message.len();
        self.messages.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.messages.pop_front()?;
        self.bytes -= waiting.message.len();
        Some(waiting)
    }

    /// Sets the time for messages that came since the last call.
    fn hold_since(&mut self, now: Instant) {
        let fresh = self.messages.iter_mut().rev();
        for waiting in fresh.take_while(|waiting| waiting.held == Instant::NEVER) {
            waiting.held = now;
        }
    }
}

/// The future of [`SendQueue::send`].
#[must_use = "a message is handed over when this is polled"]
pub struct Sending<'a> {
    send_queue: &'a SendQueue,
    message: Option<Message>,
    ticket: Option<Arc<Ticket>>,
}

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            send_queue,
            message,
            ticket,
        } = &mut *self;
        let mut state = send_queue.lock();
        match send_queue.attempt(&mut state, message, ticket) {
            Some(sent) => {
                // This message may have been the one in the way of others.
                send_queue.call_and_unlock(state);
                if sent.is_ok() {
                    send_queue.notify_engine();
                }
                Poll::Ready(sent)
            }
            None => {
                if send_queue.is_inside()
                    && let Some(message) = message.take()
                {
                    send_queue.leave_line(state, ticket.take());
                    let reason = SendErrorKind::Inside;
                    return Poll::Ready(Err(SendError { reason, message }));
                }
                if let Some(ticket) = ticket {
                    ticket.is_of(cx.waker());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.send_queue
                .leave_line(self.send_queue.lock(), Some(ticket));
        }
    }
}

impl fmt::Debug for Sending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

/// Leaves the messages out: they may hold credentials.
impl fmt::Debug for SendQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, bytes) = self.waiting();
        f.debug_struct("SendQueue")
            .field("messages", &messages)
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId::new(1);

    const fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn send_queue(messages: usize, bytes: usize, hold: Option<(usize, usize)>) -> SendQueue {
        let limits = Limits {
            messages,
            bytes,
            message_size: 100,
            hold,
        };
        SendQueue::new(limits, Ids::from(1), Box::new(|| {}))
    }

    fn refusal(send_queue: &SendQueue, text: &str) -> Option<SendErrorKind> {
        send_queue.try_send(text.into()).err().map(|error| {
            assert_eq!(error.message, Message::from(text), "handed back");
            error.reason
        })
    }

    /// Returns the texts of messages, with a mark on a cut one.
    fn texts(unsent: Unsent) -> Vec<String> {
        let text = |returned: crate::message::Returned| {
            let mark = if returned.cut { "cut " } else { "" };
            format!("{mark}{}", returned.message.as_text().unwrap_or("?"))
        };
        unsent.into_iter().map(text).collect()
    }

    fn taken(send_queue: &SendQueue) -> Vec<String> {
        let text = |waiting: Waiting| waiting.message.as_text().unwrap_or("?").to_owned();
        send_queue
            .take_bytes(usize::MAX)
            .into_iter()
            .map(text)
            .collect()
    }

    fn close(send_queue: &SendQueue) -> Vec<String> {
        texts(send_queue.close(false, VecDeque::new(), at(0)))
    }

    #[test]
    fn a_message_is_accepted_only_while_a_connection_is_open() {
        let send_queue = send_queue(8, 100, None);
        assert_eq!(refusal(&send_queue, "a"), Some(SendErrorKind::NotConnected));
        send_queue.open(CONN, true);
        assert_eq!(refusal(&send_queue, "b"), None);
        assert_eq!(close(&send_queue), ["b"]);
        assert_eq!(refusal(&send_queue, "c"), Some(SendErrorKind::NotConnected));
        send_queue.end();
        send_queue.open(CONN, true);
        assert_eq!(refusal(&send_queue, "d"), Some(SendErrorKind::Ended));
    }

    #[test]
    fn messages_and_bytes_are_bounded() {
        let send_queue = send_queue(2, 10, None);
        send_queue.open(CONN, true);
        assert_eq!(
            refusal(&send_queue, &"x".repeat(101)),
            Some(SendErrorKind::TooLarge { len: 101, max: 100 })
        );
        let large = refusal(&send_queue, &"x".repeat(50));
        assert_eq!(large, None, "a large one goes alone");
        assert_eq!(refusal(&send_queue, "x"), Some(SendErrorKind::Full));
        assert_eq!(send_queue.take_bytes(1).len(), 1);
        assert_eq!(refusal(&send_queue, "x"), None);
        assert_eq!(refusal(&send_queue, "x"), None);
        assert_eq!(
            refusal(&send_queue, "x"),
            Some(SendErrorKind::Full),
            "two are enough"
        );
    }

    #[test]
    fn a_waiting_sender_is_told_when_there_is_room_and_when_there_will_be_none() {
        let send_queue = send_queue(1, 10, None);
        send_queue.open(CONN, true);
        send_queue.try_send("first".into()).unwrap();
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| send_queue.send_timeout("second".into(), Duration::from_secs(60)));
            assert_eq!(send_queue.take_bytes(1).len(), 1);
            assert_eq!(waiting.join().unwrap(), Ok(()));
            let waiting =
                scope.spawn(|| send_queue.send_timeout("third".into(), Duration::from_secs(60)));
            send_queue.stop();
            assert_eq!(
                waiting.join().unwrap().unwrap_err().reason,
                SendErrorKind::Ended
            );
        });
        let none = send_queue.send_timeout("fourth".into(), Duration::ZERO);
        assert_eq!(none.unwrap_err().reason, SendErrorKind::Ended);
    }

    #[test]
    fn a_waiting_sender_is_told_of_room_that_an_expiry_makes() {
        let send_queue = send_queue(1, 10, Some((1, 10)));
        send_queue.try_send("too old".into()).unwrap();
        send_queue.commands(at(0));
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| send_queue.send_timeout("second".into(), Duration::from_secs(60)));
            let begun = crate::clock::instant();
            while send_queue.lock().line.is_empty() {
                std::thread::yield_now();
            }
            assert_eq!(texts(send_queue.expire(|_| true).0), ["too old"]);
            assert_eq!(waiting.join().unwrap(), Ok(()));
            assert!(begun.elapsed() < Duration::from_secs(30));
        });
    }

    /// Polls a sending task once.
    fn poll(sending: &mut Sending<'_>) -> Option<Result<(), SendErrorKind>> {
        match Pin::new(sending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(sent) => Some(sent.map_err(|error| error.reason)),
            Poll::Pending => None,
        }
    }

    #[test]
    fn those_who_wait_have_their_turn_in_order_and_nobody_overtakes_them() {
        let send_queue = send_queue(2, 100, None);
        send_queue.open(CONN, true);
        send_queue.try_send("a".into()).unwrap();
        send_queue.try_send("b".into()).unwrap();
        let mut waiting = ["c", "d", "e"].map(|text| send_queue.send(text.into()));
        for sending in &mut waiting {
            assert_eq!(poll(sending), None);
        }
        assert_eq!(send_queue.take_bytes(2).len(), 2);
        assert_eq!(
            refusal(&send_queue, "x"),
            Some(SendErrorKind::Full),
            "theirs"
        );
        let [c, d, e] = &mut waiting;
        assert_eq!(
            (poll(e), poll(d), poll(c)),
            (None, Some(Ok(())), Some(Ok(())))
        );
        assert_eq!(taken(&send_queue), ["d", "c"], "both were called");
        assert_eq!(poll(e), Some(Ok(())));
        assert_eq!(refusal(&send_queue, "x"), None);
        assert_eq!(taken(&send_queue), ["e", "x"]);
    }

    #[test]
    fn who_goes_while_it_waits_gives_its_place_back() {
        let send_queue = send_queue(1, 100, None);
        send_queue.open(CONN, true);
        send_queue.try_send("a".into()).unwrap();
        let [mut b, mut c, mut d] = ["b", "c", "d"].map(|text| send_queue.send(text.into()));
        for sending in [&mut b, &mut c, &mut d] {
            assert_eq!(poll(sending), None);
        }
        drop(c);
        assert_eq!(taken(&send_queue), ["a"]);
        // Called, but dropped before it came. The next one is called instead.
        drop(b);
        assert_eq!(poll(&mut d), Some(Ok(())));
        assert_eq!(taken(&send_queue), ["d"]);
        assert_eq!(
            refusal(&send_queue, "x"),
            None,
            "nothing is kept for anybody"
        );
    }

    #[test]
    fn the_bytes_of_who_goes_while_it_waits_are_room_for_others() {
        let send_queue = send_queue(10, 4, None);
        send_queue.open(CONN, true);
        send_queue.try_send("full".into()).unwrap();
        let mut waiting = send_queue.send("gone".into());
        assert_eq!(poll(&mut waiting), None);
        drop(waiting);
        assert_eq!(taken(&send_queue), ["full"]);
        assert_eq!(refusal(&send_queue, "ab"), None);
        assert_eq!(
            refusal(&send_queue, "cd"),
            None,
            "nothing is kept for anybody"
        );
    }

    #[test]
    fn all_who_wait_are_told_of_the_end_of_the_connection_and_of_the_client() {
        let send_queue = send_queue(1, 100, None);
        send_queue.open(CONN, true);
        for (end, reason) in [
            (false, SendErrorKind::NotConnected),
            (true, SendErrorKind::Ended),
        ] {
            send_queue.open(CONN, true);
            send_queue.try_send("a".into()).unwrap();
            let mut waiting: Vec<_> = (0..30).map(|_| send_queue.send("b".into())).collect();
            assert!(waiting.iter_mut().all(|sending| poll(sending).is_none()));
            if end {
                send_queue.end();
            } else {
                close(&send_queue);
            }
            for sending in &mut waiting {
                assert_eq!(poll(sending), Some(Err(reason)));
            }
            assert_eq!(send_queue.lock().reserved, (0, 0));
        }
    }

    #[test]
    fn until_the_session_is_ready_only_its_own_messages_go() {
        for hold in [None, Some((2, 100))] {
            let send_queue = send_queue(8, 100, hold);
            send_queue.open(CONN, false);
            let expected = hold.map_or(Some(SendErrorKind::NotReady), |_| None);
            assert_eq!(refusal(&send_queue, "order"), expected);
            assert!(taken(&send_queue).is_empty());
            send_queue.send_opening(CONN, "login".into()).unwrap();
            assert_eq!(taken(&send_queue), ["login"]);
            let other = send_queue.send_opening(ConnId::new(2), "login".into());
            assert_eq!(other.unwrap_err().reason, SendErrorKind::NotConnected);
            send_queue.open(CONN, true);
            send_queue.send_opening(CONN, "more".into()).unwrap();
            assert_eq!(refusal(&send_queue, "last"), None);
            let rest: &[&str] = match hold {
                None => &["more", "last"],
                Some(_) => &["more", "order", "last"],
            };
            assert_eq!(taken(&send_queue), rest, "its own go ahead");
        }
    }

    #[test]
    fn a_word_on_an_older_connection_does_not_take_the_place_of_one_that_counts() {
        let (old, new) = (CONN, ConnId::new(2));
        let (ready, failed) = (Ok(()), Err(Failure::Retry));
        for (said, counts) in [
            ([(new, ready), (old, failed)], (new, ready)),
            ([(old, failed), (new, ready)], (new, ready)),
            ([(new, ready), (new, failed)], (new, failed)),
            ([(new, failed), (new, ready)], (new, failed)),
        ] {
            let send_queue = send_queue(8, 100, None);
            for (conn, outcome) in said {
                send_queue.session(conn, outcome);
            }
            let (conn, outcome) = send_queue.commands(at(0)).session.expect("said");
            let outcome = outcome.map_err(|failed| failed.failure);
            assert_eq!((conn, outcome), counts, "{said:?}");
        }
    }

    #[test]
    fn what_is_held_goes_out_in_order_on_the_next_connection_and_no_more_than_that_is_held() {
        let send_queue = send_queue(8, 100, Some((3, 10)));
        assert_eq!(refusal(&send_queue, "one"), None);
        assert_eq!(refusal(&send_queue, "two"), None);
        assert_eq!(
            refusal(&send_queue, "three"),
            Some(SendErrorKind::Full),
            "11 bytes"
        );
        assert_eq!(refusal(&send_queue, "3"), None);
        assert_eq!(
            refusal(&send_queue, ""),
            Some(SendErrorKind::Full),
            "a fourth"
        );
        send_queue.open(CONN, true);
        assert_eq!(
            refusal(&send_queue, "four"),
            None,
            "the queue has room for more"
        );
        let in_flight = send_queue.take_bytes(6);
        assert_eq!(in_flight.len(), 2);
        send_queue.send_opening(CONN, "login".into()).unwrap();
        // "one" was cut, "two" was surely not sent. Four bytes are too many to be held.
        let unsent = texts(send_queue.close(true, in_flight, at(0)));
        assert_eq!(unsent, ["cut one", "login"]);
        assert_eq!(refusal(&send_queue, "5"), Some(SendErrorKind::Full));
        send_queue.open(CONN, true);
        assert_eq!(taken(&send_queue), ["two", "3", "four"]);
        for text in ["12345", "67890", "a"] {
            assert_eq!(refusal(&send_queue, text), None);
        }
        assert_eq!(close(&send_queue), ["a"], "no room to hold it");
        send_queue.open(CONN, true);
        assert_eq!(taken(&send_queue), ["12345", "67890"]);
        for text in ["12345", "678901", "a"] {
            assert_eq!(refusal(&send_queue, text), None);
        }
        assert_eq!(
            close(&send_queue),
            ["678901", "a"],
            "\"a\" does not overtake what finds no room"
        );
        send_queue.end();
        assert_eq!(close(&send_queue), ["12345"], "nothing is held any more");
    }

    #[test]
    fn what_is_held_too_long_comes_back_and_what_was_given_to_a_connection_does_not_start_anew() {
        let send_queue = send_queue(8, 100, Some((8, 100)));
        let expire = |now| {
            let (expired, oldest) = send_queue.expire(|held| held <= now);
            (texts(expired), oldest)
        };
        assert_eq!(refusal(&send_queue, "a"), None);
        assert_eq!(expire(at(100)), (vec![], None), "not noted yet");
        send_queue.commands(at(1));
        assert_eq!(refusal(&send_queue, "b"), None);
        send_queue.commands(at(2));
        assert_eq!(expire(at(0)), (vec![], Some(at(1))));
        send_queue.open(CONN, true);
        let in_flight = send_queue.take_bytes(1);
        assert_eq!(refusal(&send_queue, "c"), None);
        assert_eq!(send_queue.close(false, in_flight, at(3)).len(), 0);
        assert_eq!(expire(at(1)), (vec!["a".into()], Some(at(2))));
        assert_eq!(expire(at(3)), (vec!["b".into(), "c".into()], None));
    }

    #[test]
    fn what_debug_shows_holds_no_message() {
        let send_queue = send_queue(8, 100, Some((8, 100)));
        send_queue.try_send("secret".into()).unwrap();
        let refused = send_queue.send_opening(CONN, "secret".into()).unwrap_err();
        let unsent = send_queue.expire(|_| true).0;
        let shown = format!("{send_queue:?} {refused:?} {refused} {unsent:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
