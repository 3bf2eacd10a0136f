//! `Connection`: one open WebSocket connection of the engine. It also records which traffic the machine knows of, and
//! which messages the application gets back.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::{ControlFlow, Range};

use heartbeat_core::{Cause, ConnId, Instant, Outgoing, PingMessage, Reply};

use super::framed::{self, Framed, Opened, Pushed};
use super::frames::{Carries, Incoming, MAX_HEADER, Place, Violation};
use crate::message::records::ANSWERS;
use crate::message::{Close, CloseFrame, DECODER, Decode, Goodbye, Message};
use crate::panics::{Panicked, named};
use crate::queue::{Pace, SendQueue, Waiting};
use crate::stats::Traffic;
use crate::stream::io_cause;

/// Bytes of the application that are written before reading gets a turn, so that an application that sends
/// without pause cannot block reading. A message counts as its length plus [`OVERHEAD`].
const FLUSH: u64 = 128 * 1024;

/// The cost of a message besides its bytes, in bytes.
const OVERHEAD: u64 = 128;

/// The result of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Bytes of the application, or bytes after a stall, went to the operating system.
    pub(crate) moved: bool,
    /// Bytes are waiting, since this flush or an earlier one.
    pub(crate) blocked: bool,
    /// There may be more to write, after reading has had a turn.
    pub(crate) more: bool,
    /// Bytes of the application that were processed.
    pub(crate) work: u64,
}

/// The result of a read.
pub(crate) enum Heard {
    Frame(Incoming),
    /// There is more to read, but other tasks get a turn first.
    Busy,
    /// There is nothing more to read.
    Dry,
    Ended(Cause, Option<Box<str>>),
}

/// A message to send.
struct Sent {
    waiting: Waiting,
    /// The message belongs to this connection, and is not handed back.
    is_own: bool,
}

impl Carries for Sent {
    fn message(&self) -> &Message {
        &self.waiting.message
    }
}

pub(crate) struct Connection<S: Read + Write> {
    pub(crate) conn: ConnId,
    ws: Framed<S, Sent>,
    /// Messages delivered since the last report to the machine.
    pub(crate) unreported: u32,
    /// The last read found nothing, and the engine has not acted on that yet.
    pub(crate) ran_dry: bool,
    /// Bytes read that were reported to the machine.
    reported: u64,
    /// Something was queued and not flushed yet.
    unflushed: bool,
    /// The last write ended although the stream would have taken more.
    can_go_on: bool,
    /// A flush did not complete, and the machine knows.
    blocked: bool,
    /// An application message was queued since writing was last reported to the machine.
    wrote: bool,
    /// The last ping is not written yet, and the machine knows.
    ping_waits: bool,
    /// `Wire::written` at the last look.
    written: u64,
    /// Application messages received, and wholly written.
    messages: (u64, u64),
    /// Messages written since the last read, and `Wire::read` at that time.
    doubtful: (u64, u64),
    decoder: Option<Box<dyn Decode>>,
    /// The largest decoded message, in bytes.
    limit: usize,
}

impl<S: Read + Write> Connection<S> {
    /// Creates a connection over a stream whose upgrade is done.
    pub(crate) fn new(conn: ConnId, opened: Opened<S>, decoder: Option<Box<dyn Decode>>) -> Self {
        let Opened {
            stream,
            rest,
            sizes,
        } = opened;
        let (written, read) = (stream.wire().written, stream.wire().read);
        Self {
            conn,
            ws: Framed::new(stream, &rest, sizes),
            unreported: 0,
            ran_dry: false,
            reported: read,
            unflushed: false,
            can_go_on: false,
            blocked: false,
            wrote: false,
            ping_waits: false,
            written,
            messages: (0, 0),
            doubtful: (0, read),
            decoder,
            limit: sizes.max_message,
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let wire = self.ws.stream().wire();
        Traffic {
            messages_received: self.messages.0 + u64::from(self.unreported),
            messages_sent: self.messages.1,
            bytes_received: wire.read,
            bytes_sent: wire.written,
        }
    }

    pub(crate) fn socket(&self) -> &S {
        self.ws.stream().wire().get_ref()
    }

    pub(crate) fn socket_mut(&mut self) -> &mut S {
        self.ws.stream_mut().wire_mut().get_mut()
    }

    /// Frees memory that only a busy connection needs.
    pub(crate) fn relax(&mut self) {
        self.ws.relax();
    }

    /// Takes the panic of the byte stream, if it has panicked.
    pub(crate) fn panicked(&mut self) -> Option<Panicked> {
        self.ws.stream_mut().wire_mut().panicked()
    }

    /// Returns true while reading waits for the pongs to be written.
    pub(crate) fn holds_reading(&self) -> bool {
        self.ws.writer.answers() > ANSWERS
    }

    /// Returns true if bytes wait, as reported to the machine.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.unflushed && self.ws.stream().wire().write_blocked
    }

