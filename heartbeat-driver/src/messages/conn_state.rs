//! The state of the connection: a dial, or an open socket with its waiting messages.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use heartbeat_core::{Cause, ConnId};

use super::codec::{Codec, Socket, Traffic};
use crate::message::records::{ANSWERS, frame_len};

/// The most application messages given to the library between two flushes. If the connection ends before the
/// second flush, only their number is known.
const BATCH: usize = 64;

/// The most flushes in a row before reading gets a turn.
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

    /// Returns the number of application messages that were written after the last read.
    pub(super) fn in_doubt(&self) -> usize
    where
        S: Socket<C>,
    {
        match self {
            Self::Down | Self::Dialing(_) => 0,
            Self::Open(open) => open.in_doubt(),
        }
    }

    /// Returns the number of application messages that were given to the library and may not be written.
    pub(super) fn uncertain(&self) -> usize {
        match self {
            Self::Down | Self::Dialing(_) => 0,
            Self::Open(open) => open.given,
        }
    }
}

/// The result of a read.
pub(super) enum Read<M> {
    Message(ConnId, M),
    Again,
}

/// The result of a write.
#[derive(Default)]
pub(super) struct Written {
    /// Bytes of the application, or bytes after a stall, were written.
    pub(super) moved: bool,
    /// Bytes are waiting, since this write.
    pub(super) blocked: bool,
    /// There is more to write after the next read.
    pub(super) more: bool,
    /// A ping now waits behind other bytes, and did not before.
    pub(super) ping_waits: bool,
    /// All waiting pings are written.
    pub(super) ping_left: bool,
}

pub(super) struct Open<S, C: Codec> {
    pub(super) conn: ConnId,
    pub(super) socket: S,
    /// The machine's own messages. There are few, because reading stops while their bytes are many.
    own: VecDeque<C::Message>,
    /// Bytes of answers since the last completed flush.
    backlog: u64,
    /// The Close frame, which goes out last.
    closing: Option<C::Message>,
    /// A ping was given since the last look, and a ping waits of which the machine knows.
    pinged: bool,
    ping_waits: bool,
    /// Application messages since the last completed flush.
    given: usize,
    /// Messages read so far.
    messages_read: u64,
    /// Application messages flushed since the last read, and the amount read at that time.
    doubtful: (usize, (u64, u64)),
    unflushed: bool,
    blocked: bool,
    /// Data arrived that was not reported to the machine.
    pub(super) unreported: bool,
    /// Traffic that was reported to the machine.
    known: Traffic,
    /// A write error, reported once reading has run dry.
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

    /// Notes that the last given message is a ping.
    pub(super) fn pinged(&mut self) {
        self.pinged = true;
    }

    /// Returns true if the last flush left bytes behind.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Notes that the library has queued an answer of this many bytes.
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

    /// Answers the peer's last messages before the end, if that needs no waiting.
    pub(super) fn last_words(&mut self, cx: &mut Context<'_>) {
        let _ = self.socket.poll_flush(cx);
    }

    /// Writes waiting messages, as far as the socket takes them.
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
                // The pings given so far have left, whatever is given next.
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

    /// Returns the messages and bytes read.
    fn heard(&self) -> (u64, u64) {
        let traffic = self.socket.traffic().unwrap_or_default();
        (self.messages_read, traffic.read)
    }

    /// Returns the number of application messages that were written after the last read.
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

    /// Returns true while reading is stopped, because too many answers wait to be written.
    pub(super) fn is_held(&self) -> bool {
        self.backlog > ANSWERS && self.blocked && self.failed.is_none()
    }

    /// Returns the next message, or the end. Also pending while reading is stopped.
    #[expect(clippy::type_complexity, reason = "the result, with its error")]
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

    /// Returns true once for bytes that were not reported to the machine.
    pub(super) fn take_progress(&mut self) -> bool {
        self.socket.traffic().is_some_and(|Traffic { read, .. }| {
            std::mem::replace(&mut self.known.read, read) != read
        })
    }
}
