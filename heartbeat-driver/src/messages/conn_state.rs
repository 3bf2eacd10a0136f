//! The connection under the driver: a dial, or an open socket with what waits to be written.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use heartbeat_core::{Cause, ConnId};

use super::codec::{Codec, Socket, Traffic};
use crate::message::records::{ANSWERS, frame_len};

/// Application messages given to the library between two flushes: only their number is known if the
/// connection ends before the second.
const BATCH: usize = 64;

/// Flushes in a row before reading gets its turn.
const FLUSH_ROUNDS: u32 = 16;

pub(super) enum ConnState<S, C: Codec> {
    Down,
    Dialing(ConnId),
    Open(Box<Open<S, C>>),
}

impl<S, C: Codec> ConnState<S, C> {
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Down => None,
            Self::Dialing(conn) => Some(*conn),
            Self::Open(open) => Some(open.conn),
        }
    }

    /// Messages of the application's that were written, and after which nothing was heard.
    pub(super) fn in_doubt(&self) -> usize
    where
        S: Socket<C>,
    {
        match self {
            Self::Down | Self::Dialing(_) => 0,
            Self::Open(open) => open.in_doubt(),
        }
    }

    /// Messages of the application's that were given away and are not known to be written.
    pub(super) fn uncertain(&self) -> usize {
        match self {
            Self::Down | Self::Dialing(_) => 0,
            Self::Open(open) => open.given,
        }
    }
}

/// What a look at the socket came to.
pub(super) enum Read<M> {
    Message(ConnId, M),
    Again,
}

/// What an attempt to write came to.
#[derive(Default)]
pub(super) struct Written {
    /// The application's bytes, or bytes after a stall, went out.
    pub(super) moved: bool,
    /// Bytes wait since now.
    pub(super) blocked: bool,
    /// There is more, for after the next read.
    pub(super) more: bool,
    /// A ping stands behind bytes that wait, and did not before.
    pub(super) ping_waits: bool,
    /// The pings that had to wait are written.
    pub(super) ping_left: bool,
}

pub(super) struct Open<S, C: Codec> {
    pub(super) conn: ConnId,
    pub(super) socket: S,
    /// The machine's own messages. Few, for reading is held while their bytes are many.
    own: VecDeque<C::Message>,
    /// Bytes of answers since the last flush that went through.
    backlog: u64,
    /// Goes out after everything else.
    closing: Option<C::Message>,
    /// A ping was given since the last look, and whether one waits of which the machine knows.
    pinged: bool,
    ping_waits: bool,
    /// Application messages since the last flush that went through.
    given: usize,
    /// Messages read so far.
    messages_read: u64,
    /// Application messages that were flushed since the last read, and how much was read then.
    doubtful: (usize, (u64, u64)),
    unflushed: bool,
    blocked: bool,
    /// Data arrived of which the machine does not know.
    pub(super) unreported: bool,
    /// Traffic of which it knows.
    known: Traffic,
    /// Writing has failed; told when reading has run dry.
    failed: Option<(Cause, Box<str>)>,
}

impl<C: Codec, S: Socket<C>> Open<S, C> {
    pub(super) fn new(conn: ConnId, socket: S) -> Self {
        Self {
            conn,
            socket,
            own: VecDeque::new(),
            backlog: 0,
            closing: None,
            pinged: false,
            ping_waits: false,
            given: 0,
            messages_read: 0,
            doubtful: (0, (0, 0)),
            unflushed: false,
            blocked: false,
            unreported: false,
            known: Traffic::default(),
            failed: None,
        }
    }

    pub(super) fn give_own(&mut self, message: C::Message, bytes: usize) {
        self.own.push_back(message);
        self.backlog += frame_len(bytes);
    }

    /// What was given last is a ping.
    pub(super) fn pinged(&mut self) {
        self.pinged = true;
    }

    /// The last flush left bytes behind.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The library has queued an answer of so many bytes.
    pub(super) fn answered(&mut self, bytes: usize) {
        self.backlog += frame_len(bytes);
        self.unflushed = true;
    }

    pub(super) fn close(&mut self, message: C::Message) {
        self.closing = Some(message);
    }