    /// Returns true if there is more to write and the stream would take it. The last write ended to give other
    /// tasks a turn.
    pub(crate) fn can_go_on(&self) -> bool {
        self.can_go_on
    }

    #[inline(always)]
    pub(crate) fn read(&mut self) -> Heard {
        match self.ws.read() {
            framed::Heard::Frame(frame) if self.decoder.is_none() => Heard::Frame(frame),
            other => self.heard(other),
        }
    }

    /// Like [`read`](Self::read), but does not copy a message if there is no decoder.
    #[inline(always)]
    pub(crate) fn next_place(&mut self) -> Place<Heard> {
        if self.decoder.is_some() {
            return Place::Other(self.read());
        }
        match self.ws.next_place() {
            Place::Text(at) => Place::Text(at),
            Place::Binary(at) => Place::Binary(at),
            Place::Other(heard) => Place::Other(self.heard(heard)),
        }
    }

    /// Returns the bytes at a place, valid until the next call.
    #[inline(always)]
    pub(crate) fn bytes(&self, at: Range<usize>) -> &[u8] {
        self.ws.bytes(at)
    }

    /// Handles a text message that is not UTF-8.
    #[cold]
    pub(crate) fn not_utf8(&mut self) -> Heard {
        self.heard(framed::Heard::Broken(Violation::NotUtf8))
    }

    #[inline(never)]
    fn heard(&mut self, heard: framed::Heard) -> Heard {
        match heard {
            framed::Heard::Frame(frame) => self.decode(frame),
            framed::Heard::Busy => Heard::Busy,
            framed::Heard::Dry => match self.ws.stream_mut().wire_mut().write_error() {
                // Everything that the peer sent before its end has been read.
                Some(error) => failed(&error),
                None => Heard::Dry,
            },
            framed::Heard::Eof => Heard::Ended(Cause::Eof, None),
            framed::Heard::Failed(error) => failed(&error),
            framed::Heard::Broken(violation) => {
                // RFC 6455 §7.1.7: say why, if that needs no waiting.
                self.say_close(violation.code().into());
                let detail = violation.to_string();
                Heard::Ended(Cause::Protocol(violation.code()), Some(detail.into()))
            }
        }
    }

    /// Returns true if a write has failed and the error has not been reported.
    pub(crate) fn has_failed(&self) -> bool {
        self.ws.stream().wire().has_failed()
    }

    /// Takes the deferred write error, if it has not been reported yet. That happens if the peer's last data
    /// was not read, because the application takes no messages.
    pub(crate) fn write_error(&mut self) -> Option<Box<str>> {
        let error = self.ws.stream_mut().wire_mut().write_error()?;
        Some(error.to_string().into())
    }

    /// Decodes a message.
    fn decode(&mut self, frame: Incoming) -> Heard {
        let message = match frame {
            Incoming::Text(text) => Message::Text(text),
            Incoming::Binary(bytes) => Message::Binary(bytes),
            Incoming::Ping(_) | Incoming::Pong(_) | Incoming::Close(_) => {
                return Heard::Frame(frame);
            }
        };
        let decoded = match &mut self.decoder {
            Some(decoder) => named(DECODER, || decoder.decode(message, self.limit)),
            None => Ok(message),
        };
        match decoded {
            Ok(Message::Text(text)) => Heard::Frame(Incoming::Text(text)),
            Ok(Message::Binary(bytes)) => Heard::Frame(Incoming::Binary(bytes)),
            Err(error) => {
                self.say_close(error.code().into());
                Heard::Ended(
                    Cause::Protocol(error.code()),
                    Some(error.to_string().into()),
                )
            }
        }
    }

