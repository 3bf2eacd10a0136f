//! The way in: messages and commands from the application's threads or tasks to the engine.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heartbeat_core::{Values, Variables};

use crate::message::Message;

/// How much an application may hand over before it must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) message_size: usize,
}

/// Called when something changed for the other side. Must not block.
pub type Notify = Box<dyn Fn() + Send + Sync>;

/// Messages that were accepted and not yet given to a connection, and commands.
///
/// One lock decides both whether a connection is open and what is queued for it, so that every
/// message is either written or handed back, whatever the timing of a disconnect.
pub struct Outbox {
    state: Mutex<State>,
    /// Something waits for the engine. Spares it the lock when nothing does.
    pending: AtomicBool,
    /// For threads that wait for room.
    room: Condvar,
    limits: Limits,
    wake_engine: Notify,
    on_room: Notify,
    /// What the application has set for the dialect's templates.
    variables: Mutex<Variables>,
}

#[derive(Debug)]
struct State {
    link: LinkState,
    queue: VecDeque<Message>,
    bytes: usize,
    kick: bool,
    stop: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    Down,
    Open,
    Ended,
}

/// A message that was not accepted, handed back with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message was not accepted: {reason}")]
pub struct SendError {
    /// Why.
    pub reason: Refusal,
    /// The message.
    pub message: Message,
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no open connection.
    #[error("there is no open connection")]
    NotConnected,
    /// As many messages or bytes wait as may wait.
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
    /// The client has ended.
    #[error("the client has ended")]
    Ended,
}

impl Outbox {
    pub(crate) fn new(limits: Limits, wake_engine: Notify, on_room: Notify) -> Self {
        let state = State {
            link: LinkState::Down,
            queue: VecDeque::new(),
            bytes: 0,
            kick: false,
            stop: false,
        };
        Self {
            state: Mutex::new(state),
            pending: AtomicBool::new(false),
            room: Condvar::new(),
            limits,
            wake_engine,
            on_room,
            variables: Mutex::default(),
        }
    }

    /// Sets a variable of the dialect's templates (Janus' `session`, say), written as it is to be
    /// sent: a JSON string has its quotes. Until every variable that a template needs is set, what
    /// it would make is not sent.
    pub fn set_variable(&self, name: impl Into<String>, value: impl Into<String>) {
        let mut variables = self
            .variables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        variables.insert(name.into(), value.into());
    }

    /// Hands a message over, or back.
    ///
    /// # Errors
    /// [`SendError`] holds the message and the reason.
    pub fn try_send(&self, message: Message) -> Result<(), SendError> {
        self.lock().accept(message, &self.limits)?;
        self.notify_engine();
        Ok(())
    }

    /// The same, but waits for room, at most for `timeout`.
    ///
    /// # Errors
    /// [`SendError`] holds the message and the reason; [`Refusal::Full`] after `timeout`.
    pub fn send_timeout(&self, message: Message, timeout: Duration) -> Result<(), SendError> {
        let mut rejected = None;
        let mut message = Some(message);
        let state = self.lock();
        let offer = |state: &mut State| match message
            .take()
            .map(|message| state.accept(message, &self.limits))
        {
            Some(Err(SendError {
                reason: Refusal::Full,
                message: back,
            })) => {
                message = Some(back);
                true
            }
            Some(Err(error)) => {
                rejected = Some(error);
                false
            }
            Some(Ok(())) | None => false,
        };
        let waited = self.room.wait_timeout_while(state, timeout, offer);
        drop(waited);
        match (rejected, message) {
            (Some(error), _) => Err(error),
            (None, Some(message)) => Err(SendError {
                reason: Refusal::Full,
                message,
            }),
            (None, None) => {
                self.notify_engine();
                Ok(())
            }
        }
    }

    /// The network is back: dial now, or probe now if open.
    pub fn kick(&self) {
        self.lock().kick = true;
        self.notify_engine();
    }

    /// No connection is wanted any more. What was accepted is still written.
    pub fn stop(&self) {
        {
            let mut state = self.lock();
            state.stop = true;
            state.link = LinkState::Ended;
        }
        self.notify_engine();
        self.tell_room();
    }

    fn notify_engine(&self) {
        self.pending.store(true, Ordering::Release);
        (self.wake_engine)();
    }