    pub(super) fn fail(&mut self, cause: Cause, detail: Box<str>) {
        self.failed.get_or_insert((cause, detail));
    }

    /// What came before the end may want to be answered, if that can be done without waiting.
    pub(super) fn last_words(&mut self, cx: &mut Context<'_>) {
        let _ = self.socket.poll_flush(cx);
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut VecDeque<C::Message>,
    ) -> Result<Written, C::Error> {
        let mut written = Written::default();
        if self.failed.is_some() {
            return Ok(written);
        }
        for _ in 0..FLUSH_ROUNDS {
            self.give(cx, queue)?;
            if !self.unflushed {
                break;
            }
            if self.socket.poll_flush(cx)?.is_pending() {
                let moved = self.moved();
                written.moved |= moved && self.blocked;
                written.blocked = moved || !self.blocked;
                self.blocked = true;
                break;
            }
            written.moved |= self.blocked || self.given > 0;
            self.unflushed = false;
            self.blocked = false;
            self.backlog = 0;
            if self.given > 0 {
                self.doubtful = (self.in_doubt() + self.given, self.heard());
            }
            self.given = 0;
            if self.own.is_empty() {
                // The pings among what was given have left, whatever is given next.
                self.pinged = false;
                written.ping_left |= std::mem::take(&mut self.ping_waits);
            }
        }
        let waits = self.unflushed || !self.own.is_empty();
        written.ping_waits = std::mem::take(&mut self.pinged) && waits;
        self.ping_waits |= written.ping_waits;
        written.ping_left |= !waits && std::mem::take(&mut self.ping_waits);
        written.more = !self.blocked && (self.unflushed || !queue.is_empty());
        Ok(written)
    }

    fn give(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut VecDeque<C::Message>,
    ) -> Result<(), C::Error> {
        loop {
            let is_own = !self.own.is_empty();
            let waits = is_own || (!queue.is_empty() && !self.blocked && self.given < BATCH);
            let closes = queue.is_empty() && self.closing.is_some();
            if !(waits || closes) || self.socket.poll_ready(cx)?.is_pending() {
                return Ok(());
            }
            let message = if is_own {
                self.own.pop_front()
            } else {
                let own = queue.pop_front();
                self.given += usize::from(own.is_some());
                own.or_else(|| self.closing.take())
            };
            if let Some(message) = message {
                self.unflushed = true;
                self.socket.give(message)?;
            }
        }
    }

    /// Messages and bytes that were read.
    fn heard(&self) -> (u64, u64) {
        let traffic = self.socket.traffic().unwrap_or_default();
        (self.messages_read, traffic.read)
    }

    /// Messages of the application's that were written, and after which nothing was heard.
    fn in_doubt(&self) -> usize {
        let (messages, heard) = self.doubtful;
        if heard == self.heard() { messages } else { 0 }
    }

    fn moved(&mut self) -> bool {
        self.socket
            .traffic()
            .is_some_and(|Traffic { written, .. }| {
                std::mem::replace(&mut self.known.written, written) != written
            })
    }

    /// Nothing is read: too many answers wait to be written.
    pub(super) fn is_held(&self) -> bool {
        self.backlog > ANSWERS && self.blocked && self.failed.is_none()
    }

    /// The next message, or how it ended. Pending, too, while reading is held.
    #[expect(
        clippy::type_complexity,
        reason = "what it came to, and why if to nothing"
    )]
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<C::Message, (Cause, Option<Box<str>>)>> {
        if self.is_held() {
            return Poll::Pending;
        }
        let end = match self.socket.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => {
                self.messages_read += 1;
                return Poll::Ready(Ok(message));
            }
            Poll::Ready(Some(Err(error))) => (C::cause(&error), Some(error.to_string().into())),
            Poll::Ready(None) => (Cause::Eof, None),
            Poll::Pending => match self.failed.take() {
                Some((cause, detail)) => (cause, Some(detail)),
                None => return Poll::Pending,
            },
        };
        Poll::Ready(Err(end))
    }

    /// True once for bytes of which the machine has not been told.
    pub(super) fn take_progress(&mut self) -> bool {
        self.socket.traffic().is_some_and(|Traffic { read, .. }| {
            std::mem::replace(&mut self.known.read, read) != read
        })
    }
}