    /// Returns `None` if the machine knows of all bytes read. Otherwise notes them as reported, and returns
    /// true if there are application messages among them.
    pub(crate) fn take_unreported(&mut self) -> Option<bool> {
        let read = self.ws.stream().wire().read;
        let messages = std::mem::take(&mut self.unreported);
        self.messages.0 += u64::from(messages);
        let data = messages > 0;
        let progress = std::mem::replace(&mut self.reported, read) != read;
        (data || progress).then_some(data)
    }

    /// Notes that all bytes read so far are reported to the machine, except those of whole messages.
    pub(crate) fn mark_reported(&mut self) {
        self.reported = self.ws.stream().wire().read;
    }

    pub(crate) fn pong(&mut self, reply: Reply<'_>) {
        match reply {
            Reply::Frame(payload) => self.ws.writer.pong(payload),
            Reply::Binary(bytes) => self.ws.writer.pong_message(false, bytes),
            Reply::Text(text) => self.ws.writer.pong_message(true, text.as_bytes()),
            _ => return,
        }
        self.push();
    }

    pub(crate) fn ping(&mut self, ping: PingMessage) {
        let PingMessage::Frame(payload) = ping else {
            return;
        };
        self.ws.writer.ping(&payload);
        self.push();
    }

    /// Returns true if a ping of either kind, queued just now, waits behind other bytes.
    pub(crate) fn ping_waits(&mut self) -> bool {
        let written = self.ws.written();
        let waits = self.ws.writer.ping_has_left(written) == Some(false);
        // An earlier ping may have left just now, unknown to the machine.
        self.ping_waits |= waits;
        waits
    }

    /// Returns true once when the last waiting ping has gone to the operating system.
    pub(crate) fn ping_has_left(&mut self) -> bool {
        if !self.ping_waits {
            return false;
        }
        let written = self.ws.written();
        let left = self.ws.writer.ping_has_left(written) != Some(false);
        self.ping_waits = !left;
        left
    }

    /// Like `ping`, but sends a ping message of the dialect.
    pub(crate) fn ask(&mut self, message: Outgoing<'_>) {
        match message {
            Outgoing::Text(text) => self.ws.writer.ping_message(true, text.as_bytes()),
            Outgoing::Binary(bytes) => self.ws.writer.ping_message(false, bytes),
        }
        self.push();
    }

    /// Answers a Close frame. The answer is written at once or never.
    pub(crate) fn answer_close(&mut self, close: &Close) {
        self.say_close(close.goodbye());
    }

    /// Queues all accepted messages, then the Close frame.
    ///
    /// With a pace, only the messages whose turn has come are queued. The rest is not waited for.
    pub(crate) fn close(
        &mut self,
        frame: CloseFrame,
        send_queue: &SendQueue,
        pace: Option<&mut Pace>,
        now: Instant,
    ) {
        match pace {
            None => {
                self.take_from(send_queue, u64::MAX, u64::MAX);
            }
            Some(pace) => while self.take_at_pace(send_queue, pace, now) > 0 {},
        }
        self.ws.writer.close_after_all(frame);
        self.push();
    }

    /// Writes waiting bytes, as far as the operating system takes them.
    pub(crate) fn flush(
        &mut self,
        send_queue: &SendQueue,
        mut pace: Option<&mut Pace>,
        now: Instant,
    ) -> Flushed {
        let mut left = FLUSH;
        self.can_go_on = false;
        loop {
            while left > 0 && self.has_room() {
                let taken = match &mut pace {
                    None => self.take_from(send_queue, left, self.ws.writer.room()),
                    Some(pace) => self.take_at_pace(send_queue, pace, now),
                };
                if taken == 0 {
                    break;
                }
                left = left.saturating_sub(taken);
            }
            if !self.unflushed || !self.push() || left == 0 {
                break;
            }
        }
        let written = self.ws.stream().wire().written;
        let advanced = std::mem::replace(&mut self.written, written) != written;
        let moved = advanced && (self.blocked || self.wrote);
        if moved {
            self.wrote = self.unflushed;
        }
        // Nothing waits on a stream that would take more.
        let waits = self.unflushed && !self.can_go_on;
        let newly_blocked = waits && (!self.blocked || moved);
        self.blocked = waits;
        Flushed {
            moved,
            blocked: newly_blocked,
            more: left == 0 && !self.unflushed,
            work: FLUSH - left,
        }
    }