    fn tell_room(&self) {
        self.room.notify_all();
        (self.on_room)();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of the user's runs under the lock, so that a poisoned one is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the engine's side --------------------------------------------------------------------

    /// Calls `write` with what a template is filled in with now.
    pub(crate) fn with_values<T>(
        &self,
        tracked: &Variables,
        write: impl FnOnce(&Values<'_>) -> T,
    ) -> T {
        let variables = self
            .variables
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let unix_ms = crate::clock::unix_ms();
        if variables.is_empty() {
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
        write(&Values {
            unix_ms,
            variables: &all,
        })
    }

    /// True if something waits for the engine. An adapter asks once more after it has registered
    /// its waker.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Makes the engine look again.
    pub(crate) fn poke(&self) {
        self.pending.store(true, Ordering::Release);
    }

    /// The commands given since the last call: kick, stop.
    pub(crate) fn commands(&self) -> (bool, bool) {
        self.pending.store(false, Ordering::Release);
        let mut state = self.lock();
        (
            std::mem::take(&mut state.kick),
            std::mem::take(&mut state.stop),
        )
    }

    /// The next message to write.
    pub(crate) fn pop(&self) -> Option<Message> {
        let message = {
            let mut state = self.lock();
            let message = state.queue.pop_front()?;
            state.bytes -= message.len();
            message
        };
        self.tell_room();
        Some(message)
    }

    /// A connection is open: messages are accepted.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        if state.link == LinkState::Down {
            state.link = LinkState::Open;
        }
    }

    /// The connection is gone: messages are refused from now on; what waited comes back.
    pub(crate) fn close(&self) -> VecDeque<Message> {
        let unsent = {
            let mut state = self.lock();
            if state.link == LinkState::Open {
                state.link = LinkState::Down;
            }
            state.bytes = 0;
            std::mem::take(&mut state.queue)
        };
        self.tell_room();
        unsent
    }

    /// There will be no further connection.
    pub(crate) fn end(&self) {
        self.lock().link = LinkState::Ended;
        self.tell_room();
    }
}

impl State {
    fn accept(&mut self, message: Message, limits: &Limits) -> Result<(), SendError> {
        let len = message.len();
        let reason = match self.link {
            LinkState::Ended => Refusal::Ended,
            LinkState::Down => Refusal::NotConnected,
            LinkState::Open if len > limits.message_size => Refusal::TooLarge {
                len,
                max: limits.message_size,
            },
            // A message larger than the whole limit may still go alone.
            LinkState::Open
                if !self.queue.is_empty()
                    && (self.queue.len() >= limits.messages
                        || self.bytes.saturating_add(len) > limits.bytes) =>
            {
                Refusal::Full
            }
            LinkState::Open => {
                self.bytes += len;
                self.queue.push_back(message);
                return Ok(());
            }
        };
        Err(SendError { reason, message })
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("state", &*self.lock())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(messages: usize, bytes: usize) -> Outbox {
        let limits = Limits {
            messages,
            bytes,
            message_size: 100,
        };
        Outbox::new(limits, Box::new(|| {}), Box::new(|| {}))
    }

    fn refusal(outbox: &Outbox, text: &str) -> Option<Refusal> {
        outbox.try_send(text.into()).err().map(|error| {
            assert_eq!(error.message, Message::from(text), "handed back");
            error.reason
        })
    }

    #[test]
    fn a_message_is_accepted_only_while_a_connection_is_open() {
        let outbox = outbox(8, 100);
        assert_eq!(refusal(&outbox, "a"), Some(Refusal::NotConnected));
        outbox.open();
        assert_eq!(refusal(&outbox, "b"), None);
        assert_eq!(outbox.close(), ["b".into()]);
        assert_eq!(refusal(&outbox, "c"), Some(Refusal::NotConnected));
        outbox.end();
        outbox.open();
        assert_eq!(refusal(&outbox, "d"), Some(Refusal::Ended));
    }

    #[test]
    fn messages_and_bytes_are_bounded() {
        let outbox = outbox(2, 10);
        outbox.open();
        assert_eq!(
            refusal(&outbox, &"x".repeat(101)),
            Some(Refusal::TooLarge { len: 101, max: 100 })
        );
        assert_eq!(
            refusal(&outbox, &"x".repeat(50)),
            None,
            "a large one goes alone"
        );
        assert_eq!(refusal(&outbox, "x"), Some(Refusal::Full));
        assert_eq!(outbox.pop().map(|message| message.len()), Some(50));
        assert_eq!(refusal(&outbox, "x"), None);
        assert_eq!(refusal(&outbox, "x"), None);
        assert_eq!(refusal(&outbox, "x"), Some(Refusal::Full), "two are enough");
    }

    #[test]
    fn a_waiting_sender_is_told_when_there_is_room_and_when_there_will_be_none() {
        let outbox = outbox(1, 10);
        outbox.open();
        outbox.try_send("first".into()).unwrap();
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| outbox.send_timeout("second".into(), Duration::from_secs(60)));
            assert_eq!(outbox.pop(), Some("first".into()));
            assert_eq!(waiting.join().unwrap(), Ok(()));
            let waiting =
                scope.spawn(|| outbox.send_timeout("third".into(), Duration::from_secs(60)));
            outbox.stop();
            assert_eq!(waiting.join().unwrap().unwrap_err().reason, Refusal::Ended);
        });
        let none = outbox.send_timeout("fourth".into(), Duration::ZERO);
        assert_eq!(none.unwrap_err().reason, Refusal::Ended);
    }
}