    /// Returns the messages that are not wholly written, in order, and whether a part of the first is.
    pub(crate) fn into_unsent(mut self) -> (bool, VecDeque<Waiting>) {
        self.settle();
        let written = self.ws.written();
        let (mut cut, unsent) = self.ws.into_writer().into_unsent(written);
        let mut unsent = unsent.peekable();
        cut &= unsent.peek().is_some_and(|first| !first.is_own);
        let unsent = unsent.filter(|sent| !sent.is_own);
        (cut, unsent.map(|sent| sent.waiting).collect())
    }

    /// Queues waiting messages until their work, including [`OVERHEAD`], reaches `work`, or they fill `room`.
    /// Returns the work: 0 if no message waits.
    fn take_from(&mut self, send_queue: &SendQueue, work: u64, room: u64) -> u64 {
        let writer = &mut self.ws.writer;
        let (mut taken, mut framed) = (0_u64, 0_u64);
        send_queue.take(|waiting| {
            let len = waiting.message.len() as u64;
            taken += len + OVERHEAD;
            framed += len + MAX_HEADER;
            writer.queue(Sent {
                waiting,
                is_own: false,
            });
            match taken < work && framed < room {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        self.wrote |= taken > 0;
        self.unflushed |= taken > 0;
        taken
    }

    /// Like [`take_from`](Self::take_from), but takes one message, if its turn has come. Takes nothing after
    /// our Close.
    fn take_at_pace(&mut self, send_queue: &SendQueue, pace: &mut Pace, now: Instant) -> u64 {
        if !self.ws.writer.takes_more() || !send_queue.is_ready_to_go() || !pace.takes_turn(now) {
            return 0;
        }
        self.take_from(send_queue, 1, 1)
    }

    /// Returns true if fewer bytes wait than the limit.
    pub(crate) fn has_room(&self) -> bool {
        self.ws.writer.room() > 0
    }

    /// Writes a message of the application, as far as the stream takes it now. Returns true if all of it is
    /// written. The next flush reports to the machine.
    pub(crate) fn send(&mut self, message: Message) -> bool {
        self.ws.writer.queue(Sent {
            waiting: Waiting::now(message),
            is_own: false,
        });
        self.wrote = true;
        self.push()
    }

    /// Queues a message that belongs to this connection and is not handed back.
    pub(crate) fn give_own(&mut self, message: Message) {
        self.ws.writer.queue(Sent {
            waiting: Waiting::now(message),
            is_own: true,
        });
        self.wrote = true;
        self.unflushed = true;
    }

    /// Sends Close to a healthy peer, if that needs no waiting.
    pub(crate) fn send_close(&mut self, frame: &CloseFrame) {
        self.say_close(frame.goodbye());
    }

    fn say_close(&mut self, goodbye: Goodbye<'_>) {
        self.ws.writer.close_now(goodbye);
        self.push();
    }

    /// Tries once to write everything out. Returns true if all bytes went out.
    fn push(&mut self) -> bool {
        let pushed = self.ws.push();
        self.unflushed = pushed != Pushed::All;
        self.can_go_on = pushed == Pushed::Busy;
        self.settle();
        !self.unflushed
    }

    /// Counts the messages that are wholly written.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if !self.ws.writer.has_settled() {
            let written = self.ws.written();
            let before = self.messages.1;
            while let Some(sent) = self.ws.writer.settle(written) {
                self.messages.1 += u64::from(!sent.is_own);
            }
            let wrote = self.messages.1 - before;
            if wrote > 0 {
                self.doubtful = (self.in_doubt() + wrote, self.ws.stream().wire().read);
            }
        }
    }

    /// Returns the number of messages that were written after the last byte was read.
    pub(crate) fn in_doubt(&self) -> u64 {
        let (messages, read) = self.doubtful;
        if read == self.ws.stream().wire().read {
            messages
        } else {
            0
        }
    }
}

fn failed(error: &io::Error) -> Heard {
    let (cause, detail) = io_cause(error);
    Heard::Ended(cause, detail)
}
